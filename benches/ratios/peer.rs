//! Who is measured beside us: an engine through its API and through its command, and bubblewrap.

use super::host;
use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tokio::io::AsyncReadExt;

/// The image that `sandbox-images/base` makes.
const IMAGE: &str = "fumehood-test:base";

/// The same read size as ours, below yamux.
const READ: usize = 64 * 1024;

/// An engine, with a container of the test image that sleeps.
pub(super) struct Engine {
    docker: Docker,
    pub(super) host: String,
    pub(super) image: &'static str,
    container: String,
    version: String,
    /// The `docker` command, where it is there.
    cli: Option<PathBuf>,
}

impl Engine {
    /// `None`, with a word, where no engine answers at `DOCKER_HOST` or the image is not there.
    pub(super) async fn find() -> Option<Self> {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty())?;
        match Self::start(host).await {
            Ok(engine) => Some(engine),
            Err(error) => {
                eprintln!("no engine: {error:#}");
                None
            }
        }
    }

    async fn start(host: String) -> Result<Self> {
        let docker = Docker::connect_with_host(&host)?
            .negotiate_version()
            .await?;
        let version = docker.version().await?.version.unwrap_or_default();
        let name = format!("fumehood-bench-{}", std::process::id());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(vec!["sleep".to_owned(), "3600".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                init: Some(true),
                auto_remove: Some(true),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        docker.create_container(Some(options), body).await?;
        docker.start_container(&name, None).await?;
        Ok(Self {
            docker,
            host,
            image: IMAGE,
            container: name,
            version,
            cli: host::program("docker"),
        })
    }

    pub(super) fn describe(&self) -> String {
        let cli = match &self.cli {
            Some(path) => path.display().to_string(),
            None => "no docker command: its lines are left out".to_owned(),
        };
        format!(
            "{} at {}, image {}; {cli}",
            self.version, self.host, self.image
        )
    }

    /// Runs it as a library would: exec created, attached, read to its end, its exit code fetched.
    /// Gives the bytes of its output.
    pub(super) async fn exec(&self, argv: &[&str]) -> Result<u64> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(|&word| word.to_owned()).collect()),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(&self.container, config).await?;
        let options = StartExecOptions {
            output_capacity: Some(READ),
            ..StartExecOptions::default()
        };
        let started = self.docker.start_exec(&exec.id, Some(options)).await?;
        let StartExecResults::Attached { mut output, .. } = started else {
            bail!("the exec is not attached");
        };
        let mut bytes = 0;
        while let Some(piece) = output.next().await {
            bytes += piece?.into_bytes().len() as u64;
        }
        let found = self.docker.inspect_exec(&exec.id).await?;
        match found.exit_code {
            Some(0) => Ok(bytes),
            other => bail!("{argv:?} in the container: {other:?}"),
        }
    }

    /// `docker exec CONTAINER …`, where the command is there.
    pub(super) fn cli_exec(&self, argv: &[&str]) -> Option<Command> {
        self.cli(&["exec", &self.container], argv)
    }

    /// `docker run --rm --network none IMAGE …`, where the command is there.
    pub(super) fn cli_run(&self, argv: &[&str]) -> Option<Command> {
        self.cli(&["run", "--rm", "--network", "none", self.image], argv)
    }

    fn cli(&self, first: &[&str], argv: &[&str]) -> Option<Command> {
        let mut command = Command::new(self.cli.as_ref()?);
        command
            .args(first)
            .args(argv)
            .env("DOCKER_HOST", &self.host);
        Some(command)
    }

    pub(super) async fn end(self) {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        if let Err(error) = self
            .docker
            .remove_container(&self.container, Some(options))
            .await
        {
            eprintln!("container {} is left: {error}", self.container);
        }
    }
}

/// Bubblewrap around the host's own system, where it is there.
pub(super) fn bwrap(argv: &[&str]) -> Option<Command> {
    let mut command = Command::new(host::program("bwrap")?);
    let root = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"];
    command
        .args(root)
        .args(["--proc", "/proc", "--dev", "/dev", "--"])
        .args(argv);
    Some(command)
}

/// Runs a command that must succeed, with its output through a pipe. Gives the bytes that came.
pub(super) async fn finish(command: Command) -> Result<u64> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("failed to start {shown}"))?;
    let mut from = child.stdout.take().context("stdout is piped")?;
    let mut piece = vec![0; READ];
    let mut bytes = 0;
    loop {
        match from.read(&mut piece).await? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    let ended = child.wait_with_output().await?;
    match ended.status.success() {
        true => Ok(bytes),
        false => bail!(
            "{shown}: {}: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        ),
    }
}
