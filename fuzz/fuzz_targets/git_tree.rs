//! Trees as no git would make them: judged and written whole or not at all, nothing beside their folder, no link,
//! no odd mode, no `.git`.
//!
//! Ran for 10 minutes of processor time (1.1 million inputs) on Debian 12, a loaded machine of two cores, in November 2026:
//! nothing found.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::git_tree(data));
