//! `runs gc`: what may go, goes.

use super::one_line;
use crate::app::{self, Removal};
use crate::cli::failure::{self, Failure};
use crate::cli::{print, request, say};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::holder::Boxes;
use bytesize::ByteSize;
use std::process::ExitCode;
use std::time::Duration;

/// Something resisted.
const LEFT: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Say,
    Remove,
}

pub(super) async fn gc(config: &Config, older_than: &str, how: How) -> Result<ExitCode, Failure> {
    let age = match older_than {
        // All that have ended.
        "0" | "0s" => Duration::ZERO,
        text => Duration::from_millis(request::duration_ms("--older-than", text)?),
    };
    let removal = (how == How::Remove).then_some(Removal);
    let collected = app::collect(config, age, removal)
        .await
        .map_err(|error| request::app_failure(&error, failure::USAGE))?;
    if how == How::Remove {
        // Names of killed boxes; one that does not go is swept by the next look.
        let _ = Boxes::open(&config.state).list();
    }
    let mut lines: Vec<String> = collected
        .runs
        .iter()
        .map(|gone| {
            format!(
                "{}  {:>10}  {}  {}",
                gone.run,
                ByteSize(gone.bytes).to_string(),
                gone.last.get(..16).unwrap_or_default().replace('T', " "),
                one_line(&gone.what),
            )
        })
        .collect();
    let bytes = ByteSize(collected.runs.iter().map(|gone| gone.bytes).sum());
    let count = match collected.runs.len() {
        1 => "1 run".to_owned(),
        count => format!("{count} runs"),
    };
    lines.push(match how {
        How::Say => format!("{count}, {bytes}, would be removed"),
        How::Remove => format!("{count}, {bytes}, removed; their heads are kept in heads.jsonl"),
    });
    print(&lines.join("\n"))?;
    for name in &collected.swept {
        say(&format!(
            "cleared away what was left of sandbox {}",
            visible(name)
        ));
    }
    for failure in &collected.failures {
        say(&format!("left: {}", visible(failure)));
    }
    Ok(match collected.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(LEFT),
    })
}
