//! Errors as a person sees them: what failed, why, what to do; and the exit code that says so.

use std::fmt::Display;
use std::process::ExitCode;

/// `run`, `demo`, `policy`, `runs`, `doctor`: usage or a policy file.
pub(super) const USAGE: u8 = 2;

pub(super) use crate::app::exits::OWN as EXEC_OWN;

/// `run`, `doctor`: nothing here can isolate, or the sandbox broke.
pub(super) const SANDBOX: u8 = 8;

pub(super) use crate::app::exits::INTERRUPTED;

/// `run`, `box`: the policy or a person said no.
pub(super) const DENIED: u8 = 6;

/// A command that did not come about.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    /// The causes below it, outermost first.
    pub(super) causes: Vec<String>,
    /// What the user can do.
    pub(super) remedy: Option<String>,
    pub(super) code: u8,
}

impl Failure {
    pub(super) fn new(message: impl Display, code: u8) -> Self {
        Self {
            message: message.to_string(),
            causes: Vec::new(),
            remedy: None,
            code,
        }
    }

    /// From an error, with everything beneath it.
    pub(super) fn of(error: &(dyn std::error::Error + 'static), code: u8) -> Self {
        let mut causes = Vec::new();
        let mut said = error.to_string();
        let mut below = error.source();
        while let Some(cause) = below {
            let text = cause.to_string();
            // Some say their cause themselves.
            if !said.ends_with(&text) {
                causes.push(text.clone());
            }
            said = text;
            below = cause.source();
        }
        Self {
            causes,
            ..Self::new(error, code)
        }
    }

    pub(super) fn because(mut self, cause: &dyn std::error::Error) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    pub(super) fn remedy(mut self, remedy: Option<impl Into<String>>) -> Self {
        self.remedy = remedy.map(Into::into);
        self
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        use anstyle::{AnsiColor, Style};
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let mut text = format!("{red}error{red:#}: {}", self.message);
        for cause in &self.causes {
            text.push_str(&format!("\n  because: {cause}"));
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("\n{cyan}help{cyan:#}: {remedy}"));
        }
        super::say(&text);
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("failed to read it")]
        Silent(#[source] io::Error),
        #[error("failed to read it: {0}")]
        Spoken(#[source] io::Error),
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::from_raw_os_error(2);
        let silent = Failure::of(&Failed::Silent(cause()), USAGE);
        assert_eq!(silent.causes, [cause().to_string()]);
        let spoken = Failure::of(&Failed::Spoken(cause()), USAGE);
        assert!(spoken.message.contains(&cause().to_string()));
        assert!(spoken.causes.is_empty(), "{:?}", spoken.causes);
    }
}
