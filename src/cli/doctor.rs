//! `fumehood doctor`: what this machine can hold, found by trying, and what would mend each gap.

use super::args::DoctorArgs;
use super::failure::{self, Failure};
use super::request::app_failure;
use crate::app;
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::unit;
use crate::protocol::control::{Control, Controls, Strength};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::docker::DockerReport;
use crate::sandbox::finding::Finding;
use crate::sandbox::gpu::{Card, GpuError};
use crate::sandbox::namespace::NamespaceReport;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    /// Where state is kept.
    state: String,
    namespace: NamespaceReport,
    docker: Engine,
    gpus: Gpus,
    /// How the size of a workspace is held, on every backend.
    workspace: &'static str,
}

/// Its bytes and files are counted while steps run; no quota of a file system is used.
const WATCHED: &str = "watched";

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "gpus")]
enum Gpus {
    Found {
        /// Of the kernel driver.
        driver: Option<String>,
        /// A CDI file, or the driver itself.
        origin: String,
        cards: Vec<Card>,
        findings: Vec<Finding>,
    },
    None {
        why: String,
        remedy: String,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "engine")]
enum Engine {
    Answers {
        report: Box<DockerReport>,
        controls: Controls,
    },
    Silent {
        why: String,
        remedy: Option<String>,
    },
}

/// Prints the report. 0 when something can isolate here, 8 when nothing can.
pub(super) async fn doctor(config: &Config, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let found = app::examine(config)
        .await
        .map_err(|error| app_failure(&error, failure::SANDBOX))?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        state: config.state.display().to_string(),
        workspace: WATCHED,
        namespace: found.namespace,
        gpus: match found.gpus {
            Ok((found, obstacle)) => Gpus::Found {
                findings: obstacle.iter().map(in_the_way).collect(),
                driver: found.driver,
                origin: found.origin,
                cards: found.cards,
            },
            Err(error) => Gpus::None {
                remedy: error.remedy(),
                why: match error {
                    GpuError::None { why } => why,
                    error => error.to_string(),
                },
            },
        },
        docker: match found.docker {
            Ok((report, controls)) => Engine::Answers {
                report: Box::new(report),
                controls,
            },
            Err(error) => Engine::Silent {
                why: match &error {
                    // That it is not usable is said already.
                    SandboxError::Unavailable { why, .. } => why.clone(),
                    error => error.to_string(),
                },
                remedy: error.remedy().map(str::to_owned),
            },
        },
    };
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::of(&error, failure::SANDBOX))?,
        false => render(&report),
    };
    super::print(&text)?;
    let isolates = report.namespace.usable || matches!(report.docker, Engine::Answers { .. });
    Ok(ExitCode::from(if isolates { 0 } else { failure::SANDBOX }))
}

const BOLD: Style = Style::new().bold();
const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const YELLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const RED: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const CYAN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

fn render(report: &Report) -> String {
    let mut out = format!(
        "{BOLD}fumehood {}{BOLD:#}, state in {}\n\n",
        report.version, report.state
    );
    let namespace = &report.namespace;
    let state = match (&namespace.why, namespace.usable) {
        (None, _) | (_, true) => format!("{GREEN}usable{GREEN:#}"),
        (Some(why), false) => format!("{RED}not usable{RED:#}: {why}"),
    };
    // Writing to a string does not fail.
    let _ = writeln!(out, "{BOLD}namespace{BOLD:#}  {state}");
    let _ = writeln!(out, "  kernel {}", namespace.kernel);
    if let Some(container) = &namespace.container {
        let _ = writeln!(out, "  inside {container}");
    }
    if let Some(level) = namespace.landlock {
        let _ = writeln!(out, "  Landlock level {level}");
    }
    if !namespace.cgroups.is_empty() {
        let _ = writeln!(out, "  cgroups: {}", namespace.cgroups);
    }
    findings(&mut out, &namespace.findings);
    if let Some(profile) = &namespace.apparmor_profile {
        let _ = writeln!(out, "\n{profile}");
    }
    out.push('\n');
    engine(&mut out, &report.docker);
    out.push('\n');
    gpus(&mut out, &report.gpus);
    out.push('\n');
    let _ = writeln!(
        out,
        "{BOLD}workspace{BOLD:#}  {YELLOW}{}{YELLOW:#}: its bytes and files are counted while steps run, and over the limit all are killed; no quota of the file system is used",
        report.workspace
    );
    out.push('\n');
    let docker = match &report.docker {
        Engine::Answers { controls, .. } => Some(controls),
        Engine::Silent { .. } => None,
    };
    table(&mut out, &namespace.controls, docker);
    out
}

