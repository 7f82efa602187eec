//! A record as a person reads it afterwards: one event in, its lines out. Pure.
//!
//! ```text
//!      0.012  allowed      exec, by you, who typed it
//!      0.031  step 1       python3 train.py
//!      4.210  ✓ ended      exit code 0, 4.2 s, 3 files changed
//! ```
//!
//! What the record holds was written by us, and may have been changed since: every text is made visible.

use crate::context::sanitise::{visible, visible_lines};
use crate::protocol::device::{Gpu, GpuSample};
use crate::protocol::event::{Approver, Event};
use crate::protocol::outcome::Exit;
use crate::protocol::stop::StopReason;
use anstyle::{AnsiColor, Color, Style};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = colour(AnsiColor::Green);
const RED: Style = colour(AnsiColor::Red);
const YELLOW: Style = colour(AnsiColor::Yellow);

/// Lines of a text that are shown here; all of it is in `--json`.
const SHOWN: usize = 12;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// What stands in the second column, and what after it.
struct Said {
    style: Style,
    what: String,
    text: String,
}

fn said(style: Style, what: impl Into<String>, text: impl Into<String>) -> Option<Said> {
    Some(Said {
        style,
        what: what.into(),
        text: text.into(),
    })
}

/// The lines of one record; `seconds` since the run began.
pub(super) fn lines(seconds: f64, event: &Event) -> String {
    let Some(Said { style, what, text }) = describe(event) else {
        return String::new();
    };
    let what = format!("{what:<12}");
    let text = folded(&text);
    let mut rest = text.lines();
    let first = rest.next().unwrap_or_default();
    let mut out = format!("{DIM}{seconds:>9.3}{DIM:#}  {style}{what}{style:#} {first}\n");
    for line in rest {
        out.push_str(&format!("{:24}{line}\n", ""));
    }
    out
}

fn describe(event: &Event) -> Option<Said> {
    match event {
        // The head of the page, and pieces that are not in a record.
        Event::RunStarted { .. }
        | Event::TextDelta { .. }
        | Event::Output { .. }
        | Event::CloneProgress { .. } => None,
        Event::UserInput { text } => said(BOLD, "user", visible_lines(text)),
        Event::ModelAnswered { text, .. } if text.trim().is_empty() => None,
        Event::ModelAnswered { text, .. } => said(BOLD, "model", visible_lines(text.trim())),
        Event::ToolCalled {
            name, arguments, ..
        } => said(
            Style::new(),
            format!("▸ {}", visible(name)),
            visible(&cut(arguments)),
        ),
        Event::ToolAnswered { ok, text, .. } => answered(*ok, text),
        Event::Asked { summary, rule, .. } => said(
            YELLOW,
            "asked",
            format!("{} ({})", visible(summary), visible(rule)),
        ),
        Event::Decided {
            action,
            allowed,
            approver,
            why,
            ..
        } => decided(action, *allowed, approver, why),
        Event::GpusSampled { gpus, .. } => sampled(gpus),
        Event::Alarm { alarm, .. } => said(YELLOW, "noticed", visible(&alarm.to_string())),
        Event::SandboxStarted {
            backend,
            image,
            gpus,
            ..
        } => sandbox_up(&format!("{backend}"), image.as_deref(), gpus),
        Event::SandboxEnded { .. } => said(DIM, "sandbox down", ""),
        Event::StepStarted { step, argv, .. } => {
            said(BOLD, format!("step {step}"), visible(&argv.join(" ")))
        }
        Event::StepEnded {
            exit,
            log_dropped,
            changed,
            ..
        } => step_ended(exit, *log_dropped, changed),
        Event::StepNotStarted { why, .. } => said(RED, "✗ not started", visible(why)),
        Event::CloneStarted { url, rev } => clone_started(url, rev.as_deref()),
        Event::CloneEnded { .. } => clone_ended(event),
        Event::FilePut { .. }
        | Event::FileGot { .. }
        | Event::ArtifactsCollected { .. }
        | Event::Quarantined { .. }
        | Event::SecretsGiven { .. } => files(event),
        Event::NetworkBlocked { why, .. } => said(YELLOW, "blocked", visible(why)),
        Event::NetworkOpened { .. } | Event::NetworkClosed { .. } => network(event),
        Event::Notice { text } => said(DIM, "notice", visible_lines(text)),
        Event::RunEnded { stop, text, .. } => ended(stop, text),
    }
}

fn answered(ok: bool, text: &str) -> Option<Said> {
    let (style, mark) = mark(ok);
    said(style, format!("{mark} answer"), visible_lines(text))
}

fn sandbox_up(backend: &str, image: Option<&str>, gpus: &[Gpu]) -> Option<Said> {
    let image = image.map(|image| format!(", {image}")).unwrap_or_default();
    let gpus: String = gpus.iter().map(|gpu| format!("\n{gpu}")).collect();
    said(
        DIM,
        "sandbox up",
        visible_lines(&format!("{backend}{image}{gpus}")),
    )
}

