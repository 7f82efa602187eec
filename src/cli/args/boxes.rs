//! What can be typed after `fumehood box`, and what its process is started with.

use super::SandboxArgs;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
  name=$(fumehood box open --policy dev-loop)
  fumehood box put $name train.py .
  fumehood box exec $name -- python3 train.py
  fumehood box get $name outputs/model.pt .
  fumehood box close $name

Exit codes: 0 done, 2 usage or no such box, 6 denied, 8 sandbox or holder, 130 interrupted. Of `box exec` \
those of `exec`.")]
pub(in super::super) struct BoxArgs {
    #[command(subcommand)]
    pub(in super::super) command: BoxCommand,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum BoxCommand {
    /// Start a sandbox that stays, and print its name once it is up
    Open(Box<OpenArgs>),
    /// Run one command in it, as `fumehood exec` does; several at once may run
    Exec(BoxExecArgs),
    /// Put a file into its workspace; folders on the way are made
    Put {
        /// The box
        name: String,
        /// A file of yours
        source: PathBuf,
        /// Where to in the workspace; a folder takes it under its own name
        target: String,
    },
    /// Get a file out of its workspace; folders on the way are made
    Get {
        /// The box
        name: String,
        /// A file in the workspace
        source: PathBuf,
        /// Where to; a folder takes it under its own name
        target: PathBuf,
    },
    /// The boxes there are
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop what runs in it, and end it
    Close {
        /// The box
        name: String,
    },
}

#[derive(Debug, Args)]
pub(in super::super) struct OpenArgs {
    #[command(flatten)]
    pub(in super::super) sandbox: SandboxArgs,
    /// Its name [default: one is made]
    #[arg(long, value_name = "NAME")]
    pub(in super::super) name: Option<String>,
    /// It ends by itself when nothing was asked of it for so long; or `unlimited`
    #[arg(long, value_name = "TIME", default_value = "30m")]
    pub(in super::super) idle_timeout: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: the program's own; 124 timed out, 125 Fumehood failed (usage and no such box included), \
126 denied or not executable, 127 not found in the sandbox, 128+N killed by signal N.")]
pub(in super::super) struct BoxExecArgs {
    /// The box
    pub(in super::super) name: String,
    /// Time limit, as in 90s, 30m, 2h; never above the policy's
    #[arg(long, value_name = "TIME")]
    pub(in super::super) timeout: Option<String>,
    /// Folder inside the sandbox to start in [default: /workspace]
    #[arg(long, value_name = "PATH")]
    pub(in super::super) cwd: Option<String>,
    /// A variable for this command: NAME=VALUE, or NAME to pass yours on
    #[arg(long = "env", value_name = "K=V")]
    pub(in super::super) env: Vec<String>,
    /// Pass known secrets on too, into a pipe or a file: the program's very bytes
    #[arg(long)]
    pub(in super::super) raw: bool,
    /// Answer yes to what lies inside the policy; what goes beyond it stays no
    #[arg(long)]
    pub(in super::super) yes: bool,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(in super::super) command: Vec<OsString>,
}

/// Of the process itself: nobody types it.
#[derive(Debug, Args)]
pub(in super::super) struct HoldArgs {
    #[command(flatten)]
    pub(in super::super) sandbox: SandboxArgs,
    #[arg(long)]
    pub(in super::super) name: Option<String>,
    #[arg(long, default_value = "unlimited")]
    pub(in super::super) idle_timeout: String,
    /// For one execution, which ends it.
    #[arg(long)]
    pub(in super::super) once: bool,
    /// For an agent with this model; its task is the command.
    #[arg(long, conflicts_with_all = ["once", "name"])]
    pub(in super::super) model: Option<String>,
    #[arg(long, default_value_t = 50)]
    pub(in super::super) max_turns: u32,
    #[arg(long)]
    pub(in super::super) window: Option<u64>,
    /// Who answers while nobody looks.
    #[arg(long, value_enum, default_value_t = AnswersArg::Nobody)]
    pub(in super::super) answers: AnswersArg,
    #[arg(last = true)]
    pub(in super::super) command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum AnswersArg {
    Yes,
    Person,
    Nobody,
}
