//! Git over smart HTTP on loopback: an honest server, and the parts for dishonest ones.
//!
//! [`GitServer`] serves one repository through `git upload-pack`, as `git http-backend` would.
//! [`HttpServer`] answers each request with whatever a test wants.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One request, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn wants_refs(&self) -> bool {
        self.target.contains("/info/refs")
    }
}

type Handler = dyn Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// Serves on a loopback port until dropped: one request for each connection.
pub(crate) struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    pub(crate) fn start(
        handler: impl Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            stop: Arc::default(),
            requests: Arc::default(),
        };
        let handler: Arc<Handler> = Arc::new(handler);
        let (stop, requests) = (Arc::clone(&server.stop), Arc::clone(&server.requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                thread::spawn(move || {
                    // A client that gives up is part of many tests.
                    let _gone = stream.and_then(|stream| serve(stream, &*handler, &requests));
                });
            }
        });
        server
    }

    /// `http://127.0.0.1:PORT/`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _wakes_the_listener = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(ToOwned::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .and_then(|n| n.parse().ok());
    reader
        .take(length.unwrap_or(0))
        .read_to_end(&mut request.body)?;
    log.lock().unwrap().push(request.clone());
    let mut stream = stream;
    handler(&request, &mut stream)
}

/// A whole answer.
pub(crate) fn reply(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    begin(stream, status, headers)?;
    stream.write_all(body)?;
    stream.flush()
}

/// Status and headers; the body that follows ends with the connection.
pub(crate) fn begin(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())
}

pub(crate) const REFS: (&str, &str) = (
    "Content-Type",
    "application/x-git-upload-pack-advertisement",
);
pub(crate) const RESULT: (&str, &str) = ("Content-Type", "application/x-git-upload-pack-result");

/// Begins an answer that git's clients take for one.
pub(crate) fn begin_git(request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    let kind = if request.wants_refs() { REFS } else { RESULT };
    begin(stream, "200 OK", &[kind])
}

/// A pkt-line.
pub(crate) fn pkt(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// An honest server for one repository, bare or not, reached as `…/repo.git`.
pub(crate) struct GitServer {
    http: HttpServer,
}

impl GitServer {
    pub(crate) fn start(repository: &Path) -> Self {
        Self::with(repository, &["uploadpack.allowAnySHA1InWant=true"])
    }

    /// With settings of git's own, `key=value`.
    pub(crate) fn with(repository: &Path, settings: &[&str]) -> Self {
        let repository = repository.to_owned();
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        let http = HttpServer::start(move |request, stream| {
            upload_pack(&repository, &settings, request, stream)
        });
        Self { http }
    }

    /// The repository's URL.
    pub(crate) fn url(&self) -> String {
        format!("{}repo.git", self.http.url())
    }

    /// The prefix for `[git] remotes`.
    pub(crate) fn prefix(&self) -> String {
        self.http.url()
    }
}

/// Answers one request of a fetch, as `git http-backend` does.
pub(crate) fn upload_pack(
    repository: &Path,
    settings: &[String],
    request: &Request,
    stream: &mut TcpStream,
) -> io::Result<()> {
    let path = request.target.split('?').next().unwrap_or_default();
    if !path.starts_with("/repo.git/") {
        return reply(stream, "404 Not Found", &[], b"no such repository");
    }
    let mut git = Command::new("git");
    for setting in settings {
        git.args(["-c", setting]);
    }
    git.args(["upload-pack", "--stateless-rpc", "--strict"])
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .stdout(Stdio::from(File::from(std::os::fd::OwnedFd::from(
            stream.try_clone()?,
        ))))
        .stderr(Stdio::null());
    match request.header("git-protocol") {
        Some(version) => git.env("GIT_PROTOCOL", version),
        None => git.env_remove("GIT_PROTOCOL"),
    };
    begin_git(request, stream)?;
    if request.wants_refs() {
        if request.header("git-protocol").is_none() {
            stream.write_all(&pkt(b"# service=git-upload-pack\n"))?;
            stream.write_all(b"0000")?;
        }
        let status = git
            .args(["--advertise-refs", "."])
            .current_dir(git_dir(repository))
            .stdin(Stdio::null())
            .status()?;
        assert!(status.success(), "git upload-pack: {status}");
        return Ok(());
    }
    assert_eq!(request.header("content-encoding"), None, "not understood");
    let mut child = git
        .arg(".")
        .current_dir(git_dir(repository))
        .stdin(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().unwrap().write_all(&request.body);
    // It may end before it read everything; what it said is what counts.
    let _status = child.wait()?;
    written
}

fn git_dir(repository: &Path) -> std::path::PathBuf {
    let inner = repository.join(".git");
    if inner.is_dir() {
        inner
    } else {
        repository.to_owned()
    }
}
