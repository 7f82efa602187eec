//! The terminal: one file for each command, and how things look.
//!
//! The only room that prints and ends the process. Standard output is for what was asked for;
//! everything about it (questions, progress, errors) goes to standard error.

mod args;
mod failure;

use args::{Cli, Command};
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&typed) {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ if typed.get(1).is_some_and(|word| word == "exec") => failure::EXEC_OWN,
                _ => failure::USAGE,
            };
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}

fn dispatch(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(_)
        | Command::Exec(_)
        | Command::Demo(_)
        | Command::Doctor(_)
        | Command::Policy(_)
        | Command::Runs(_) => ExitCode::from(failure::USAGE),
    }
}

/// One text and a line end on standard error, coloured where that is a terminal that wants it. A
/// closed standard error takes nothing, and nothing can be done about it.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
