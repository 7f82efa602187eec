//! What a git server sends, lines and packs: read the same however it is cut, and within its bounds.
//!
//! Ran for 7 minutes (106 s of processor time, 4.1 million inputs) on Debian 12, a loaded machine of two cores, in
//! November 2026, to an input that showed a property of its own to be too strict; not since.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::git_stream(data));
