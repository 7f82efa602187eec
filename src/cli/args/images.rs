//! `fumehood images`, as typed.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "\
Recipes: base (Python, uv, common tools), cpu (base and the usual packages, PyTorch without CUDA), cuda (with). \
`base` without --base is made from the packages of this machine's own Debian or Ubuntu: no image is needed. \
Nothing is pulled but by `pull`: --base names an image of the engine, or one of `fumehood images list`.")]
pub(in crate::cli) struct ImagesArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ImagesCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImagesCommand {
    /// Build an image; `--image NAME` finds it from then on
    Build {
        /// The recipe: base, cpu, cuda
        name: String,
        /// The image it begins with; it must be there already
        #[arg(long, value_name = "REF")]
        base: Option<String>,
        /// The engine's network that its downloads go through [default: the engine's usual one]
        #[arg(long, value_name = "NETWORK")]
        network: Option<String>,
        /// A value of the recipe, as in TORCH=torch==2.9.1; TORCH= leaves it out
        #[arg(long = "arg", value_name = "NAME=VALUE")]
        arguments: Vec<String>,
    },
    /// Have the engine fetch an image from its registry, by digest, where the policy has image.pull = "ask"
    Pull {
        /// REPOSITORY@sha256:DIGEST
        reference: String,
        /// What `--image` is to call it [default: the last part of the repository]
        #[arg(long)]
        name: Option<String>,
        /// Policy: a built-in's name, a file, or a name in your policy folder
        #[arg(long, value_name = "NAME|FILE", default_value = "offline-train")]
        policy: String,
        /// Change one value of the policy, as in image.pull=ask
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Unpack an image, for the namespace backend
    Import {
        /// An archive (`docker save`, an OCI layout, a root file system), or engine:REF
        source: String,
        /// What `--image` is to call it
        name: String,
    },
    /// The images built or unpacked here
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One image: its id, when and from what it was made
    Show {
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget an image: what is unpacked of it, and its name in the engine
    Remove { name: String },
}