fn sampled(gpus: &[GpuSample]) -> Option<Said> {
    let gpus: Vec<String> = gpus.iter().map(ToString::to_string).collect();
    said(DIM, "gpus", gpus.join("\n"))
}

fn moved(verb: &str, path: &str, bytes: u64) -> Option<Said> {
    said(BOLD, verb, format!("{}, {bytes} bytes", visible(path)))
}

fn network(event: &Event) -> Option<Said> {
    match event {
        Event::NetworkOpened {
            connection,
            host,
            port,
            method,
        } => {
            let method = method
                .as_ref()
                .map(|method| format!("{} ", visible(method)));
            let at = crate::policy::network::joined(&visible(host), *port);
            let method = method.unwrap_or_default();
            said(DIM, format!("out {connection}"), format!("{method}{at}"))
        }
        Event::NetworkClosed {
            connection,
            sent,
            received,
            why,
            ..
        } => {
            let why = match why.is_empty() {
                true => String::new(),
                false => format!(", {}", visible(why)),
            };
            let text = format!("{sent} bytes sent, {received} received{why}");
            said(DIM, format!("out {connection} end"), text)
        }
        _ => None,
    }
}

fn clone_started(url: &str, rev: Option<&str>) -> Option<Said> {
    let rev = rev.map(|rev| format!(" at {rev}"));
    let text = visible(&format!("{url}{}", rev.unwrap_or_default()));
    said(BOLD, "clone", text)
}

fn clone_ended(event: &Event) -> Option<Said> {
    let Event::CloneEnded {
        commit,
        files,
        bytes,
        notes,
        ..
    } = event
    else {
        return None;
    };
    let mut text = format!("{files} files, {bytes} bytes, commit {}", visible(commit));
    for note in notes {
        text.push('\n');
        text.push_str(&visible(note));
    }
    said(GREEN, "✓ cloned", text)
}

fn mark(ok: bool) -> (Style, &'static str) {
    match ok {
        true => (GREEN, "✓"),
        false => (RED, "✗"),
    }
}

fn decided(action: &str, allowed: bool, approver: &Approver, why: &str) -> Option<Said> {
    let action = visible(action);
    let by = match approver {
        Approver::Policy { rule } => format!("by the policy ({})", visible(rule)),
        Approver::Person => "by a person".to_owned(),
        Approver::YesFlag => "by --yes".to_owned(),
        Approver::Remembered => "by an earlier yes to these very bytes".to_owned(),
        Approver::Typed => "typed by the user".to_owned(),
        // The reason says it.
        Approver::NoTerminal => return said(RED, "denied", format!("{action}: {}", visible(why))),
    };
    match (allowed, why) {
        (true, _) => said(GREEN, "allowed", format!("{action}, {by}")),
        (false, "") => said(RED, "denied", format!("{action}, {by}")),
        (false, why) => said(RED, "denied", format!("{action}, {by}: {}", visible(why))),
    }
}

fn step_ended(exit: &Exit, log_dropped: u64, changed: &[String]) -> Option<Said> {
    let (style, mark) = mark(exit.outcome.is_success());
    let seconds = exit.usage.wall_ms as f64 / 1000.0;
    let mut text = format!(
        "{}, {seconds:.1} s, {} MiB at most",
        exit.outcome,
        exit.usage.max_rss >> 20
    );
    for gpu in &exit.usage.gpus {
        text.push_str(&format!("\n{gpu}"));
    }
    if exit.usage.leftovers > 0 {
        text.push_str(&format!(
            ", {} processes left behind were ended",
            exit.usage.leftovers
        ));
    }
    if log_dropped > 0 {
        text.push_str(&format!(", {log_dropped} bytes of output not kept"));
    }
    for reached in &exit.reached {
        text.push_str(&format!("\nlimit: {}", visible(&reached.text)));
    }
    match changed {
        [] => {}
        [one] => text.push_str(&format!("\nchanged: {}", visible(one))),
        [first, rest @ ..] => text.push_str(&format!(
            "\nchanged: {} and {} more",
            visible(first),
            rest.len()
        )),
    }
    said(style, format!("{mark} ended"), text)
}

fn ended(stop: &StopReason, text: &str) -> Option<Said> {
    let style = match stop {
        StopReason::Finished => GREEN,
        _ => RED,
    };
    let mut words = stop_words(stop);
    if !text.trim().is_empty() {
        words.push('\n');
        words.push_str(&visible_lines(text.trim()));
    }
    said(style, "end", words)
}

