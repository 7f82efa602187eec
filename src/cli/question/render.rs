//! What a question looks like. Pure: a view in, lines with ANSI styles of our own out.
//!
//! ```text
//!   ┌ May this run in the sandbox?
//!   │   $ python train.py          every line of the frame begins with its bar: nothing
//!   │ train.py, new, 12 lines      that a file or a command says can look like ours
//!   │    1  import csv
//!   └ asked by approval.contained
//! ```

mod page;
mod sandbox;

use crate::context::sanitise::{visible, visible_lines};
use crate::policy::unit;
use crate::protocol::question::{
    CloneView, ExecView, FileChange, FileView, HostView, QuestionBody, QuestionView, SecretsView,
};
use anstyle::{AnsiColor, Style};
use page::Page;
pub(super) use page::Shown;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = colour(AnsiColor::Green);
const RED: Style = colour(AnsiColor::Red);
const YELLOW: Style = colour(AnsiColor::Yellow);
const CYAN: Style = colour(AnsiColor::Cyan);

/// Lines of one file that are shown before it is folded; then those at its ends.
const LONG: usize = 100;
const HEAD: usize = 60;
const TAIL: usize = 20;

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
}

/// What the terminal is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: usize,
}

/// Whether long files are shown in part, with a count of what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Long,
    Nothing,
}

/// The whole question, without the answers it takes.
pub(super) fn question(question: &QuestionView, shape: Shape, fold: Fold) -> Shown {
    let mut page = Page::new(shape, fold);
    match &question.body {
        QuestionBody::Exec(view) => exec(&mut page, view),
        QuestionBody::Clone(view) => clone(&mut page, view),
        QuestionBody::Host(view) => host(&mut page, view),
        QuestionBody::Secrets(view) => secrets(&mut page, view),
    }
    if let Some(line) = &question.widens {
        page.gap();
        page.prose(
            "This goes beyond the policy. The line that would put it inside:",
            YELLOW,
        );
        page.code("  ", &visible(line), BOLD);
    }
    page.gap();
    let because = format!(
        "asked by {}: {}",
        visible(&question.rule),
        visible(&question.why)
    );
    page.prose(&because, DIM);
    let digest: String = visible(question.digest.as_str()).chars().take(12).collect();
    page.close(&format!("{DIM}{digest}{DIM:#}"))
}

/// The answers, and where one is typed.
pub(super) fn choices(question: &QuestionView, shown: &Shown) -> String {
    let mut out = String::new();
    let mut choice = |key: &str, words: &str| {
        out.push_str(&format!("  {BOLD}{key:3}{BOLD:#}  {words}\n"));
    };
    match question.widens {
        Some(_) => choice("yes", "the whole word: yes, this once, beyond the policy"),
        None => choice("y", "yes, this once"),
    }
    if question.for_run {
        choice(
            "a",
            "yes, and to this very code and command for the rest of the run",
        );
    }
    choice("n", "no, and say why");
    choice("q", "no, and end the run");
    if shown.folded > 0 {
        choice(
            "v",
            &format!("show all ({} lines are not shown above)", shown.folded),
        );
    }
    out.push_str(PROMPT);
    out
}

const PROMPT: &str = "> ";

/// What was typed answers nothing; what would.
pub(super) fn hint(words: &str) -> String {
    format!("  {YELLOW}{words}{YELLOW:#}\n{PROMPT}")
}

/// Bytes came that no person types one by one.
pub(super) fn no_typing() -> String {
    format!("\n  {YELLOW}that came all at once; type the answer, key by key{YELLOW:#}\n{PROMPT}")
}

/// Asks for the reason of a no.
pub(super) fn reason() -> String {
    format!("  {DIM}why? (the model reads it; Enter for no reason){DIM:#}\n{PROMPT}")
}

fn exec(page: &mut Page, view: &ExecView) {
    page.title("May this run in the sandbox?");
    page.gap();
    command(page, &view.argv);
    let limit = view.wall_ms.or(view.sandbox.limits.wall_ms);
    let time = limit.map_or("without a time limit".to_owned(), |ms| {
        format!("for at most {}", unit::time(ms))
    });
    page.text(&format!("  {DIM}in {}, {time}{DIM:#}", visible(&view.cwd)));
    for file in &view.files {
        file_view(page, file);
    }
    if view.omitted > 0 {
        page.gap();
        page.text(&format!(
            "{YELLOW}and {} more changed files that are too many to show{YELLOW:#}",
            view.omitted
        ));
    }
    page.gap();
    sandbox::sandbox(page, view);
}

