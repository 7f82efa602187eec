//! The dynamic loader's cache (`/etc/ld.so.cache`), read: which library is where. Pure.
//!
//! A header, entries of 24 bytes, then texts; offsets count from the header
//! ([glibc, `dl-cache.h`](https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/generic/dl-cache.h)).

use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// What `flags` says about a library of this machine's own kind.
#[cfg(target_arch = "x86_64")]
const OWN: u32 = 0x0303;
#[cfg(target_arch = "aarch64")]
const OWN: u32 = 0x0a03;

/// A cached library: its name, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The libraries of this architecture; empty where the bytes are no such cache.
pub(super) fn parse(bytes: &[u8]) -> Vec<Cached> {
    // Older systems put it behind a cache of an older form.
    let start = bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .unwrap_or(bytes.len());
    let cache = &bytes[start..];
    let count = number(cache, MAGIC.len()).unwrap_or(0);
    (0..count)
        .map_while(|index| entry(cache, usize::try_from(index).ok()?))
        .flatten()
        .collect()
}

/// `None` past the end, `Some(None)` for one that is not ours.
fn entry(cache: &[u8], index: usize) -> Option<Option<Cached>> {
    let at = HEADER.checked_add(index.checked_mul(ENTRY)?)?;
    let flags = number(cache, at)?;
    let name = text(cache, number(cache, at + 4)?)?;
    let path = text(cache, number(cache, at + 8)?)?;
    let ours = flags & 0xffff == OWN && Path::new(path).is_absolute();
    Some(ours.then(|| Cached {
        name: name.to_owned(),
        path: path.into(),
    }))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn text(bytes: &[u8], at: u32) -> Option<&str> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_loaders_own_cache_says_where_the_c_library_is() {
        let cached = parse(&std::fs::read("/etc/ld.so.cache").unwrap());
        let libc = cached.iter().find(|one| one.name == "libc.so.6").unwrap();
        assert!(libc.path.exists(), "{libc:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(rest);
            let _ = parse(&bytes);
        }
    }
}
