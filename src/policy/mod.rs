//! Decisions about what may happen: pure functions from values to values.

pub mod action;
pub mod builtin;
pub mod defaults;
#[cfg(test)]
mod fixture;
pub mod gate;
mod git_spelling;
pub mod git_url;
pub mod inline;
pub mod judge;
pub mod model;
pub mod names;
pub mod permit;
mod text;
pub mod unit;
