//! Where a run is watched from: a terminal, or JSON lines for a program. And who answers.

use super::hush::hushed;
use super::question;
use super::screen::Screen;
use crate::protocol::event::{Approver, Event};
use crate::protocol::question::{Answer, QuestionView};
use crate::tools::door::{Answered, Door};
use async_trait::async_trait;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Who answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// The person at the terminal.
    Person,
    /// `--yes`: yes, to what lies inside the policy.
    Yes,
    /// Nobody.
    Nobody,
}

impl Answers {
    /// `--yes` wins; else the person, where standard error and `/dev/tty` are a terminal.
    pub(super) fn of(yes: bool) -> Self {
        let terminal = std::io::stderr().is_terminal()
            && std::fs::File::open("/dev/tty").is_ok_and(|tty| tty.is_terminal());
        match (yes, terminal) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// The transcript, on standard error.
    Transcript,
    /// One event a line, on standard output.
    JsonLines,
    /// Only questions, notices, what was blocked, and what was noticed.
    Quiet,
    /// Only questions.
    Nothing,
}

/// The door of this process.
pub(super) struct TerminalDoor {
    show: Show,
    answers: Answers,
    screen: Mutex<Screen>,
}

impl TerminalDoor {
    pub(super) fn new(show: Show, answers: Answers) -> Self {
        Self {
            show,
            answers,
            screen: Mutex::default(),
        }
    }

    fn print(&self, event: &Event) {
        let text = self
            .screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .render(event);
        let mut out = anstream::stderr().lock();
        // A closed terminal takes nothing, and nothing can be done about it.
        let text = hushed(&text);
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

#[async_trait]
impl Door for TerminalDoor {
    fn show(&self, event: &Event) {
        match (self.show, event) {
            // Lines that replace each other are for eyes only.
            (Show::Transcript, Event::CloneProgress { .. }) if !std::io::stderr().is_terminal() => {
            }
            (Show::Transcript, _)
            | (
                Show::Quiet,
                Event::Notice { .. }
                | Event::NetworkBlocked { .. }
                | Event::Alarm { .. }
                | Event::ArtifactsCollected { .. },
            ) => self.print(event),
            // What was allowed and could not be reached says so nowhere else.
            (
                Show::Quiet,
                Event::NetworkClosed {
                    sent: 0,
                    address: None,
                    why,
                    ..
                },
            ) if !why.starts_with("blocked") => self.print(event),
            (Show::JsonLines, _) => {
                if let Ok(line) = serde_json::to_string(event) {
                    let mut out = std::io::stdout().lock();
                    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
                }
            }
            (Show::Quiet | Show::Nothing, _) => {}
        }
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        match self.answers {
            Answers::Person => Answered {
                answer: question::ask(question).await,
                approver: Approver::Person,
            },
            Answers::Yes => Answered {
                answer: Answer::Yes,
                approver: Approver::YesFlag,
            },
            Answers::Nobody => Answered {
                answer: Answer::No {
                    reason: "nobody can be asked: there is no terminal".to_owned(),
                },
                approver: Approver::NoTerminal,
            },
        }
    }
}
