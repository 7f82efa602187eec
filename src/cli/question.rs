//! The question a person answers at the terminal.
//!
//! ```text
//!   quiet the terminal ─▶ show ─▶ wait a moment ─▶ forget what was typed ─▶ read a line, key by key
//!                          ▲                                                   │
//!                          └──────────── view all, or no answer ◀──────────────┤
//!                                                          y, a, n + why, q ◀──┘
//! ```
//!
//! An answer is one letter and Enter, typed after the question stood there, key by key: what was typed
//! ahead, pasted, or sent by the terminal itself answers nothing. Dropping the future puts the terminal
//! back as it was, and then nothing was answered.

mod keys;
mod render;
mod tty;

use crate::context::sanitise::sanitise;
use crate::protocol::question::{Answer, QuestionView};
use keys::{Keys, Taken};
use render::{Fold, Shape};
use std::io::{self, Write};
use std::time::Duration;
use tokio::sync::Mutex;
use tty::Tty;

/// How long a question stands before what is typed counts.
const MOMENT: Duration = Duration::from_millis(400);

/// How long the keyboard must be quiet after something that was no typing.
const QUIET: Duration = Duration::from_millis(250);

/// Longest reason, in bytes.
const MAX_REASON: usize = 2000;

/// One question at a time.
static ASKING: Mutex<()> = Mutex::const_new(());

/// Asks the person at `/dev/tty`. A terminal that cannot be used, or that went away, ends the run.
pub(super) async fn ask(question: &QuestionView) -> Answer {
    let _turn = ASKING.lock().await;
    let asked = async {
        let mut tty = Tty::open()?;
        let shape = Shape {
            columns: super::terminal::columns(),
        };
        let mut out = Screen;
        Dialogue {
            tty: &mut tty,
            out: &mut out,
            question,
            shape,
        }
        .hold()
        .await
    };
    let line = OpenLine;
    let asked = asked.await;
    std::mem::forget(line);
    match asked {
        Ok(answer) => answer,
        Err(error) => {
            super::say(&format!("fumehood: the terminal cannot be asked: {error}"));
            Answer::Abort
        }
    }
}

/// One key of the person's, where a yes or no is enough; what was typed ahead or pasted is none.
pub(super) async fn key(words: &str) -> io::Result<u8> {
    let _turn = ASKING.lock().await;
    let mut tty = Tty::open()?;
    tty.quieten()?;
    super::say(words);
    tokio::time::sleep(MOMENT).await;
    tty.forget()?;
    match tty.read().await?[..] {
        [key] => Ok(key),
        _ => Ok(b'n'),
    }
}

/// The prompt's line, ended where a question goes away unanswered.
struct OpenLine;

impl Drop for OpenLine {
    fn drop(&mut self) {
        super::say("");
    }
}

/// Standard error, without colours where none are wanted.
struct Screen;

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        anstream::stderr().lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        anstream::stderr().lock().flush()
    }
}

struct Dialogue<'a> {
    tty: &'a mut Tty,
    out: &'a mut (dyn Write + Send),
    question: &'a QuestionView,
    shape: Shape,
}

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    YesForRun,
    No,
    Abort,
    View,
    /// Nothing that counts; the words say what does.
    Nothing(&'static str),
}

impl Dialogue<'_> {
    async fn hold(&mut self) -> io::Result<Answer> {
        self.tty.quieten()?;
        self.lay_out(Fold::Long)?;
        loop {
            let line = self.line().await?;
            match said(&line, self.question) {
                Said::Yes => return Ok(Answer::Yes),
                Said::YesForRun => return Ok(Answer::YesForRun),
                Said::Abort => return Ok(Answer::Abort),
                Said::No => {
                    let reason = self.reason().await?;
                    return Ok(Answer::No { reason });
                }
                Said::View => self.lay_out(Fold::Nothing)?,
                Said::Nothing(words) => self.show(&render::hint(words))?,
            }
        }
    }

    /// The question and the answers it takes.
    fn lay_out(&mut self, fold: Fold) -> io::Result<()> {
        let shown = render::question(self.question, self.shape, fold);
        self.show(&shown.text)?;
        self.show(&render::choices(self.question, &shown))
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A line that was typed, key by key, after the question stood for a moment.
    async fn line(&mut self) -> io::Result<String> {
        tokio::time::sleep(MOMENT).await;
        self.tty.forget()?;
        let mut keys = Keys::default();
        loop {
            let bytes = self.tty.read().await?;
            match keys.take(&bytes) {
                Taken::Echo(text) => self.show(&text)?,
                Taken::Line(line) => {
                    self.show("\n")?;
                    return Ok(line);
                }
                Taken::NoTyping => {
                    self.wait_for_quiet().await?;
                    self.show(&render::no_typing())?;
                    keys = Keys::default();
                }
                Taken::Nothing => {}
            }
        }
    }

    /// The rest of a paste, or of what the terminal sends.
    async fn wait_for_quiet(&mut self) -> io::Result<()> {
        while let Ok(more) = tokio::time::timeout(QUIET, self.tty.read()).await {
            more?;
        }
        self.tty.forget()
    }

    /// Words for the model; here the terminal's own line editing does, and a paste is welcome.
    async fn reason(&mut self) -> io::Result<String> {
        self.show(&render::reason())?;
        self.tty.restore()?;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n") && bytes.len() < MAX_REASON {
            match self.tty.read().await {
                Ok(more) => bytes.extend(more),
                // Ctrl-D ends it as well.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(MAX_REASON);
        let reason = sanitise(&bytes, MAX_REASON).trim().to_owned();
        Ok(match reason.is_empty() {
            true => "no reason was given".to_owned(),
            false => reason,
        })
    }
}

fn said(line: &str, question: &QuestionView) -> Said {
    match line.trim().to_ascii_lowercase().as_str() {
        "n" | "no" => Said::No,
        "q" | "quit" => Said::Abort,
        "v" | "d" => Said::View,
        "yes" => Said::Yes,
        // One letter is too easily typed for what the policy does not hold.
        "y" if question.widens.is_some() => {
            Said::Nothing("this goes beyond the policy: type the whole word, yes")
        }
        "y" => Said::Yes,
        "a" if question.for_run => Said::YesForRun,
        "a" => Said::Nothing("this is asked each time: answer y or n"),
        "" => Said::Nothing("type a letter, then Enter"),
        _ => Said::Nothing("that is none of the answers"),
    }
}

#[cfg(test)]
#[path = "question/question_tests.rs"]
mod tests;
