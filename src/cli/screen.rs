//! What a run looks like on a terminal: one event in, the lines it adds out. Pure; nothing is printed.
//!
//! ```text
//!   ● the model's words, as they stream
//!     ▸ tool        what it is called with
//!     │ output of the program, live
//!     ✓ ✗           how it ended
//! ```
//!
//! A line that comes from a program always starts with `│`, so nothing it prints can look like
//! Fumehood's own words.

mod call;

use crate::protocol::event::{Approver, ClonePhase, Event};
use crate::protocol::outcome::{Exit, Outcome};
use crate::protocol::stop::StopReason;
use anstyle::{AnsiColor, Style};
use call::{call, cut};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = colour(AnsiColor::Green);
const RED: Style = colour(AnsiColor::Red);
const YELLOW: Style = colour(AnsiColor::Yellow);
const CYAN: Style = colour(AnsiColor::Cyan);

/// Lines of a tool's answer shown before it is folded.
const SHOWN: usize = 4;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
}

/// What the screen remembers between events.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// Something was written since the last line end.
    open: Open,
    /// How the last call's outcome is seen.
    shown: Shown,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// By its answer.
    #[default]
    Answer,
    /// By its output as it came, and by how it ended: the answer would only repeat it.
    Live,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    /// The model's words.
    Words,
    /// A program's output, within a line.
    Output,
    /// A line of ours, so many columns wide, that the next thing takes the place of.
    Live(usize),
}

impl Screen {
    /// The text that `event` adds, styled with ANSI sequences of our own only.
    pub(super) fn render(&mut self, event: &Event) -> String {
        match event {
            Event::TextDelta { text } => self.words(text),
            Event::Output { text, .. } => self.output(text),
            Event::CloneProgress {
                phase,
                done,
                total,
                bytes,
            } => self.live(&progress(*phase, (*done, *total), *bytes)),
            other => {
                let lines = self.lines(other);
                match lines.is_empty() {
                    true => String::new(),
                    false => format!("{}{}\n", self.close(), lines.join("\n")),
                }
            }
        }
    }

    fn close(&mut self) -> String {
        match std::mem::take(&mut self.open) {
            Open::Nothing => String::new(),
            Open::Words | Open::Output => "\n".to_owned(),
            Open::Live(width) => blanked(width),
        }
    }

    /// A line in the place of the one before it, for a terminal only.
    fn live(&mut self, line: &str) -> String {
        let before = self.close();
        self.open = Open::Live(line.chars().count());
        format!("{before}{DIM}{line}{DIM:#}")
    }

    /// Words stream in; the lines after the first are set under the first.
    fn words(&mut self, text: &str) -> String {
        let before = match self.open {
            Open::Words => String::new(),
            Open::Live(width) => format!("{}\n{BOLD}●{BOLD:#} ", blanked(width)),
            Open::Output => format!("\n\n{BOLD}●{BOLD:#} "),
            Open::Nothing if text.trim().is_empty() => return String::new(),
            Open::Nothing => format!("\n{BOLD}●{BOLD:#} "),
        };
        let text = match before.is_empty() {
            true => text,
            false => text.trim_start(),
        };
        self.open = Open::Words;
        format!("{before}{}", text.replace('\n', "\n  "))
    }

    fn output(&mut self, text: &str) -> String {
        let mut out = String::new();
        for piece in text.split_inclusive('\n') {
            if self.open != Open::Output {
                out.push_str(&self.close());
                out.push_str(&format!("    {DIM}│{DIM:#} "));
            }
            out.push_str(piece.trim_end_matches('\n'));
            self.open = match piece.ends_with('\n') {
                true => {
                    out.push('\n');
                    Open::Nothing
                }
                false => Open::Output,
            };
        }
        out
    }

    fn lines(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::RunStarted { .. } => header(event),
            Event::ModelAnswered { .. }
            | Event::UserInput { .. }
            | Event::Asked { .. }
            | Event::GpusSampled { .. }
            | Event::SandboxEnded { .. }
            | Event::FilePut { .. }
            | Event::FileGot { .. }
            | Event::TextDelta { .. }
            | Event::Output { .. } => Vec::new(),
            Event::ToolCalled {
                name, arguments, ..
            } => {
                self.shown = Shown::Answer;
                vec![format!(
                    "  {CYAN}▸ {name}{CYAN:#} {}",
                    call(name, arguments)
                )]
            }
            Event::StepStarted { .. } => {
                self.shown = Shown::Live;
                Vec::new()
            }
            Event::ToolAnswered { ok, text, .. } => answer(*ok, text, self.shown),
            // Said by the tool's answer.
            Event::Decided {
                allowed: true,
                action,
                ..
            } if action == "file" => Vec::new(),
            Event::Decided {
                allowed,
                approver,
                why,
                ..
            } => vec![decided(*allowed, approver, why)],
            Event::SandboxStarted { .. } => sandbox_up(event),
            Event::Alarm { alarm, .. } => vec![format!("    {YELLOW}noticed{YELLOW:#} {alarm}")],
            Event::StepEnded { exit, .. } => step_ended(exit),
            Event::StepNotStarted { why, .. } => vec![format!("    {RED}not started{RED:#} {why}")],
            Event::CloneStarted { .. } | Event::CloneProgress { .. } => Vec::new(),
            Event::CloneEnded { .. } => cloned(event),
            Event::Quarantined { paths } => moved(paths),
            Event::NetworkBlocked { .. }
            | Event::NetworkOpened { .. }
            | Event::NetworkClosed { .. } => network(event),
            Event::Notice { text } => vec![format!("  {DIM}{text}{DIM:#}")],
            Event::ArtifactsCollected { .. } | Event::SecretsGiven { .. } => handed(event),
            Event::RunEnded { stop, text, .. } => ended(stop, text),
        }
    }
}

