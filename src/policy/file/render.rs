//! Problems as text: pictures of the lines for a terminal, one block each for anything else.

use super::problem::{PolicyErrors, PolicySource, Problem};
use super::reader::is_hidden;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};
use std::fmt::Write as _;

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines that programs and logs can hold.
    Plain,
    /// Pictures of the lines, this many columns wide.
    Drawn { columns: usize },
    /// As `Drawn`, in colours.
    Coloured { columns: usize },
}

impl PolicyErrors {
    pub fn render(&self, look: Look) -> String {
        render(&self.problems, &self.sources, look)
    }

    pub(super) fn plain(&self) -> String {
        self.render(Look::Plain)
    }
}

/// Problems or warnings as text, each ending with a line end.
pub fn render(problems: &[Problem], sources: &[PolicySource], look: Look) -> String {
    let mut out = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 && look != Look::Plain {
            out.push('\n');
        }
        let source = sources.get(problem.source);
        match (look, source) {
            (Look::Drawn { columns }, Some(source)) => {
                out.push_str(&drawn(problem, source, handler(columns, Theme::Plain)));
            }
            (Look::Coloured { columns }, Some(source)) => {
                out.push_str(&drawn(problem, source, handler(columns, Theme::Coloured)));
            }
            (Look::Plain, _) | (_, None) => out.push_str(&plain(problem, source)),
        }
    }
    out
}

fn plain(problem: &Problem, source: Option<&PolicySource>) -> String {
    let kind = match problem.code.is_warning() {
        true => "warning",
        false => "error",
    };
    let mut out = format!("{kind}[{}] {}\n", problem.code, headline(problem));
    if let Some(source) = source {
        let place = source.place(problem.span.start);
        // Writing to a string does not fail.
        let _ = writeln!(out, "  at {}:{}:{}", source.label, place.line, place.column);
    }
    for line in help(problem) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

fn headline(problem: &Problem) -> String {
    match problem.key.is_empty() {
        true => words(&problem.message),
        false => words(&format!("{}: {}", problem.key, problem.message)),
    }
}

/// Keys and values are repeated in words, and the file may be a stranger's.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out
}

/// The lines as they may be drawn: what a terminal would obey, or not show, is something else of as
/// many bytes, so that places stay where they are.
fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => out.push(' '),
            c if is_hidden(c) => out.push_str(match c.len_utf8() {
                1 => "?",
                2 => "¿",
                3 => "\u{fffd}",
                _ => "¿¿",
            }),
            c => out.push(c),
        }
    }
    out
}

fn help(problem: &Problem) -> Vec<String> {
    let allowed = problem
        .allowed
        .as_ref()
        .map(|allowed| words(&format!("allowed: {allowed}")));
    let fix = problem.fix.as_ref();
    let fix = fix.map(|fix| words(&format!("fix: {fix}")));
    allowed.into_iter().chain(fix).collect()
}

enum Theme {
    Plain,
    Coloured,
}

fn handler(columns: usize, theme: Theme) -> GraphicalReportHandler {
    let theme = match theme {
        Theme::Plain => GraphicalTheme::unicode_nocolor(),
        Theme::Coloured => GraphicalTheme::unicode(),
    };
    GraphicalReportHandler::new_themed(theme)
        .with_width(columns.max(40))
        .with_links(false)
}

fn drawn(problem: &Problem, source: &PolicySource, handler: GraphicalReportHandler) -> String {
    let span = problem.span.clone();
    let mut diagnostic = MietteDiagnostic::new(headline(problem))
        .with_code(problem.code.name())
        .with_severity(match problem.code.is_warning() {
            true => miette::Severity::Warning,
            false => miette::Severity::Error,
        })
        .with_label(LabeledSpan::new(None, span.start, span.len()));
    let help = help(problem);
    if !help.is_empty() {
        diagnostic = diagnostic.with_help(help.join("\n"));
    }
    let report = miette::Report::new(diagnostic)
        .with_source_code(NamedSource::new(&source.label, lines(&source.text)));
    let mut out = String::new();
    match handler.render_report(&mut out, report.as_ref()) {
        Ok(()) => out,
        Err(_) => plain(problem, Some(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::file::load;

    #[test]
    fn nothing_of_a_strangers_file_reaches_the_terminal_raw() {
        for text in [
            "schema = 1\n# \u{1b}[2J\u{9b}31m\u{202e}\r\nlimits = \u{7}",
            "schema = 1\n\"\\u001b[2J\\u202e\" = 1",
            "schema = 1\n[limits]\n\"\\u009b\".x = 1\nmemory = \"\\u001b[31m\"",
        ] {
            let source = PolicySource::new("mine.toml", text);
            let errors = load(source, &mut |_| Err(String::new())).unwrap_err();
            for look in [Look::Plain, Look::Drawn { columns: 80 }] {
                let told = errors.render(look);
                let raw = told.chars().find(|c| *c != '\n' && is_hidden(*c));
                assert_eq!(raw, None, "{told:?}");
            }
        }
    }

    #[test]
    fn places_stay_where_they_are() {
        let text = "a\u{1b}b\u{9b}c\u{202e}d\u{e0041}e\té";
        assert_eq!(lines(text), "a?b¿c\u{fffd}d¿¿e\té");
        assert_eq!(lines(text).len(), text.len());
    }
}
