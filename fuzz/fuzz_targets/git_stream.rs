//! What a git server sends, lines and packs: read the same however it is cut, and within its bounds.
//!
//! Ran for 10 minutes of processor time (15 million inputs) on Debian 12, a loaded machine of two cores, in November 2026:
//! nothing found since an input showed a property of its own to be too strict.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::git_stream(data));
