//! What the terminal is like.

use terminal_size::{Width, terminal_size_of};

/// Columns where the terminal does not say.
const COLUMNS: usize = 100;

/// Columns of the terminal that standard error is.
pub(super) fn columns() -> usize {
    terminal_size_of(std::io::stderr())
        .map_or(COLUMNS, |(Width(columns), _)| columns.max(20).into())
}
