//! What can be typed after `fumehood runs`.

use clap::{Args, Subcommand};

const ATTACH: &str = "\
Of an agent's run (`run`, `demo`) all that happens is shown, and what it asks can be answered; of others, and \
with --step, a step's output. Ctrl-C stops the agent or the step where its run is held by a process of its \
own (a box, or `on_disconnect = \"finish\"`); else it only ends the looking, as TERM and a closed terminal do in \
any case. Exit codes: those of `run`; of a \
step its own, as of `exec`; 125 where it has none.";

const GC: &str = "\
A run's folder holds its record, its logs, and its own workspace where it had one. Folders of yours \
(--workspace) are not touched. Also clears up what killed runs left: homes, containers, cgroups.";

#[derive(Debug, Args)]
pub(in super::super) struct RunsArgs {
    #[command(subcommand)]
    pub(in super::super) command: RunsCommand,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum RunsCommand {
    /// The runs on record, newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What happened in a run
    Show {
        /// The run's id, or an unambiguous beginning; `last` is the newest
        #[arg(default_value = "last")]
        run: String,
        /// The records as JSON lines
        #[arg(long)]
        json: bool,
    },
    /// The output of a run's steps
    Logs {
        /// The run's id, or an unambiguous beginning; `last` is the newest
        #[arg(default_value = "last")]
        run: String,
        /// One step only
        #[arg(long, value_name = "N")]
        step: Option<u32>,
        /// Standard error instead of standard output
        #[arg(long)]
        stderr: bool,
    },
    /// Check that a record is whole and unchanged
    Verify {
        /// The run's id, or an unambiguous beginning; `last` is the newest
        #[arg(default_value = "last")]
        run: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a run that goes on: as Ctrl-C does, then by force
    Stop {
        /// The run's id, or an unambiguous beginning; `last` is the newest
        run: String,
        /// How long it may take to stop in order
        #[arg(long, value_name = "TIME", default_value = "30s")]
        grace: String,
    },
    /// Take up a run again: what there was so far, then what comes, then its exit code
    #[command(after_help = ATTACH)]
    Attach {
        /// The run's id, or an unambiguous beginning; `last` is the newest
        #[arg(default_value = "last")]
        run: String,
        /// One step's output [default: the newest's; of an agent's run, all that happens]
        #[arg(long, value_name = "N")]
        step: Option<u32>,
    },
    /// Remove the folders of runs that have ended; their heads are kept
    #[command(after_help = GC)]
    Gc {
        /// Runs whose last record is older than this
        #[arg(long, value_name = "TIME", default_value = "7d")]
        older_than: String,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}
