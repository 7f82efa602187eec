//! The workspace: the one folder of the host that a sandbox writes in, and our own work beneath it.
//!
//! ```text
//!   in_place(DIR) ─┐                 ┌ read, write, edit, list     by descriptor, no link followed
//!   fresh(run)    ─┴─▶ Workspace ────┼ snapshot ─▶ code tree, changes, what a question shows
//!                     (locked)       ├ receive, send               files of any size, piece by piece
//!                                    ├ unpack                      archives, as hostile as who made them
//!                                    ├ protected                   what stays read-only inside
//!                                    ├ collect                     results, copied out at the end
//!                                    └ quarantine                  what may not stay behind
//! ```
//!
//! Everything in it may have been put there by a hostile program, and may change while we look.
//! Nothing here mounts, runs or asks; who decides is the gate, who mounts is the sandbox.

mod artifacts;
mod before;
mod beneath;
mod changes;
mod collect;
mod error;
mod files;
mod fit;
mod hash;
mod known;
mod lock;
mod named;
mod names;
mod place;
mod quarantine;
mod remove;
mod snapshot;
mod stream;
mod texts;
mod traps;
mod unpack;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use unpack::fuzz;
mod walk;

pub use artifacts::Artifacts;
pub use beneath::Beneath;
pub use changes::{Change, ChangeKind, ViewRequest, Views, changes, unified};
pub use collect::{CollectedFile, Destination, Results, Share};
pub use error::{Nearest, WorkspaceError};
pub use files::{Edited, Listed, ListedKind, Listing, MAX_EDIT, Written};
pub use hash::Hash;
pub use named::{Named, read_named};
pub use names::names_artifact;
pub use place::{Opening, Place, Stock, Workspace, make_authorities, make_blank, make_home};
pub use quarantine::{Done, Quarantined};
pub use remove::{remove_tree, size_on_disk};
pub use snapshot::{Entry, Snapshot, SnapshotRequest, code_tree};
pub use stream::{Incoming, Outgoing};
pub use texts::{MAX_TEXT, Texts};
pub use traps::Why;
pub use unpack::{Bounds, Extraction, Fault, Left, Tap, Unpacked};
pub use walk::{Kind, MAX_ENTRIES, Stamp};
