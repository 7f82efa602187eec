//! What PID 1 gives up for good before it serves. Every step inherits it.

use super::failure::{At, Result};
use crate::limits::NO_DUMPS;
use crate::wire::Stage;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Version 3 of the capability structures: two words of 32 bits.
const VERSION_3: u32 = 0x2008_0522;

/// A uid of 0 gives nothing, a change of uid keeps nothing, nothing ambient; all locked.
const SECURE_BITS: libc::c_int = libc::SECBIT_NOROOT
    | libc::SECBIT_NOROOT_LOCKED
    | libc::SECBIT_NO_SETUID_FIXUP
    | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
    | libc::SECBIT_KEEP_CAPS_LOCKED
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

pub(super) fn drop_everything() -> Result<()> {
    no_dumps().at(Stage::Lock, "RLIMIT_CORE")?;
    empty_bounding_set().at(Stage::Lock, "empty the bounding set")?;
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
    )
    .at(Stage::Lock, "clear ambient capabilities")?;
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS as libc::c_ulong)
        .at(Stage::Lock, "lock the secure bits")?;
    drop_capabilities().at(Stage::Lock, "drop capabilities")?;
    nix::sys::prctl::set_no_new_privs().at(Stage::Lock, "set no_new_privs")?;
    nix::sys::prctl::set_dumpable(false).at(Stage::Lock, "become undumpable")
}

/// As [`NO_DUMPS`] says, or as little as the host allows.
fn no_dumps() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = NO_DUMPS.min(most);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)
}

/// Up to the first number this kernel does not know.
fn empty_bounding_set() -> nix::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            Err(Errno::EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[expect(unsafe_code, reason = "capset has no wrapper")]
fn drop_capabilities() -> nix::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // Effective, permitted, inheritable; low words, then high words.
    let none = [0u32; 6];
    // SAFETY: both structures have the layout of version 3 and outlive the call, which reads them.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(done).map(drop)
}

#[expect(unsafe_code, reason = "prctl options without a wrapper")]
fn prctl(option: libc::c_int, value: libc::c_ulong) -> nix::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options used here take integers only.
    Errno::result(unsafe { libc::prctl(option, value, none, none, none) }).map(drop)
}
