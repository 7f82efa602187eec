//! What can be typed. Parsing only: what it means is each command's.

mod boxes;
mod images;
mod runs;

pub(super) use boxes::{AnswersArg, BoxArgs, BoxCommand, BoxExecArgs, HoldArgs, OpenArgs};
pub(super) use images::{ImagesArgs, ImagesCommand};
pub(super) use runs::{RunsArgs, RunsCommand};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Runs machine-written ML code in a sandbox it cannot leave, under a policy, with a record.
#[derive(Debug, Parser)]
#[command(name = "fumehood", version, about, disable_help_subcommand = true)]
#[command(after_help = "\
Start with:
  fumehood demo                      an agent trains a model in front of you; needs no key, no engine
  fumehood exec -- python3 train.py  one command in a sandbox
  fumehood doctor                    what this machine can hold, and what is missing

State is kept in FUMEHOOD_HOME (default: $XDG_STATE_HOME/fumehood, ~/.local/state/fumehood).")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give an agent a task: it clones, writes code and runs it in the sandbox, asking as the policy says
    Run(RunArgs),
    /// Run one command in a sandbox
    Exec(ExecArgs),
    /// Keep a sandbox open: run commands in it, put files in, get files out, from scripts and other agents
    Box(BoxArgs),
    /// The process that keeps a sandbox open
    #[command(hide = true)]
    Hold(HoldArgs),
    /// Watch the whole job with a scripted model: no key, no engine, no image needed
    Demo(DemoArgs),
    /// Say how each control holds on this machine, found by trying, and what would mend it
    Doctor(DoctorArgs),
    /// Attack this machine's own sandboxes, and show what held
    Selftest(SelftestArgs),
    /// Make images, and look at those there are
    Images(ImagesArgs),
    /// Look at policies
    Policy(PolicyArgs),
    /// Look at the records of runs
    Runs(RunsArgs),
}

/// Where a sandbox comes from and what is in it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SandboxArgs {
    /// Policy: a built-in's name (`fumehood policy list`), a file, or a name in your policy folder
    #[arg(long, value_name = "NAME|FILE", default_value = "offline-train")]
    pub(super) policy: String,
    /// What isolates. auto: docker where an image is named that is not unpacked here, else namespace
    #[arg(long, value_enum)]
    pub(super) backend: Option<BackendArg>,
    /// Image: one of `fumehood images list`, or of the engine; it must be there already, nothing is pulled
    #[arg(long, value_name = "REF")]
    pub(super) image: Option<String>,
    /// Folder mounted read-write at /workspace, in place [default: a fresh one for this run]
    #[arg(long, value_name = "DIR")]
    pub(super) workspace: Option<PathBuf>,
    /// Fill the run's own workspace from an archive (.tar, .tar.gz): files and folders, no links
    #[arg(long, value_name = "FILE", conflicts_with = "workspace")]
    pub(super) unpack: Option<PathBuf>,
    /// A venv, uv or conda environment, mounted read-only with the interpreter it names
    #[arg(long, value_name = "PATH")]
    pub(super) venv: Option<PathBuf>,
    /// One more mount, read-only unless rw: src=PATH,dst=/data/NAME[,rw]; may be repeated
    #[arg(long = "mount", value_name = "SPEC")]
    pub(super) mounts: Vec<String>,
    /// A variable for the sandbox: NAME=VALUE, or NAME to pass yours on; may be repeated
    #[arg(long = "env", value_name = "K=V")]
    pub(super) env: Vec<String>,
    /// Copy results (the policy's artifacts.include) here at the end: an empty folder, or a new one
    #[arg(long, value_name = "DIR")]
    pub(super) artifacts: Option<PathBuf>,
    /// Change one value of the policy for this run, as in limits.memory=16GiB; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Do not start where the policy says something that is ignored
    #[arg(long)]
    pub(super) strict: bool,
    /// Answer yes to what lies inside the policy; what goes beyond it stays no
    #[arg(long)]
    pub(super) yes: bool,
}

