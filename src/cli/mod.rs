//! The terminal: one file for each command, and how things look.
//!
//! The only room that prints and ends the process. Standard output is for what was asked for;
//! everything about it (questions, progress, errors) goes to standard error.

mod args;
mod boxes;
mod client;
mod direct;
mod doctor;
mod doors;
mod exec;
mod failure;
mod hold;
mod hush;
mod images;
mod input;
mod look;
mod outlet;
mod policy;
mod question;
mod request;
mod run;
mod runs;
mod screen;
mod selftest;
mod signals;
mod terminal;
mod timeline;

use crate::config::Config;
use args::{BoxArgs, BoxCommand, Cli, Command};
use clap::Parser;
use clap::error::ErrorKind;
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&typed) {
        Ok(cli) => start(cli).unwrap_or_else(|failure| failure.report()),
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ if is_exec(&typed) => failure::EXEC_OWN,
                _ => failure::USAGE,
            };
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            if code == failure::EXEC_OWN && error.kind() == ErrorKind::UnknownArgument {
                say(
                    "help: the program and its arguments come after --, as in: fumehood exec -- python3 train.py",
                );
            }
            ExitCode::from(code)
        }
    }
}

/// Whether a program's exit codes were asked for.
fn is_exec(typed: &[OsString]) -> bool {
    let word = |at: usize| typed.get(at).and_then(|word| word.to_str());
    match word(1) {
        Some("box") => word(2) == Some("exec"),
        word => word == Some("exec"),
    }
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    let own = match cli.command {
        Command::Exec(_) => failure::EXEC_OWN,
        Command::Box(BoxArgs {
            command: BoxCommand::Exec(_),
        }) => failure::EXEC_OWN,
        _ => failure::USAGE,
    };
    let config = Config::from_environment()
        .map_err(|error| Failure::of(&error, own).remedy(Some(error.remedy())))?;
    hush::know(&config);
    operator_log(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error, own))?;
    // On the runtime's own threads, where the sandboxes' connections are moved: what goes to and fro
    // between two threads wakes one of them each time.
    let command = runtime.spawn(dispatch(config, cli.command));
    let done = match runtime.block_on(command) {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    // A thread may still wait for standard input, which nobody will read any more.
    runtime.shutdown_background();
    done
}

async fn dispatch(config: Config, command: Command) -> Result<ExitCode, Failure> {
    let config = &config;
    match command {
        Command::Exec(args) => exec::exec(config, args).await,
        Command::Box(args) => boxes::boxes(config, args).await,
        Command::Hold(args) => hold::hold(config, args).await,
        Command::Doctor(args) => doctor::doctor(config, &args).await,
        Command::Run(args) => run::run(config, args).await,
        Command::Demo(args) => run::demo(config, args).await,
        Command::Runs(args) => runs::runs(config, args).await,
        Command::Images(args) => images::images(config, args).await,
        Command::Policy(args) => policy::policy(config, &args),
        Command::Selftest(args) => selftest::selftest(config, args).await,
    }
}

/// What was asked for, on standard output. A reader that went away early wanted no more.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    let text = hush::hushed(text.trim_end_matches('\n'));
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new("failed to write to standard output", failure::USAGE).because(&error))
        }
        _ => Ok(()),
    }
}

/// What Fumehood itself does and how long it takes, on standard error, for whoever runs it:
/// `FUMEHOOD_LOG=debug`, or a filter such as `fumehood::sandbox=trace`.
fn operator_log(config: &Config) {
    let Some(filter) = config.environment.get("FUMEHOOD_LOG") else {
        return;
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(|| hush::Hushed(std::io::stderr()))
        .with_ansi(false)
        .finish();
    // Only this function sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// One text and a line end on standard error, coloured where that is a terminal that wants it. A
/// closed standard error takes nothing, and nothing can be done about it.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(anstream::stderr().lock(), "{}", hush::hushed(text));
}
