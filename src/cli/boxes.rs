//! `fumehood box`: a sandbox that stays, for scripts and other agents.

mod transfer;

use super::args::{BoxArgs, BoxCommand, BoxExecArgs, OpenArgs};
use super::client;
use super::doors::Answers;
use super::failure::{self, Failure};
use super::hold::{Held, Hold, Launched, holder_failure, holder_usage, launch};
use super::{exec, hold, print, request, signals};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::holder::{self, BoxName, Boxes, HolderError, HolderStatus, Listed};
use crate::policy::action::Origin;
use crate::policy::unit;
use crate::protocol::spec::WORKSPACE_TARGET;
use crate::record::{RunState, RunSummary, StoredRun};
use crate::tools::bench::ExecRequest;
use anstyle::Style;
use serde_json::json;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

const BOLD: Style = Style::new().bold();

pub(super) async fn boxes(config: &Config, args: BoxArgs) -> Result<ExitCode, Failure> {
    match args.command {
        BoxCommand::Open(args) => open(config, &args).await,
        BoxCommand::Exec(args) => run(config, args).await,
        BoxCommand::Put {
            name,
            source,
            target,
        } => {
            let found = find(config, &name)?;
            transfer::put(&found, &source, &target).await
        }
        BoxCommand::Get {
            name,
            source,
            target,
        } => {
            let found = find(config, &name)?;
            transfer::get(&found, &source, &target).await
        }
        BoxCommand::List { json } => list(config, json).await,
        BoxCommand::Close { name } => close(config, &name).await,
    }
}

async fn open(config: &Config, args: &OpenArgs) -> Result<ExitCode, Failure> {
    let name = match args.name.as_deref() {
        Some(given) => BoxName::parse(given).map_err(holder_usage)?,
        None => BoxName::fresh(),
    };
    // What makes no sense is said without starting anything.
    request::sandbox(config, &args.sandbox)?;
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let hold = Hold {
        sandbox: &args.sandbox,
        service: Held::Box {
            name: &name,
            idle_timeout: &args.idle_timeout,
        },
    };
    match launch(hold, &cancel).await? {
        Launched::Up(up) => {
            print(&up.name.unwrap_or_default())?;
            Ok(ExitCode::SUCCESS)
        }
        Launched::Ended(code) => Ok(code),
    }
}

async fn run(config: &Config, args: BoxExecArgs) -> Result<ExitCode, Failure> {
    let found = find(config, &args.name).map_err(exec::own)?;
    let argv = args.command.into_iter().map(OsStringExt::into_vec);
    let command = ExecRequest {
        origin: Origin::Typed,
        argv: argv.collect(),
        cwd: args.cwd.unwrap_or_else(|| WORKSPACE_TARGET.to_owned()),
        env: request::environment(config, &args.env).map_err(exec::own)?,
        wall_ms: request::timeout(args.timeout.as_deref()).map_err(exec::own)?,
    };
    let cancel = signals::cancel_but_leave().map_err(|e| Failure::of(&e, failure::EXEC_OWN))?;
    let command = (&command, exec::passing(args.raw));
    client::exec(found.dir(), command, Answers::of(args.yes), &cancel).await
}

fn find(config: &Config, name: &str) -> Result<StoredRun, Failure> {
    let name = BoxName::parse(name).map_err(|_| {
        holder_usage(HolderError::NoSuchBox {
            name: visible(name),
        })
    })?;
    Boxes::open(&config.state).find(&name).map_err(holder_usage)
}

async fn close(config: &Config, name: &str) -> Result<ExitCode, Failure> {
    let found = find(config, name)?;
    holder::say_close(found.dir())
        .await
        .map_err(|error| holder_failure(&error, failure::SANDBOX))?;
    match hold::over(&found).await {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::new(
            "the run is closed, and its holder does not end",
            failure::SANDBOX,
        )
        .remedy(Some(format!("fumehood runs stop {}", found.id())))),
    }
}

/// One box, as it stands.
struct Row {
    name: BoxName,
    summary: RunSummary,
    /// `None`: its holder does not answer.
    status: Option<HolderStatus>,
}

async fn list(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let Listed { living, gone } = Boxes::open(&config.state).list().map_err(holder_usage)?;
    for name in gone {
        super::say(&format!(
            "box {} is gone: its holder was killed; what it left is cleared away with the next run",
            name.as_str()
        ));
    }
    let mut rows = Vec::new();
    for (name, run) in living {
        let status = holder::status(run.dir()).await.ok();
        rows.push(Row {
            summary: run.summary(),
            name,
            status,
        });
    }
    match json {
        true => {
            let all: Vec<_> = rows.iter().map(as_value).collect();
            let text = serde_json::to_string_pretty(&all)
                .map_err(|error| Failure::of(&error, failure::USAGE))?;
            print(&text)?;
        }
        false if rows.is_empty() => super::say("no box is open; open one: fumehood box open"),
        false => print(&table(&rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_value(row: &Row) -> serde_json::Value {
    let pid = match row.summary.state {
        RunState::Running { pid } => pid,
        _ => None,
    };
    json!({
        "name": row.name.as_str(),
        "run": row.summary.run,
        "policy": row.summary.policy,
        "workspace": row.summary.workspace,
        "started": row.summary.started,
        "pid": pid,
        "answers": row.status.is_some(),
        "steps": row.status.as_ref().map(|status| &status.steps),
        "idle_ms": row.status.as_ref().map(|status| status.idle_ms),
        "idle_timeout_ms": row.status.as_ref().and_then(|status| status.idle_timeout_ms),
    })
}

fn table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        [
            row.name.as_str().to_owned(),
            row.summary.run.as_str().chars().take(13).collect(),
            visible(&row.summary.policy),
            state(row.status.as_ref()),
            visible(&row.summary.workspace),
        ]
    });
    let head = ["NAME", "RUN", "POLICY", "STATE", "WORKSPACE"].map(str::to_owned);
    let all: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| {
        let widths = all.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..4).map(width).collect();
    let lines = all.iter().enumerate().map(|(index, row)| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.push_str(&row[4]);
        match index {
            0 => format!("{BOLD}{line}{BOLD:#}"),
            _ => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn state(status: Option<&HolderStatus>) -> String {
    let Some(status) = status else {
        return "does not answer".to_owned();
    };
    match (status.steps.len(), status.idle_timeout_ms) {
        (1, _) => "1 step runs".to_owned(),
        (0, None) => "idle".to_owned(),
        (0, Some(limit)) => {
            // Whole seconds: nobody counts finer.
            let idle = unit::time(status.idle_ms / 1000 * 1000);
            format!("idle {idle} of {}", unit::time(limit))
        }
        (steps, _) => format!("{steps} steps run"),
    }
}
