//! Trees as no git would make them: judged and written whole or not at all, nothing beside their folder, no link,
//! no odd mode, no `.git`.
//!
//! Ran for 12 minutes (222 s of processor time, 1.8 million inputs) on Debian 12, a loaded machine of two cores, in
//! November 2026.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::git_tree(data));