impl SandboxArgs {
    /// As they would be typed again, without `--yes`: who answers is not the sandbox's matter.
    pub(super) fn retyped(&self) -> Vec<OsString> {
        let Self {
            policy,
            backend,
            image,
            workspace,
            unpack,
            venv,
            mounts,
            env,
            artifacts,
            set,
            strict,
            yes: _,
        } = self;
        let pair = |flag: &str, value: &OsStr| {
            let mut word = OsString::from(flag);
            word.push("=");
            word.push(value);
            word
        };
        let backend = backend.and_then(|backend| backend.to_possible_value());
        let one = [
            ("--policy", Some(OsStr::new(policy))),
            (
                "--backend",
                backend.as_ref().map(|word| OsStr::new(word.get_name())),
            ),
            ("--image", image.as_deref().map(OsStr::new)),
            ("--workspace", workspace.as_deref().map(Path::as_os_str)),
            ("--unpack", unpack.as_deref().map(Path::as_os_str)),
            ("--venv", venv.as_deref().map(Path::as_os_str)),
            ("--artifacts", artifacts.as_deref().map(Path::as_os_str)),
        ];
        let many = [("--mount", mounts), ("--env", env), ("--set", set)];
        let one = one
            .iter()
            .filter_map(|(flag, value)| Some(pair(flag, (*value)?)));
        let many = many
            .iter()
            .flat_map(|(flag, values)| values.iter().map(|value| pair(flag, OsStr::new(value))));
        let strict = strict.then(|| OsString::from("--strict"));
        one.chain(many).chain(strict).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendArg {
    Auto,
    Docker,
    Namespace,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 finished, 2 usage or policy file, 3 iteration cap, 4 budget or context full, \
5 doom loop, 6 denied, 7 model, 8 sandbox, 130 interrupted.

Models: ollama/NAME, vllm/NAME, llamacpp/NAME, lm_studio/NAME, openai/NAME. Addresses and keys come from \
OLLAMA_BASE_URL, OLLAMA_API_KEY and so on, else LOCAL_LLM_BASE_URL, LOCAL_LLM_API_KEY.")]
pub(super) struct RunArgs {
    /// The model: PROVIDER/NAME
    #[arg(long, value_name = "PROVIDER/NAME")]
    pub(super) model: String,
    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,
    /// Stop after so many answers of the model
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_turns: u32,
    /// Tokens of the model's window, where the server does not say
    #[arg(long, value_name = "TOKENS")]
    pub(super) window: Option<u64>,
    /// Events as JSON lines on standard output
    #[arg(long)]
    pub(super) json: bool,
    /// The task, in words
    #[arg(value_parser = task)]
    pub(super) task: String,
}

/// Not an empty one, as from a variable that is not set.
fn task(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("there is no task in it"),
        _ => Ok(text.to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: the program's own; 124 timed out, 125 Fumehood failed (usage and policy included), \
126 denied or not executable, 127 not found in the sandbox, 128+N killed by signal N.")]
pub(super) struct ExecArgs {
    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,
    /// Time limit, as in 90s, 30m, 2h; never above the policy's
    #[arg(long, value_name = "TIME")]
    pub(super) timeout: Option<String>,
    /// Folder inside the sandbox to start in [default: /workspace]
    #[arg(long, value_name = "PATH")]
    pub(super) cwd: Option<String>,
    /// Pass known secrets on too, into a pipe or a file: the program's very bytes
    #[arg(long)]
    pub(super) raw: bool,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// What isolates
    #[arg(long, value_enum)]
    pub(super) backend: Option<BackendArg>,
    /// Image for the docker backend; it needs python3
    #[arg(long, value_name = "REF")]
    pub(super) image: Option<String>,
    /// Answer the questions with yes
    #[arg(long)]
    pub(super) yes: bool,
    /// Events as JSON lines on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For a minute it lays out what is to be found: a file in /tmp, one in /dev/shm, sockets, and a port on all \
addresses that answers nothing. Attempts are made only inside sandboxes, under small limits, and each run \
is on record. How far they reach depends on who asks: try it as root and as yourself.

Exit codes: 0 all attempts held, 1 one escaped or could not be made, 8 nothing here can isolate.")]
pub(super) struct SelftestArgs {
    /// Image for the docker backend, which is attacked too then; it needs python3
    #[arg(long, value_name = "REF")]
    pub(super) image: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    pub(super) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// The built-in policies and yours
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// A policy's file, as written
    Show {
        /// A built-in's name or a file
        policy: String,
        /// Its effective values, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check files; every error at once, with line and remedy
    Check {
        /// A built-in's name or a file
        #[arg(required = true)]
        policies: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
    },
    /// Where each value comes from; with a command, what would be decided about it and why
    Explain {
        #[command(flatten)]
        layers: LayerArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// What comes after --: a command, or the URL of a clone
        #[arg(long, value_enum, default_value_t = ActionArg::Exec, requires = "command")]
        action: ActionArg,
        /// A command or a URL, after --
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Two policies side by side: what the second says looser or tighter. Exit code 1 where they differ
    Diff {
        /// A built-in's name or a file
        #[arg(value_name = "A")]
        from: String,
        /// A built-in's name or a file
        #[arg(value_name = "B")]
        to: String,
        /// Keys that are the same, too
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try each rule on its own examples (match, not_match), and print each
    Test {
        /// A built-in's name or a file
        #[arg(required = true)]
        policies: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The format of policies as JSON Schema, for editors
    Schema,
    /// Let a folder's own policy (.fumehood/policy.toml) count, as it is now; it can only take away
    Trust {
        /// The folder that is worked on [default: list what you accepted]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        /// The list as JSON
        #[arg(long, conflicts_with = "folder")]
        json: bool,
    },
    /// Let a folder's own policy count no longer
    Distrust {
        /// The folder that is worked on
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// What `policy explain` is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ActionArg {
    Exec,
    Clone,
}

/// A policy with what holds over it.
#[derive(Debug, Args)]
pub(super) struct LayerArgs {
    /// A built-in's name or a file
    #[arg(default_value = "offline-train")]
    pub(super) policy: String,
    /// With one value changed, as in limits.memory=16GiB
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// In this folder, whose own policy holds as well where you accepted it
    #[arg(long, value_name = "DIR")]
    pub(super) workspace: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        sandbox: SandboxArgs,
    }

    #[test]
    fn what_shapes_a_sandbox_is_typed_again_word_for_word() {
        let typed = [
            "x",
            "--policy=p",
            "--backend=docker",
            "--image=i",
            "--workspace=/w",
            "--venv=v",
            "--mount=src=/a,dst=/data/a",
            "--mount=src=/b,dst=/data/b",
            "--env=A=1 2",
            "--env=B",
            "--set=limits.pids=7",
            "--yes",
        ];
        let first = Typed::try_parse_from(typed).unwrap().sandbox;
        let words = std::iter::once(OsString::from("x")).chain(first.retyped());
        let second = Typed::try_parse_from(words).unwrap().sandbox;
        assert!(!second.yes);
        let yes = SandboxArgs {
            yes: true,
            ..second
        };
        assert_eq!(format!("{first:?}"), format!("{yes:?}"));
    }

    #[test]
    fn an_archive_is_typed_again_and_goes_into_no_folder_of_the_users() {
        let first = Typed::try_parse_from(["x", "--unpack=a.tar"])
            .unwrap()
            .sandbox;
        assert_eq!(
            first.retyped(),
            ["--policy=offline-train", "--unpack=a.tar"]
        );
        assert!(Typed::try_parse_from(["x", "--unpack=a.tar", "--workspace=w"]).is_err());
    }
}
