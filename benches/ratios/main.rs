//! `make bench`: figures as ratios, all of one run. What is compared is measured beside it, sample by
//! sample in turn, so that a busy machine slows both; absolute aims are for an idle one. Nothing here
//! is a test: a figure that misses its aim is said, and the bench ends with 0.
//!
//! `cargo bench --bench ratios -- WORD…` measures only the sections whose names hold one of the words.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench is there to print"
)]

mod agent;
mod cold;
mod command;
mod crowd;
mod first_request;
mod host;
mod memory;
mod peer;
mod server;
mod stage;
mod stream;
mod table;
mod warm;

use anyhow::{Context, Result};
use peer::Engine;
use table::Table;

/// What is measured with.
struct Lab {
    /// `None` where no engine answers: the lines that need one say so.
    engine: Option<Engine>,
    table: Table,
    words: Vec<String>,
}

impl Lab {
    /// Whether the section was asked for; says that it begins.
    fn wants(&self, section: &str) -> bool {
        let wanted = self.words.is_empty()
            || self
                .words
                .iter()
                .any(|word| section.contains(word.as_str()));
        if wanted {
            eprintln!("measuring: {section}");
        }
        wanted
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    if let Ok(word) = std::env::var(crowd::HOLD) {
        println!("{}", runtime.block_on(crowd::hold(&word))?);
        return Ok(());
    }
    // As the command does: on the runtime's threads, where the connections are moved.
    runtime.block_on(async { tokio::spawn(measure()).await? })
}

async fn measure() -> Result<()> {
    let words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"));
    let mut lab = Lab {
        words: words.collect(),
        engine: Engine::find().await,
        table: Table::new(),
    };
    println!("{}", host::describe(lab.engine.as_ref()));
    let failed = sections(&mut lab).await;
    if let Some(engine) = lab.engine.take() {
        engine.end().await;
    }
    println!("{}", lab.table);
    failed
}

async fn sections(lab: &mut Lab) -> Result<()> {
    warm::measure(lab).await?;
    cold::measure(lab).await?;
    stream::measure(lab).await?;
    command::measure(lab).await?;
    agent::measure(lab).await?;
    first_request::measure(lab)?;
    memory::measure(lab)?;
    crowd::measure(lab)
}
