//! What programs print: plain text comes out, however the bytes are cut; plain text stays as it is; what was made
//! visible can be read back.
//!
//! Ran for 12 minutes (256 s of processor time, 1.5 million inputs) on Debian 12, a loaded machine of two cores, in
//! November 2026.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::sanitiser(data));
