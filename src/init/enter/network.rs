//! The host name, and a loopback that leads nowhere.

use super::failure::{At, Result};
use crate::wire::Stage;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// A second address. With 127.0.0.1 alone, glibc's `AI_ADDRCONFIG` finds that there is no IPv4 and
/// answers no IPv4 query at all, not even for `localhost`.
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

pub(super) fn set_up(hostname: &str) -> Result<()> {
    nix::unistd::sethostname(hostname).at(Stage::Network, "set the host name")?;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .at(Stage::Network, "socket")?;
    raise_loopback(&socket).at(Stage::Network, "raise the loopback")?;
    add_address(&socket).at(Stage::Network, "give the loopback an address")
}

fn raise_loopback(socket: &OwnedFd) -> nix::Result<()> {
    let mut request = named(b"lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ask(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn add_address(socket: &OwnedFd) -> nix::Result<()> {
    let mut request = named(b"lo:1");
    request.ifr_ifru.ifru_addr = socket_address(SECOND);
    ask(socket, libc::SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::BROADCAST);
    ask(socket, libc::SIOCSIFNETMASK, &mut request)
}

#[expect(unsafe_code, reason = "a C structure that is valid when zero")]
fn named(name: &[u8]) -> libc::ifreq {
    // SAFETY: every field of `ifreq` is an integer, an array of them, or a pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

/// An `AF_INET` address in the generic structure: family, port, then the four bytes.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

#[expect(unsafe_code, reason = "ioctl on a network interface")]
fn ask(socket: &OwnedFd, what: libc::Ioctl, request: &mut libc::ifreq) -> nix::Result<()> {
    // SAFETY: these requests read and write one `ifreq`, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    Errno::result(done).map(drop)
}
