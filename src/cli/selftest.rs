//! `fumehood selftest`: the attacks, made on this machine, and a table of what held.

use super::args::SelftestArgs;
use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::request::app_failure;
use super::{policy, signals};
use crate::app::selftest::attempts::Subject;
use crate::app::selftest::decoys::Decoys;
use crate::app::selftest::{Attacked, Target, Tried, Verdict, attack};
use crate::config::Config;
use crate::policy::model::BackendChoice;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

/// What an agent gets while it develops; what is typed needs no answer under it.
const POLICY: &str = "dev-loop";

/// Something was done that no sandbox may let be done, or could not be told.
const ESCAPED: u8 = 1;

const BOLD: Style = Style::new().bold();
const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const YELLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const RED: Style = Style::new()
    .bold()
    .fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
const CYAN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

/// Of all that was attacked.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    /// Who started it: an ordinary user's sandboxes are made otherwise than root's.
    uid: u32,
    namespace: Attacked,
    docker: Attacked,
}

impl Report {
    fn columns(&self) -> [(&'static str, &Attacked); 2] {
        [("namespace", &self.namespace), ("docker", &self.docker)]
    }

    /// 0 when all held, 1 when something did not, 8 when there was nothing to attack.
    fn code(&self) -> u8 {
        let all: Vec<&Tried> = self
            .columns()
            .iter()
            .flat_map(|(_, attacked)| attacked.tried())
            .collect();
        let held = |each: &&Tried| matches!(each.verdict, Verdict::Held { .. });
        match (all.is_empty(), all.iter().all(held)) {
            (true, _) => failure::SANDBOX,
            (false, true) => 0,
            (false, false) => ESCAPED,
        }
    }
}

/// Attacks each backend that is there, prints what came of it.
pub(super) async fn selftest(config: &Config, args: SelftestArgs) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let decoys = Decoys::lay_out(&config.user_home).map_err(|error| {
        Failure::new("failed to lay out what is to be attacked", failure::SANDBOX).because(&error)
    })?;
    let policy = policy::effective(config, &policy::Chosen::named(POLICY))?
        .loaded
        .policy;
    let target = |backend, image| Target {
        config,
        policy: policy.clone(),
        backend,
        image,
        door: Arc::new(TerminalDoor::new(Show::Nothing, Answers::Nobody)),
        cancel: cancel.clone(),
    };
    let alone = target(BackendChoice::Namespace, None);
    let namespace = attempt("namespace", &alone, &decoys).await?;
    let docker = match &args.image {
        Some(image) => {
            let target = target(BackendChoice::Docker, Some(image.as_str()));
            attempt("docker", &target, &decoys).await?
        }
        None => Attacked::NotApplicable {
            why: "no image was named".to_owned(),
            remedy: Some("`fumehood selftest --image REF`; the image needs python3".to_owned()),
        },
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        uid: nix::unistd::geteuid().as_raw(),
        namespace,
        docker,
    };
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::of(&error, failure::SANDBOX))?,
        false => render(&report),
    };
    super::print(&text)?;
    Ok(ExitCode::from(report.code()))
}

async fn attempt(backend: &str, target: &Target<'_>, decoys: &Decoys) -> Result<Attacked, Failure> {
    let terminal = std::io::stderr().is_terminal();
    let line = |text: &str| {
        if terminal {
            eprint_over(text);
        }
    };
    let done = attack(target, decoys, &mut |name| {
        line(&format!("{backend}: {}", words(name)));
    })
    .await;
    line("");
    done.map_err(|error| app_failure(&error, failure::SANDBOX))
}

