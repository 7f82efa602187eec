//! libgit2's smart protocol over [`Link`]: its only way to a network.
//!
//! libgit2 finds transports by a table of the process and gives them nothing of ours to hold, so the
//! link of a clone is left where the thread that runs it finds it.

use super::body::Body;
use super::link::Link;
use git2::transport::{self, Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{ConfigLevel, opts};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

/// Wants and haves of one round; ours are a few hundred bytes.
const MAX_REQUEST: usize = 1 << 20;

thread_local! {
    static LINK: RefCell<Option<Arc<Link>>> = const { RefCell::new(None) };
}

/// Prepares libgit2, once for the process: no configuration of the user or the system is read, and
/// `http:` and `https:` go through our transport. Call it before other threads use libgit2.
pub fn set_up() -> Result<(), super::RepoError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| prepare().map_err(|error| error.message().to_owned()))
        .clone()
        .map_err(|why| super::RepoError::Damaged { why })
}

#[expect(
    unsafe_code,
    reason = "libgit2's settings are of the process; OnceLock lets one thread set them, before any use in this room"
)]
fn prepare() -> Result<(), git2::Error> {
    // A folder that cannot exist: beneath a file.
    let nowhere = "/dev/null/none";
    for level in [
        ConfigLevel::ProgramData,
        ConfigLevel::System,
        ConfigLevel::XDG,
        ConfigLevel::Global,
    ] {
        // SAFETY: see the reason above.
        unsafe { opts::set_search_path(level, nowhere)? };
    }
    for scheme in ["http", "https"] {
        // SAFETY: see the reason above.
        unsafe {
            transport::register(scheme, |remote| {
                let link = LINK.with_borrow(Clone::clone).ok_or_else(|| {
                    git2::Error::from_str("no transfer was prepared on this thread")
                })?;
                // Stateless: each round is a request of its own.
                Transport::smart(remote, true, Subtransport { link })
            })?;
        }
    }
    Ok(())
}

/// Runs `work` with `link` as this thread's way to the network.
pub(super) fn with_link<T>(link: &Arc<Link>, work: impl FnOnce() -> T) -> T {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            LINK.set(None);
        }
    }
    LINK.set(Some(Arc::clone(link)));
    let _restore = Restore;
    work()
}

struct Subtransport {
    link: Arc<Link>,
}

impl SmartSubtransport for Subtransport {
    /// The URL is not looked at: the link knows where it leads.
    fn action(
        &self,
        _url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let state = match service {
            Service::UploadPackLs => State::Refs,
            Service::UploadPack => State::Asking(Vec::new()),
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is ever pushed"));
            }
        };
        Ok(Box::new(Stream {
            link: Arc::clone(&self.link),
            state,
        }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// One request and its answer.
struct Stream {
    link: Arc<Link>,
    state: State,
}

enum State {
    Refs,
    Asking(Vec<u8>),
    Answering(Box<Body>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let answer = match &mut self.state {
                State::Answering(body) => return body.read(buffer),
                State::Refs => self.link.get_refs(),
                State::Asking(request) => self.link.post(std::mem::take(request)),
            };
            self.state = State::Answering(Box::new(answer.map_err(|error| {
                self.link.keep(error);
                io::Error::other("the request failed")
            })?));
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Asking(request) if request.len() + bytes.len() <= MAX_REQUEST => {
                request.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(io::Error::other("no request is being made")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