/// Why a run ended, in words.
pub(super) fn stop_words(stop: &StopReason) -> String {
    match stop {
        StopReason::Finished => "finished".to_owned(),
        StopReason::IterationCap { turns } => format!("stopped after {turns} turns"),
        StopReason::ContextFull { .. } => "the conversation no longer fits the model".to_owned(),
        StopReason::DoomLoop { .. } => "the model went in circles".to_owned(),
        StopReason::Denied { why } => format!("denied: {}", visible(why)),
        StopReason::Model { error } => format!("the model failed: {}", visible(error)),
        StopReason::Sandbox { error } => format!("the sandbox failed: {}", visible(error)),
        StopReason::Interrupted => "interrupted".to_owned(),
    }
}

/// Some lines of a long text, and how many more there are.
fn folded(text: &str) -> String {
    let count = text.lines().count();
    let mut lines: Vec<&str> = text.lines().take(SHOWN).collect();
    let more = format!("… {} more lines", count.saturating_sub(SHOWN));
    if count > SHOWN {
        lines.push(&more);
    }
    lines.join("\n")
}

fn cut(text: &str) -> String {
    const COLUMNS: usize = 160;
    let shown: String = text.chars().take(COLUMNS).collect();
    match text.chars().count() - shown.chars().count() {
        0 => shown,
        more => format!("{shown} (+{more} characters)"),
    }
}

/// What went in or out on the user's word.
fn files(event: &Event) -> Option<Said> {
    match event {
        Event::FilePut { path, bytes, .. } => moved("put", path, *bytes),
        Event::FileGot { path, bytes, .. } => moved("get", path, *bytes),
        Event::SecretsGiven { names } => said(YELLOW, "secrets", visible(&names.join(", "))),
        Event::Quarantined { paths } => {
            let paths: Vec<String> = paths.iter().map(|path| visible(path)).collect();
            said(YELLOW, "moved out", paths.join("\n"))
        }
        _ => said(GREEN, "results", collected(event).join("\n")),
    }
}

/// Where results went, and what was not taken.
pub(super) fn collected(event: &Event) -> Vec<String> {
    let Event::ArtifactsCollected {
        into,
        files,
        bytes,
        left,
    } = event
    else {
        return Vec::new();
    };
    let count = match files.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let size = crate::policy::unit::size(*bytes);
    let mut lines = vec![format!("{count}, {size}, copied into {}", visible(into))];
    lines.extend(
        left.iter()
            .map(|one| format!("not taken: {}", visible(one))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::StepNumber;
    use crate::protocol::limit::{Evidence, Limit, Reached};
    use crate::protocol::outcome::{Outcome, Usage};

    fn plain(event: &Event) -> String {
        anstream::adapter::strip_str(&lines(1.5, event)).to_string()
    }

    #[test]
    fn a_step_and_its_end_are_one_line_each() {
        let started = Event::StepStarted {
            step: StepNumber(1),
            argv: vec!["python3".into(), "train.py".into()],
            cwd: "/workspace".into(),
            digest: crate::protocol::ids::Digest::new("d"),
        };
        assert_eq!(
            plain(&started),
            "    1.500  step 1       python3 train.py\n"
        );
        let ended = Event::StepEnded {
            step: StepNumber(1),
            exit: Exit {
                outcome: Outcome::OutOfMemory,
                usage: Usage {
                    wall_ms: 4200,
                    max_rss: 3 << 20,
                    ..Usage::default()
                },
                reached: vec![Reached {
                    limit: Limit::Memory,
                    evidence: Evidence::Seen,
                    text: "limits.memory = 4MiB: a\u{1b}[2Jb".into(),
                }],
                alarms: Vec::new(),
            },
            log: String::new(),
            log_dropped: 0,
            changed: vec!["a".into(), "b".into()],
        };
        assert_eq!(
            plain(&ended),
            "    1.500  ✗ ended      killed: out of memory, 4.2 s, 3 MiB at most\n\
             \x20                       limit: limits.memory = 4MiB: a\\u{1b}[2Jb\n\
             \x20                       changed: a and 1 more\n"
        );
    }

    #[test]
    fn escapes_in_a_record_do_not_reach_the_terminal() {
        for event in [
            Event::Notice {
                text: "a\u{1b}[2Jb\r\u{202e}c".into(),
            },
            Event::StepStarted {
                step: StepNumber(1),
                argv: vec!["a\u{1b}]52;c;x\u{7}\nb".into()],
                cwd: String::new(),
                digest: crate::protocol::ids::Digest::new("d"),
            },
            Event::Quarantined {
                paths: vec!["\u{9b}31m".into()],
            },
        ] {
            let text = plain(&event);
            let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(bad), "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_folded_and_says_by_how_much() {
        let text = "line\n".repeat(40);
        let shown = plain(&Event::Notice { text });
        assert_eq!(shown.lines().count(), SHOWN + 1);
        assert!(shown.ends_with("… 28 more lines\n"), "{shown}");
    }
}
