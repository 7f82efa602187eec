//! Decisions about what may happen: pure functions from values to values.
//!
//! ```text
//!   text ─ file ─▶ Policy ─┐
//!                          ├─ gate ─▶ permit, question or no        judge holds the reasons
//!   request ─▶ action ─────┘
//! ```
//!
//! [`schema`] is the one table of keys that reading, composing and explaining follow.

pub mod action;
pub mod builtin;
pub mod compare;
pub mod defaults;
pub mod explain;
pub mod file;
#[cfg(test)]
mod fixture;
pub mod gate;
mod git_spelling;
pub mod git_url;
pub mod inline;
pub mod json_schema;
pub mod judge;
pub mod meet;
pub mod model;
pub mod names;
pub mod network;
mod network_address;
mod network_pattern;
pub mod origin;
pub mod permit;
mod schema;
mod text;
pub mod unit;
mod value;