/// One line that is written over and over.
fn eprint_over(text: &str) {
    use std::io::Write;
    let mut out = anstream::stderr().lock();
    // A closed standard error takes nothing, and nothing can be done about it.
    let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn render(report: &Report) -> String {
    let mut out = format!(
        "{BOLD}fumehood {}{BOLD:#}, attacked as {}\n\n",
        report.version,
        match report.uid {
            0 => "root".to_owned(),
            uid => format!("an ordinary user (uid {uid})"),
        }
    );
    table(&mut out, report);
    for (backend, attacked) in report.columns() {
        summary(&mut out, backend, attacked);
    }
    out
}

/// One line for each attempt, a column for each backend. Writing to a string does not fail.
fn table(out: &mut String, report: &Report) {
    let columns = report.columns();
    let Some((_, all)) = columns.iter().find(|(_, each)| !each.tried().is_empty()) else {
        return;
    };
    let _ = writeln!(
        out,
        "{BOLD}{:44} {:14} {:14}{BOLD:#}",
        "attempt", "namespace", "docker"
    );
    let mut subject: Option<Subject> = None;
    for each in all.tried() {
        if subject != Some(each.subject) {
            subject = Some(each.subject);
            let _ = writeln!(out, "{}", each.subject);
        }
        let cells = columns.map(|(_, attacked)| cell(attacked, each.name));
        let _ = writeln!(out, "  {:42} {} {}", words(each.name), cells[0], cells[1]);
    }
    out.push('\n');
}

fn cell(attacked: &Attacked, name: &str) -> String {
    let (style, word) = match attacked.tried().iter().find(|each| each.name == name) {
        None => (Style::new(), "-".to_owned()),
        Some(each) => match &each.verdict {
            Verdict::Held { tried } => (GREEN, format!("held ({tried})")),
            Verdict::Escaped { .. } => (RED, "ESCAPED".to_owned()),
            Verdict::Failed { .. } => (YELLOW, "failed".to_owned()),
        },
    };
    format!("{style}{word:14}{style:#}")
}

fn summary(out: &mut String, backend: &str, attacked: &Attacked) {
    let tried = match attacked {
        Attacked::Ran { tried, .. } => tried,
        Attacked::NotApplicable { why, remedy } => {
            let _ = writeln!(out, "{BOLD}{backend:10}{BOLD:#} not attacked: {why}");
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "  {CYAN}help{CYAN:#}: {remedy}");
            }
            return;
        }
    };
    let held = tried
        .iter()
        .filter(|each| matches!(each.verdict, Verdict::Held { .. }));
    let _ = writeln!(
        out,
        "{BOLD}{backend:10}{BOLD:#} {} of {} attempts held",
        held.count(),
        tried.len()
    );
    for each in tried {
        hole(out, each);
    }
}

fn hole(out: &mut String, each: &Tried) {
    let name = words(each.name);
    let (what, help) = match &each.verdict {
        Verdict::Held { .. } => return,
        Verdict::Escaped { done } => (
            format!("{RED}ESCAPED{RED:#} {name}: {}", done.join("; ")),
            format!(
                "run nothing you do not trust on it here. What should have held: {}; `fumehood doctor` says how it stands",
                each.subject.holds()
            ),
        ),
        Verdict::Failed { why } => (
            format!("{YELLOW}failed{YELLOW:#} {name}: {why}"),
            "it says nothing about the sandbox: mend what it names and try again".to_owned(),
        ),
    };
    let _ = writeln!(out, "  {what}\n    {CYAN}help{CYAN:#}: {help}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report {
            version: "0",
            uid: 1000,
            namespace: Attacked::Ran {
                runs: Vec::new(),
                tried: vec![
                    Tried {
                        subject: Subject::Kernel,
                        name: "mounts",
                        verdict: Verdict::Held { tried: 9 },
                    },
                    Tried {
                        subject: Subject::Kernel,
                        name: "bpf",
                        verdict,
                    },
                ],
            },
            docker: Attacked::NotApplicable {
                why: "no engine".to_owned(),
                remedy: Some("start one".to_owned()),
            },
        }
    }

    #[test]
    fn one_escape_is_the_exit_code_and_is_named_with_a_remedy() {
        let report = report(Verdict::Escaped {
            done: vec!["load a program".to_owned()],
        });
        assert_eq!(report.code(), 1);
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(text.contains("ESCAPED bpf: load a program"), "{text}");
        assert!(
            text.contains("What should have held: seccomp filter"),
            "{text}"
        );
        assert!(text.contains("1 of 2 attempts held"), "{text}");
    }

    #[test]
    fn an_attempt_that_broke_is_not_passed_over() {
        let report = report(Verdict::Failed {
            why: "no python3".to_owned(),
        });
        assert_eq!(report.code(), 1);
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(text.contains("failed bpf: no python3"), "{text}");
    }

    #[test]
    fn all_held_is_zero_and_nothing_attacked_is_not() {
        let mut report = report(Verdict::Held { tried: 3 });
        assert_eq!(report.code(), 0);
        report.namespace = Attacked::NotApplicable {
            why: "no user namespaces".to_owned(),
            remedy: None,
        };
        assert_eq!(report.code(), failure::SANDBOX);
        let text = anstream::adapter::strip_str(&render(&report)).to_string();
        assert!(text.contains("not attacked: no engine"), "{text}");
        assert!(text.contains("help: start one"), "{text}");
    }
}