/// On one line where that is clear; else one argument a line, whole.
fn command(page: &mut Page, argv: &[String]) {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    let line = words.join(" ");
    let several = argv.iter().any(|word| word.contains(NEWLINE));
    if !several && line.len() + 6 <= page.columns() {
        page.text(&format!("  {BOLD}$ {line}{BOLD:#}"));
        return;
    }
    for (index, word) in argv.iter().enumerate() {
        let number = format!("{index:>3}  ");
        match word.contains(NEWLINE) {
            // A script in an argument is read as a script.
            true => page.code(
                &number,
                &word.replace(NEWLINE, "\n").replace(TAB, "\t"),
                BOLD,
            ),
            false => page.code(&number, &quoted(word), BOLD),
        }
    }
    page.text(&format!("  {DIM}{} arguments{DIM:#}", argv.len()));
}

/// How a newline and a tab arrive in an argument: nothing else in it can look like this.
const NEWLINE: &str = "\\u{a}";
const TAB: &str = "\\u{9}";

/// An argument as it arrives is printable ASCII; if it were not, it would be now.
fn quoted(word: &str) -> String {
    let word = match word.chars().all(|c| matches!(c, ' '..='~')) {
        true => word.to_owned(),
        false => visible(word),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("\"{}\"", word.replace('"', "\\\"")),
    }
}

fn file_view(page: &mut Page, file: &FileView) {
    let path = visible(&file.path);
    page.gap();
    match &file.change {
        FileChange::New { text } => {
            let lines = text.lines().count();
            let plural = if lines == 1 { "" } else { "s" };
            page.text(&format!(
                "{BOLD}{path}{BOLD:#}, new to you, {lines} line{plural}"
            ));
            page.numbered(&visible_lines(text));
        }
        FileChange::Changed { diff } => {
            page.text(&format!(
                "{BOLD}{path}{BOLD:#}, changed since your last yes"
            ));
            page.diff(&visible_lines(diff));
        }
        FileChange::Unchanged => page.text(&format!("{BOLD}{path}{BOLD:#}, as at your last yes")),
        FileChange::Removed => page.text(&format!("{BOLD}{path}{BOLD:#}, {RED}removed{RED:#}")),
        FileChange::Opaque { size, digest } => page.text(&format!(
            "{BOLD}{path}{BOLD:#}, {YELLOW}not shown{YELLOW:#}: {}, no text or too long; sha256 {}",
            unit::size(*size),
            visible(digest.as_str())
        )),
    }
}

fn clone(page: &mut Page, view: &CloneView) {
    page.title("May this be cloned into the workspace?");
    page.gap();
    page.code("  ", &visible(&view.url), BOLD);
    let rev = view.rev.as_deref().map_or_else(
        || "the default branch".to_owned(),
        |rev| format!("branch, tag or commit {}", visible(rev)),
    );
    page.code("  ", &format!("{rev}, into {}", visible(&view.into)), DIM);
    page.prose(
        "Nothing in it is run; what is later run from it asks as the policy says.",
        DIM,
    );
}

fn host(page: &mut Page, view: &HostView) {
    page.title("May this host be reached for the rest of this run?");
    page.gap();
    let at = crate::policy::network::joined(&visible(&view.host), view.port);
    page.code("  ", &at, BOLD);
    page.prose(
        "Everything in the sandbox may then send anything it can read to it, under any account there.",
        YELLOW,
    );
    if !view.secrets.is_empty() {
        let names: Vec<String> = view.secrets.iter().map(|name| visible(name)).collect();
        let among = format!(
            "Among it are the secrets of the policy: {}.",
            names.join(", ")
        );
        page.prose(&among, YELLOW);
    }
    page.prose(&format!("The model says: {}", visible(&view.reason)), DIM);
}

fn secrets(page: &mut Page, view: &SecretsView) {
    page.title("May these secrets be handed to the sandbox for the rest of this run?");
    page.gap();
    for secret in &view.secrets {
        let from = format!("{}, from {}", visible(&secret.name), visible(&secret.from));
        page.code("  ", &from, BOLD);
    }
    page.prose(
        "Every program in the sandbox can read them, write them into the workspace, and show them.",
        YELLOW,
    );
    let reaches = match view.reaches.as_deref() {
        None => "It has no network to send them to.".to_owned(),
        Some(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(|host| visible(host)).collect();
            format!("It can send them to: {}", hosts.join(", "))
        }
    };
    page.prose(&reaches, DIM);
}
