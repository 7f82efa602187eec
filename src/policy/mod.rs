//! Decisions about what may happen: pure functions from values to values.

pub mod action;
pub mod git_url;
pub mod model;
pub mod names;
pub mod permit;
