//! `fumehood runs`: what the records say.
//!
//! Standard output is what was asked for. Logs go to a pipe or a file as they are, and to a terminal
//! sanitised. `verify` ends with 1 where a record is broken.

mod attach;
mod gc;
mod stop;

use super::args::{RunsArgs, RunsCommand};
use super::failure::{self, Failure};
use super::{print, timeline};
use crate::config::Config;
use crate::context::sanitise::{Sanitiser, visible};
use crate::protocol::ids::{RunId, StepNumber};
use crate::record::{RecordError, RunState, RunStore, RunSummary, StoredRun, Stream, Verified};
use anstyle::{AnsiColor, Color, Style};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

/// `verify`: a record is broken.
const BROKEN: u8 = 1;

/// Characters of a run's id that are shown at least.
const SHORT: usize = 8;

/// Bytes of one line of a log on a terminal.
const LINE: usize = 64 * 1024;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

pub(super) async fn runs(config: &Config, args: RunsArgs) -> Result<ExitCode, Failure> {
    let store = RunStore::open(&config.state);
    match args.command {
        RunsCommand::List { json } => list(&store, as_json(json)),
        RunsCommand::Show { run, json } => show(&find(&store, &run)?, as_json(json)),
        RunsCommand::Logs { run, step, stderr } => {
            let stream = match stderr {
                true => Stream::Stderr,
                false => Stream::Stdout,
            };
            logs(&find(&store, &run)?, step.map(StepNumber), stream)
        }
        RunsCommand::Verify { run, json } => verify(&find(&store, &run)?, as_json(json)),
        RunsCommand::Stop { run, grace } => stop::stop(&find(&store, &run)?, &grace).await,
        RunsCommand::Attach { run, step } => {
            attach::attach(config, &find(&store, &run)?, step.map(StepNumber)).await
        }
        RunsCommand::Gc {
            older_than,
            dry_run,
        } => {
            let how = match dry_run {
                true => gc::How::Say,
                false => gc::How::Remove,
            };
            gc::gc(config, &older_than, how).await
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Words,
    Json,
}

fn as_json(json: bool) -> As {
    match json {
        true => As::Json,
        false => As::Words,
    }
}

fn find(store: &RunStore, given: &str) -> Result<StoredRun, Failure> {
    store.find(given).map_err(failed)
}

fn failed(error: RecordError) -> Failure {
    let remedy = error.remedy();
    Failure::of(&error, failure::USAGE).remedy(remedy)
}

fn list(store: &RunStore, form: As) -> Result<ExitCode, Failure> {
    let runs = store.list().map_err(failed)?;
    if form == As::Json {
        return shown(&to_json(&runs)?);
    }
    if runs.is_empty() {
        super::say("no run is recorded yet; start one: fumehood exec -- COMMAND");
        return Ok(ExitCode::SUCCESS);
    }
    shown(&table(&runs))
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error, failure::USAGE))
}