fn sandbox_up(event: &Event) -> Vec<String> {
    let Event::SandboxStarted {
        backend,
        image,
        gpus,
        ..
    } = event
    else {
        return Vec::new();
    };
    let image = image.as_ref().map_or(String::new(), |id| format!(", {id}"));
    let gpus: String = gpus.iter().map(|gpu| format!(", {gpu}")).collect();
    vec![format!(
        "    {DIM}sandbox up ({backend}{image}{gpus}){DIM:#}"
    )]
}

fn moved(paths: &[String]) -> Vec<String> {
    paths
        .iter()
        .map(|path| format!("  {YELLOW}moved out of the workspace{YELLOW:#} {path}"))
        .collect()
}

/// What was blocked, and what was allowed and went wrong.
fn network(event: &Event) -> Vec<String> {
    match event {
        Event::NetworkBlocked { why, .. } => vec![format!("    {YELLOW}{why}{YELLOW:#}")],
        // What was blocked was said by its own event.
        Event::NetworkClosed { why, .. } if !why.is_empty() && !why.starts_with("blocked") => {
            vec![format!("    {DIM}{why}{DIM:#}")]
        }
        _ => Vec::new(),
    }
}

fn header(event: &Event) -> Vec<String> {
    let Event::RunStarted {
        run,
        policy,
        workspace,
        model,
        task,
        ..
    } = event
    else {
        return Vec::new();
    };
    let model = model.as_deref().unwrap_or("none");
    vec![
        format!("{DIM}run{DIM:#}       {run}"),
        format!("{DIM}model{DIM:#}     {model}"),
        format!("{DIM}policy{DIM:#}    {policy}"),
        format!("{DIM}workspace{DIM:#} {workspace}"),
        format!("{DIM}task{DIM:#}      {BOLD}{task}{BOLD:#}"),
    ]
}

fn answer(ok: bool, text: &str, shown: Shown) -> Vec<String> {
    if shown == Shown::Live {
        return Vec::new();
    }
    let mark = match ok {
        true => format!("{GREEN}✓{GREEN:#}"),
        false => format!("{RED}✗{RED:#}"),
    };
    let count = text.lines().count();
    let mut lines: Vec<_> = text
        .lines()
        .take(SHOWN)
        .enumerate()
        .map(|(n, line)| match n {
            0 => format!("    {mark} {}", cut(line)),
            _ => format!("      {DIM}{}{DIM:#}", cut(line)),
        })
        .collect();
    if count > SHOWN {
        lines.push(format!("      {DIM}… {} more lines{DIM:#}", count - SHOWN));
    }
    lines
}

fn decided(allowed: bool, approver: &Approver, why: &str) -> String {
    let by = match approver {
        Approver::Policy { rule } => format!("the policy ({rule})"),
        Approver::Person => "you".to_owned(),
        Approver::YesFlag => "--yes".to_owned(),
        Approver::Remembered => "your yes to these very bytes".to_owned(),
        Approver::Typed => "you, who typed it".to_owned(),
        // The reason says it.
        Approver::NoTerminal => return format!("    {RED}denied{RED:#}: {why}"),
    };
    match (allowed, why) {
        (true, _) => format!("    {GREEN}allowed{GREEN:#} {DIM}by {by}{DIM:#}"),
        (false, "") => format!("    {RED}denied{RED:#} {DIM}by {by}{DIM:#}"),
        (false, why) => format!("    {RED}denied{RED:#} {DIM}by {by}{DIM:#}: {why}"),
    }
}

