//! How much is left where only this sandbox can write.

use crate::wire::Room;
use nix::sys::statvfs::statvfs;
use std::ffi::CStr;

/// Of the file system at that place.
pub fn of(place: &CStr) -> Option<Room> {
    let found = statvfs(place).ok()?;
    let bytes = |blocks: libc::fsblkcnt_t| blocks.saturating_mul(found.fragment_size());
    Some(Room {
        bytes: [found.blocks(), found.blocks_available()].map(bytes),
        files: [found.files(), found.files_free()],
    })
}
