//! How policies look on a terminal. Pure: values in, text with ANSI styles out.

use crate::context::sanitise::visible;
use crate::policy::explain::{Case, CommandExplained, Explained};
use crate::policy::file::problem::{Code, PolicySource, Problem};
use crate::policy::model::{Decision, Policy};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::path::Path;

const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style = colour(AnsiColor::Green);
pub(super) const RED: Style = colour(AnsiColor::Red);
pub(super) const YELLOW: Style = colour(AnsiColor::Yellow);

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
}

/// One policy in a list.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) about: String,
    pub(super) is_default: bool,
    pub(super) loads: bool,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "source": self.source,
            "description": self.about,
            "default": self.is_default,
            "loads": self.loads,
        })
    }
}

/// The list of policies, and where one's own go.
pub(super) fn list(rows: &[Row], folder: &Path) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let style = if row.loads { Style::new() } else { RED };
        let usual = match row.is_default {
            true => format!(" {DIM}(used where none is named){DIM:#}"),
            false => String::new(),
        };
        let (name, about) = (&row.name, &row.about);
        out.push_str(&format!(
            "{BOLD}{name:width$}{BOLD:#}  {style}{about}{style:#}{usual}\n"
        ));
    }
    out.push_str(&format!(
        "\n{DIM}Yours are files in {}; `fumehood policy show NAME` prints one to start from.{DIM:#}\n",
        visible(&folder.to_string_lossy())
    ));
    out
}

/// Every value, grouped by table.
pub(super) fn values(policy: &Policy, values: &[Explained]) -> String {
    let mut out = format!("{BOLD}{}{BOLD:#}  {}\n", policy.name, policy.description);
    let mut table = "";
    let key_width = values.iter().map(|one| one.key.len()).max().unwrap_or(0);
    for one in values {
        let own = one.key.split(['.', ' ']).next().unwrap_or(&one.key);
        if own != table {
            out.push('\n');
            table = own;
        }
        let (key, value) = (&one.key, &one.value);
        let origin = match (one.layer, one.origin.as_str()) {
            (None, _) => String::new(),
            (Some(level), origin) if level.only_tightens() => {
                format!("  {DIM}{} {origin}{DIM:#}", level.name())
            }
            (Some(_), origin) => format!("  {DIM}{origin}{DIM:#}"),
        };
        out.push_str(&format!(
            "{key:key_width$}  {BOLD}{value}{BOLD:#}{origin}\n"
        ));
        for lost in &one.lost {
            out.push_str(&format!(
                "{:key_width$}  {DIM}not {} of {}{DIM:#}\n",
                "", lost.value, lost.origin
            ));
        }
    }
    out
}

/// What is decided about a command.
pub(super) fn command(explained: &CommandExplained) -> String {
    let mut out = format!("{BOLD}{}{BOLD:#}\n", explained.command);
    for case in &explained.cases {
        out.push_str(&one_case(case));
    }
    // Rules are looked at the same way in every case.
    if let Some(case) = explained
        .cases
        .first()
        .filter(|case| !case.rules.is_empty())
    {
        out.push_str("\nrules\n");
        for rule in &case.rules {
            let said = match &rule.why_not {
                None => format!("{GREEN}matches{GREEN:#}"),
                Some(why) => format!("{DIM}no: {why}{DIM:#}"),
            };
            out.push_str(&format!(
                "  {} {}  {said}  {DIM}{}{DIM:#}\n",
                word(rule.decision),
                rule.id,
                rule.origin
            ));
        }
    }
    for note in &explained.notes {
        out.push_str(&format!("\n{YELLOW}note{YELLOW:#}: {note}\n"));
    }
    out
}

fn one_case(case: &Case) -> String {
    format!(
        "\n{}\n  {}  by {} {DIM}({}){DIM:#}: {}\n  {DIM}to change it: {}{DIM:#}\n",
        case.when,
        word(case.decision),
        case.by,
        case.origin,
        case.why,
        case.change
    )
}

fn word(decision: Decision) -> String {
    match decision {
        Decision::Allow => format!("{GREEN}allow{GREEN:#}"),
        Decision::Ask => format!("{YELLOW}ask{YELLOW:#}"),
        Decision::Deny => format!("{RED}deny{RED:#}"),
    }
}

/// Whether it is about two layers that exclude each other, not about one of them.
pub(super) fn is_conflict(problem: &Problem) -> bool {
    matches!(problem.code, Code::Conflict | Code::ImageRef)
}

/// `3 mistakes`.
pub(super) fn mistakes(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 mistake".to_owned(),
        many => format!("{many} mistakes"),
    }
}

/// The last line about a policy that cannot be used.
pub(super) fn bad(label: &str, problems: &[Problem]) -> String {
    format!("{RED}{label}{RED:#}: {}", mistakes(problems))
}

/// A problem for a program.
pub(super) fn problem(problem: &Problem, sources: &[PolicySource]) -> Value {
    let (file, line, column) = super::place(problem, sources);
    json!({
        "code": problem.code.name(),
        "key": problem.key,
        "file": file,
        "line": line,
        "column": column,
        "message": problem.message,
        "allowed": problem.allowed,
        "fix": problem.fix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::builtin;
    use crate::policy::explain;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn the_default_policy_explained() {
        let loaded = builtin::load(builtin::DEFAULT).unwrap();
        let text = values(&loaded.policy, &explain::values(&loaded));
        insta::assert_snapshot!(plain(&text));
    }

    #[test]
    fn a_command_under_the_default_policy() {
        let loaded = builtin::load("dev-loop").unwrap();
        let argv = ["python", "train.py", "--out", "runs/1"].map(|word| word.as_bytes().to_vec());
        insta::assert_snapshot!(plain(&command(&explain::command(&loaded, &argv))));
    }
}
