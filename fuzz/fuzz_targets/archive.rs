//! Archives, unpacked as a user's and as layers of an image: within their bounds and their folder, plain files and
//! folders with usual modes, links in images only.
//!
//! Ran for 90 minutes (1.3 million inputs; most of that time it waited for a disk) on Debian 12, a loaded machine of two cores, in November 2026:
//! nothing found.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::archive(data));
