//! Problems as text: pictures of the lines for a terminal, one block each for anything else.

use super::problem::{PolicyErrors, PolicySource, Problem};
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
        true => problem.message.clone(),
        false => format!("{}: {}", problem.key, problem.message),
    }
}

fn help(problem: &Problem) -> Vec<String> {
    let allowed = problem
        .allowed
        .as_ref()
        .map(|words| format!("allowed: {words}"));
    let fix = problem.fix.as_ref().map(|words| format!("fix: {words}"));
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
        .with_source_code(NamedSource::new(&source.label, source.text.clone()));
    let mut out = String::new();
    match handler.render_report(&mut out, report.as_ref()) {
        Ok(()) => out,
        Err(_) => plain(problem, Some(source)),
    }
}