fn engine(out: &mut String, engine: &Engine) {
    match engine {
        Engine::Silent { why, remedy } => {
            let _ = writeln!(
                out,
                "{BOLD}docker{BOLD:#}     {YELLOW}not usable{YELLOW:#}: {why}"
            );
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "  {CYAN}help{CYAN:#}: {remedy}");
            }
        }
        Engine::Answers { report, .. } => {
            let _ = writeln!(out, "{BOLD}docker{BOLD:#}     {GREEN}usable{GREEN:#}");
            let _ = writeln!(
                out,
                "  engine {} (API {}), {}, runtime {} {}",
                report.version, report.api, report.system, report.runtime, report.runc_version
            );
            let _ = writeln!(
                out,
                "  cgroups: {}, storage: {}",
                report.cgroups, report.storage_driver
            );
            findings(out, &report.warnings);
        }
    }
}

fn in_the_way(error: &GpuError) -> Finding {
    Finding {
        what: format!(
            "a sandbox cannot have them yet: {}",
            visible(&error.to_string())
        ),
        remedy: error.remedy(),
    }
}

/// Having none is nothing to mend, unless a policy asks for one.
fn gpus(out: &mut String, gpus: &Gpus) {
    match gpus {
        Gpus::None { why, remedy } => {
            let _ = writeln!(out, "{BOLD}gpus{BOLD:#}       none: {}", visible(why));
            let _ = writeln!(out, "  {CYAN}help{CYAN:#}: {remedy}");
        }
        Gpus::Found {
            driver,
            origin,
            cards,
            findings: in_the_way,
        } => {
            let driver = driver.as_deref().unwrap_or("of unknown version");
            let _ = writeln!(
                out,
                "{BOLD}gpus{BOLD:#}       driver {}, from {}",
                visible(driver),
                visible(origin)
            );
            for card in cards {
                let memory = match card.memory {
                    Some(bytes) => format!(", {}", unit::size(bytes)),
                    None => String::new(),
                };
                let _ = writeln!(out, "  {}{memory}", visible(&card.gpu.to_string()));
            }
            findings(out, in_the_way);
        }
    }
}

fn findings(out: &mut String, findings: &[Finding]) {
    for finding in findings {
        let _ = writeln!(out, "  {YELLOW}!{YELLOW:#} {}", finding.what);
        let _ = writeln!(out, "    {CYAN}help{CYAN:#}: {}", finding.remedy);
    }
}

/// One line for each control, a word for each backend.
fn table(out: &mut String, namespace: &Controls, docker: Option<&Controls>) {
    let _ = writeln!(
        out,
        "{BOLD}{:18} {:10} {:10}{BOLD:#}",
        "control", "namespace", "docker"
    );
    for control in Control::ALL {
        let first = cell(namespace.get(control).copied());
        let second = cell(docker.and_then(|docker| docker.get(control).copied()));
        let _ = writeln!(
            out,
            "{:18} {first} {second} {}",
            control.name(),
            control.describe()
        );
    }
}

fn cell(strength: Option<Strength>) -> String {
    match strength {
        None => format!("{:10}", "-"),
        Some(word) => {
            let style = match word {
                Strength::Enforced => GREEN,
                Strength::Watched => YELLOW,
                Strength::Absent => RED,
            };
            format!("{style}{:10}{style:#}", word.to_string())
        }
    }
}