fn step_ended(exit: &Exit) -> Vec<String> {
    let style = match exit.outcome {
        Outcome::Code(0) => GREEN,
        _ => RED,
    };
    let usage = &exit.usage;
    let mut lines = vec![format!(
        "    {style}{}{style:#} {DIM}in {:.1} s, {} MiB at most{DIM:#}",
        exit.outcome,
        usage.wall_ms as f64 / 1000.0,
        usage.max_rss >> 20
    )];
    for gpu in &usage.gpus {
        lines.push(format!("    {DIM}{gpu}{DIM:#}"));
    }
    if usage.leftovers > 0 {
        lines.push(format!(
            "    {DIM}{} processes left behind were ended with it{DIM:#}",
            usage.leftovers
        ));
    }
    let said = exit.reached.iter();
    lines.extend(said.map(|one| format!("    {YELLOW}limit{YELLOW:#} {}", one.text)));
    lines
}

/// Written over with blanks, and back: without a sequence that a terminal may not know.
fn blanked(width: usize) -> String {
    format!("\r{:width$}\r", "")
}

fn progress(phase: ClonePhase, (done, total): (u64, u64), bytes: u64) -> String {
    let count = match total {
        0 => done.to_string(),
        total => format!("{done} of {total}"),
    };
    match phase {
        ClonePhase::Receiving => {
            let mebibytes = bytes as f64 / f64::from(1 << 20);
            format!("    receiving {count} objects, {mebibytes:.1} MiB")
        }
        ClonePhase::Writing => format!("    writing {count} files"),
    }
}

fn cloned(event: &Event) -> Vec<String> {
    let Event::CloneEnded {
        commit,
        files,
        bytes,
        notes,
        ..
    } = event
    else {
        return Vec::new();
    };
    let short = commit.get(..12).unwrap_or(commit);
    let mut lines = vec![format!(
        "    {DIM}{files} files, {bytes} bytes, commit {short}{DIM:#}"
    )];
    lines.extend(notes.iter().map(|note| format!("    {DIM}{note}{DIM:#}")));
    lines
}

fn ended(stop: &StopReason, text: &str) -> Vec<String> {
    let (style, said) = match stop {
        StopReason::Finished => (GREEN, "finished".to_owned()),
        StopReason::IterationCap { turns } => (YELLOW, format!("stopped after {turns} turns")),
        StopReason::ContextFull { tokens, window } => (
            YELLOW,
            format!("the conversation ({tokens} tokens) no longer fits the model's {window}"),
        ),
        StopReason::DoomLoop { pattern } => {
            (YELLOW, format!("the model went in circles: {pattern}"))
        }
        StopReason::Denied { why } => (RED, format!("denied: {why}")),
        StopReason::Model { error } => (RED, format!("the model failed: {error}")),
        StopReason::Sandbox { error } => (RED, format!("the sandbox failed: {error}")),
        StopReason::Interrupted => (YELLOW, "interrupted".to_owned()),
    };
    let mut lines = vec![format!("\n{style}{said}{style:#}")];
    // A final answer has been seen as the model's last words.
    let seen = *stop == StopReason::Finished;
    lines.extend((!text.is_empty() && !seen).then(|| text.to_owned()));
    lines
}

/// What went in or out on the policy's word.
fn handed(event: &Event) -> Vec<String> {
    match event {
        Event::SecretsGiven { names } => {
            let names = names.join(", ");
            vec![format!(
                "  {YELLOW}the sandbox can now read{YELLOW:#} {names}"
            )]
        }
        _ => super::timeline::collected(event)
            .iter()
            .map(|line| format!("  {DIM}{line}{DIM:#}"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(approver: Approver, why: &str) -> String {
        anstream::adapter::strip_str(&decided(false, &approver, why)).to_string()
    }

    #[test]
    fn progress_stays_on_one_line_and_leaves_nothing_of_it() {
        let mut screen = Screen::default();
        let step = |done| Event::CloneProgress {
            phase: ClonePhase::Receiving,
            done,
            total: 120,
            bytes: 3 << 19,
        };
        let mut all = screen.render(&step(100)) + &screen.render(&step(9));
        all += &screen.render(&Event::Notice {
            text: "next".into(),
        });
        let plain = anstream::adapter::strip_str(&all).to_string();
        assert!(plain.contains("receiving 100 of 120 objects, 1.5 MiB"));
        assert_eq!(plain.matches('\n').count(), 1, "{plain:?}");
        // What a terminal ends up with.
        let mut line = Vec::new();
        let mut column = 0;
        for c in plain.trim_end_matches('\n').chars() {
            match c {
                '\r' => column = 0,
                c => {
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = c;
                    column += 1;
                }
            }
        }
        let line: String = line.into_iter().collect();
        assert_eq!(line.trim_end(), "  next");
    }

    #[test]
    fn a_no_says_who_said_it_and_why() {
        assert_eq!(
            shown(Approver::Person, "too long"),
            "    denied by you: too long"
        );
        assert_eq!(shown(Approver::Person, ""), "    denied by you");
        assert_eq!(
            shown(Approver::NoTerminal, "there is no terminal"),
            "    denied: there is no terminal"
        );
    }
}
