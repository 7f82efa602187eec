//! Lines inside the question's frame, wrapped at the terminal's width, folded where they are many.

use super::{BOLD, CYAN, DIM, Fold, GREEN, HEAD, LONG, RED, Shape, TAIL, YELLOW};
use anstyle::Style;

/// Columns that are always there for text.
const NARROWEST: usize = 20;

/// A finished page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::question) struct Shown {
    pub(in crate::cli::question) text: String,
    /// Lines that are not shown.
    pub(in crate::cli::question) folded: usize,
}

/// A page being written. What it is given is printable already.
pub(super) struct Page {
    shape: Shape,
    fold: Fold,
    out: String,
    folded: usize,
}

impl Page {
    pub(super) fn new(shape: Shape, fold: Fold) -> Self {
        Self {
            shape,
            fold,
            out: String::new(),
            folded: 0,
        }
    }

    pub(super) fn columns(&self) -> usize {
        self.shape.columns
    }

    pub(super) fn title(&mut self, words: &str) {
        self.out
            .push_str(&format!("\n{CYAN}┌{CYAN:#} {BOLD}{words}{BOLD:#}\n"));
    }

    pub(super) fn gap(&mut self) {
        self.out.push_str(&format!("{CYAN}│{CYAN:#}\n"));
    }

    /// A line of ours, styles and all.
    pub(super) fn text(&mut self, line: &str) {
        self.out.push_str(&format!("{CYAN}│{CYAN:#} {line}\n"));
    }

    /// Text of others: whole, wrapped, the first line after `first`.
    pub(super) fn code(&mut self, first: &str, text: &str, style: Style) {
        let indent = " ".repeat(first.chars().count());
        let mut before = first;
        for line in lines(text) {
            for piece in self.wrapped(&line, first.len()) {
                self.text(&format!("{before}{style}{piece}{style:#}"));
                before = &indent;
            }
        }
    }

    /// A sentence, broken between words where it can be.
    pub(super) fn prose(&mut self, words: &str, style: Style) {
        let room = self.shape.columns.saturating_sub(3).max(NARROWEST);
        let mut line = String::new();
        for word in words.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.code("", &std::mem::take(&mut line), style);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.code("", &line, style);
    }

    /// A file's lines with their numbers.
    pub(super) fn numbered(&mut self, text: &str) {
        let width = lines(text).count().to_string().len().max(3);
        let mut made = Vec::new();
        for (index, line) in lines(text).enumerate() {
            let mut number = format!("{:>width$}", index + 1);
            for piece in self.wrapped(&line, width + 4) {
                made.push(format!("  {DIM}{number}{DIM:#}  {piece}"));
                number = " ".repeat(width);
            }
        }
        self.folded(made);
    }

    /// A unified diff.
    pub(super) fn diff(&mut self, text: &str) {
        let mut made = Vec::new();
        for line in lines(text) {
            let style = match line.chars().next() {
                Some('+') => GREEN,
                Some('-') => RED,
                Some('@') => CYAN,
                _ => Style::new(),
            };
            for piece in self.wrapped(&line, 2) {
                made.push(format!("  {style}{piece}{style:#}"));
            }
        }
        self.folded(made);
    }

    pub(super) fn close(mut self, words: &str) -> Shown {
        self.out.push_str(&format!("{CYAN}└{CYAN:#} {words}\n"));
        Shown {
            text: self.out,
            folded: self.folded,
        }
    }

    fn folded(&mut self, lines: Vec<String>) {
        let cut = match self.fold == Fold::Long && lines.len() > LONG {
            true => HEAD..lines.len() - TAIL,
            false => 0..0,
        };
        for (index, line) in lines.iter().enumerate() {
            if index == cut.start && !cut.is_empty() {
                self.folded += cut.len();
                self.text(&format!(
                    "  {YELLOW}… {} lines are not shown here: v shows all …{YELLOW:#}",
                    cut.len()
                ));
            }
            if !cut.contains(&index) {
                self.text(line);
            }
        }
    }

    /// A line in pieces that fit; those after the first begin with an arrow.
    fn wrapped(&self, line: &str, indent: usize) -> Vec<String> {
        let room = self.shape.columns.saturating_sub(indent + 3).max(NARROWEST);
        let mut pieces = Vec::new();
        let mut piece = String::new();
        let mut length = 0;
        for c in line.chars() {
            if length == room {
                pieces.push(std::mem::replace(&mut piece, format!("{DIM}↪{DIM:#} ")));
                length = 2;
            }
            piece.push(c);
            length += 1;
        }
        pieces.push(piece);
        pieces
    }
}

/// Lines with their tabs as spaces; an empty text has none.
fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| line.replace('\t', "    "))
}
