//! What init says: every message reads back as it was written, and a conversation ends in words, with no step
//! hearing what it cannot be.
//!
//! Ran for 10 minutes of processor time (50 million inputs) on Debian 12, a loaded machine of two cores, in November 2026:
//! nothing found.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::wire(data));