fn shown(text: &str) -> Result<ExitCode, Failure> {
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// One line a run, its id as short as it stays unique.
fn table(runs: &[RunSummary]) -> String {
    let short = unique_length(runs);
    let rows: Vec<[String; 5]> = runs
        .iter()
        .map(|run| {
            [
                run.run.as_str().get(..short).unwrap_or_default().to_owned(),
                run.started.get(..16).unwrap_or_default().replace('T', " "),
                state(&run.state),
                visible(&run.policy),
                one_line(&format!("{}: {}", run.command, run.task)),
            ]
        })
        .collect();
    let head = ["RUN", "STARTED (UTC)", "STATE", "POLICY", "WHAT"].map(str::to_owned);
    let width = |column: usize| {
        std::iter::once(&head)
            .chain(&rows)
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text + &row[4]
    };
    let mut lines = vec![format!("{BOLD}{}{BOLD:#}", line(&head))];
    lines.extend(
        rows.iter()
            .zip(runs)
            .map(|(row, run)| coloured(&line(row), &row[2], &run.state)),
    );
    lines.join("\n")
}

/// The state in its colour; widths were counted without.
fn coloured(line: &str, word: &str, state: &RunState) -> String {
    let colour = match state {
        RunState::Finished { exit_code: 0, .. } => AnsiColor::Green,
        RunState::Running { .. } => AnsiColor::Cyan,
        RunState::Finished { .. } => AnsiColor::Yellow,
        RunState::Crashed | RunState::Unreadable { .. } => AnsiColor::Red,
    };
    let style = Style::new().fg_color(Some(Color::Ansi(colour)));
    line.replacen(word, &format!("{style}{word}{style:#}"), 1)
}

fn unique_length(runs: &[RunSummary]) -> usize {
    let mut ids: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    ids.sort_unstable();
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    ids.windows(2)
        .map(|pair| common(pair[0], pair[1]) + 1)
        .max()
        .unwrap_or(0)
        .max(SHORT)
}

fn state(state: &RunState) -> String {
    match state {
        RunState::Running { pid: Some(pid) } => format!("running (process {pid})"),
        RunState::Running { pid: None } => "running".to_owned(),
        RunState::Finished { exit_code: 0, .. } => "finished".to_owned(),
        RunState::Finished { exit_code, .. } => format!("ended with {exit_code}"),
        RunState::Crashed => "crashed".to_owned(),
        RunState::Unreadable { .. } => "unreadable".to_owned(),
    }
}

fn one_line(text: &str) -> String {
    const COLUMNS: usize = 72;
    let line = visible(text.lines().next().unwrap_or_default());
    match line.chars().count() > COLUMNS {
        true => line.chars().take(COLUMNS - 1).collect::<String>() + "…",
        false => line,
    }
}

fn show(run: &StoredRun, form: As) -> Result<ExitCode, Failure> {
    let events = run.events().map_err(failed)?;
    if form == As::Json {
        for record in events {
            let record = record.map_err(failed)?;
            let line = serde_json::to_string(&record)
                .map_err(|error| Failure::of(&error, failure::USAGE))?;
            print(&line)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let summary = run.summary();
    let mut text = header(&summary);
    let mut fault = None;
    for record in events {
        match record {
            Ok(record) => {
                let since = seconds(&summary.started, &record.time);
                text.push_str(&timeline::lines(since, &record.event));
            }
            Err(error) => fault = Some(failed(error)),
        }
    }
    print(&text)?;
    match fault {
        Some(fault) => Err(fault),
        None => {
            let verified = run.verify().map_err(failed)?;
            print(&format!("\n{}", verdict(run.id(), &verified)))?;
            Ok(exit_of(&verified))
        }
    }
}

fn header(summary: &RunSummary) -> String {
    let took = match summary.state {
        RunState::Finished { .. } => {
            format!(", {:.1} s", seconds(&summary.started, &summary.last))
        }
        _ => String::new(),
    };
    let why = match &summary.state {
        RunState::Unreadable { why } => format!(": {}", visible(why)),
        _ => String::new(),
    };
    let rows = [
        ("run", summary.run.to_string()),
        (
            "what",
            visible(&format!("{}: {}", summary.command, summary.task)),
        ),
        ("policy", visible(&summary.policy)),
        ("workspace", visible(&summary.workspace)),
        (
            "model",
            summary.model.as_deref().map(visible).unwrap_or_default(),
        ),
        ("started", visible(&summary.started)),
        ("state", format!("{}{took}{why}", state(&summary.state))),
    ];
    let mut text = String::new();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{DIM}{name:<10}{DIM:#} {value}\n"));
    }
    text.push('\n');
    text
}

/// Seconds from one time of a record to another; 0 where they are none.
fn seconds(from: &str, to: &str) -> f64 {
    match (from.parse::<Timestamp>(), to.parse::<Timestamp>()) {
        (Ok(from), Ok(to)) => to.duration_since(from).as_secs_f64(),
        _ => 0.0,
    }
}

fn logs(run: &StoredRun, step: Option<StepNumber>, stream: Stream) -> Result<ExitCode, Failure> {
    let steps = match step {
        Some(step) => vec![step],
        None => run.steps().map_err(failed)?,
    };
    if steps.is_empty() {
        super::say(&format!("run {}: nothing was executed", run.id()));
    }
    let terminal = io::stdout().is_terminal();
    for step in &steps {
        let mut log = run.log(*step, stream).map_err(failed)?;
        if terminal && steps.len() > 1 {
            super::say(&format!("{BOLD}step {step}, {stream}{BOLD:#}"));
        }
        let copied = match terminal {
            true => copy(&mut log, Some(Sanitiser::new(LINE))),
            false => copy(&mut log, None),
        };
        match copied {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(Failure::of(&error, failure::USAGE)),
            Ok(()) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Redacted by what is known today, whatever was known then.
fn copy(log: &mut impl Read, mut sanitiser: Option<Sanitiser>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut redacting = super::hush::redactor().stream();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = log.read(&mut buffer)?;
        let mut decided = Vec::new();
        match &mut sanitiser {
            None => redacting.push(&buffer[..count], &mut decided),
            Some(sanitiser) => {
                let text = match count {
                    0 => sanitiser.finish(),
                    count => sanitiser.push(&buffer[..count]),
                };
                redacting.push(text.as_bytes(), &mut decided);
            }
        }
        if count == 0 {
            redacting.finish(&mut decided);
        }
        out.write_all(&decided)?;
        if count == 0 {
            return out.flush();
        }
    }
}

fn verify(run: &StoredRun, form: As) -> Result<ExitCode, Failure> {
    let verified = run.verify().map_err(failed)?;
    match form {
        As::Json => print(&to_json(&as_value(run.id(), &verified))?)?,
        As::Words => print(&verdict(run.id(), &verified))?,
    }
    Ok(exit_of(&verified))
}

fn exit_of(verified: &Verified) -> ExitCode {
    match verified {
        Verified::Intact { .. } | Verified::Torn { .. } => ExitCode::SUCCESS,
        Verified::Broken { .. } => ExitCode::from(BROKEN),
    }
}

fn verdict(run: &RunId, verified: &Verified) -> String {
    let green = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
    let yellow = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
    let red = Style::new()
        .bold()
        .fg_color(Some(Color::Ansi(AnsiColor::Red)));
    match verified {
        Verified::Intact { records, head } => format!(
            "{green}intact{green:#}: {records} records of run {run}\nhead   {}",
            head.hash
        ),
        Verified::Torn { records, head } => format!(
            "{yellow}intact up to a crash{yellow:#}: {records} records of run {run}, and one that was cut off while it was written\nhead   {}",
            head.hash
        ),
        Verified::Broken { line, why } => {
            format!("{red}broken{red:#}: run {run}, record {line}: {why}")
        }
    }
}

fn as_value(run: &RunId, verified: &Verified) -> Value {
    match verified {
        Verified::Intact { records, head } => {
            json!({"run": run, "verdict": "intact", "records": records, "head": head.hash})
        }
        Verified::Torn { records, head } => {
            json!({"run": run, "verdict": "torn", "records": records, "head": head.hash})
        }
        Verified::Broken { line, why } => {
            json!({"run": run, "verdict": "broken", "record": line, "why": why.to_string()})
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
