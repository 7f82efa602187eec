//! Archives, unpacked as a user's and as layers of an image: within their bounds and their folder, plain files and
//! folders with usual modes, links in images only.
//!
//! Over its seeds only so far.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fumehood::fuzz::archive(data));
