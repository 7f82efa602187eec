//! The head of an HTTP request, read so that it has one meaning or none. Pure.
//!
//! [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112), narrowed: what two readers could read in two ways
//! (bare line ends, two lengths, folded lines, chunks with extensions) is refused.

/// Longest head, and most headers.
pub(super) const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;

/// How many of them we may add, so that what is written anew can be read again: a length, `Connection`, and the `Host`
/// that the client's own `Connection` took away.
const OURS: usize = 3;

/// Headers that are about one connection, and those of a proxy. One of the name `close` is one for whoever reads the
/// `Connection: close` that we write.
const HOP_BY_HOP: [&str; 12] = [
    "close",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "upgrade",
];

/// Headers by which a request means another method than it says, to many a server.
const OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) form: Form,
    /// Only `CONNECT` may be without: some clients' is.
    pub(super) host: Option<Authority>,
    /// As they came, without those that are about one connection or the body.
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Body,
    /// The client waits to be told to send the body.
    pub(super) waits: bool,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// `CONNECT host:port`.
    Tunnel(Authority),
    /// `GET http://host/path`: of a proxy.
    Absolute { of: Authority, path: String },
    /// `GET /path`.
    Origin { path: String },
}

/// A host as it is written, with its port if one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    /// Of an answer only.
    ToTheEnd,
}

/// An answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
}

/// Where a head ends, if it does.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    let found = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(found + 4)
}

/// Reads a whole head.
pub(super) fn request(head: &[u8]) -> Result<Request, &'static str> {
    check_lines(head)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err("the request cannot be read"),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err("the request cannot be read");
    };
    let headers = parsed.headers;
    if parsed.version != Some(1) && one(headers, "transfer-encoding")?.is_some() {
        return Err("an old version of HTTP has no chunks");
    }
    let form = form(method, target)?;
    let host = match (one(headers, "host")?, &form) {
        (Some(host), _) => {
            let host = std::str::from_utf8(host).ok().and_then(authority);
            Some(host.ok_or("its Host cannot be read")?)
        }
        (None, Form::Tunnel(_)) => None,
        (None, Form::Absolute { .. } | Form::Origin { .. }) => return Err("it names no Host"),
    };
    Ok(Request {
        form,
        method: method.to_owned(),
        host,
        body: body(headers)?.unwrap_or(Body::Length(0)),
        waits: one(headers, "expect")?.is_some(),
        headers: kept(headers)?,
    })
}

/// Reads the head of an answer to a request with that method.
pub(super) fn answer(head: &[u8], method: &str) -> Result<Answer, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err("its head cannot be read"),
    }
    // `050` is three digits as well, and would be written as two.
    let status = parsed.code.filter(|code| *code >= 100);
    let status = status.ok_or("it has no status")?;
    if status == 101 {
        return Err("it changes to another protocol");
    }
    let bare = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
    let framing = body(parsed.headers)?;
    let mut out = format!("HTTP/1.1 {status} ").into_bytes();
    out.extend(parsed.reason.unwrap_or_default().bytes());
    out.extend(b"\r\n");
    for (name, value) in kept(parsed.headers)? {
        push_header(&mut out, &name, &value);
    }
    // Lengths are told also where no body follows.
    match framing {
        Some(Body::Length(length)) => push_header(&mut out, "Content-Length", &digits(length)),
        Some(Body::Chunked) => push_header(&mut out, "Transfer-Encoding", b"chunked"),
        Some(Body::ToTheEnd) | None => {}
    }
    if status >= 200 {
        push_header(&mut out, "Connection", b"close");
    }
    out.extend(b"\r\n");
    let body = match bare {
        true => Body::Length(0),
        false => framing.unwrap_or(Body::ToTheEnd),
    };
    Ok(Answer {
        status,
        head: out,
        body,
    })
}

impl Request {
    /// Whether a header names another method. Some servers take `_` for `-` in names.
    pub(super) fn overrides_its_method(&self) -> bool {
        self.headers.iter().any(|(name, _)| {
            let name = name.to_ascii_lowercase().replace('_', "-");
            OVERRIDES.contains(&name.as_str())
        })
    }

    /// What the host is sent: written anew, one request, one connection.
    pub(super) fn written(&self, host: &str, path: &str) -> Vec<u8> {
        let mut out = format!("{} {path} HTTP/1.1\r\n", self.method).into_bytes();
        push_header(&mut out, "Host", host.as_bytes());
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("host") {
                push_header(&mut out, name, value);
            }
        }
        match self.body {
            Body::Length(0) if matches!(self.method.as_str(), "GET" | "HEAD") => {}
            Body::Length(length) => push_header(&mut out, "Content-Length", &digits(length)),
            Body::Chunked | Body::ToTheEnd => {
                push_header(&mut out, "Transfer-Encoding", b"chunked");
            }
        }
        push_header(&mut out, "Connection", b"close");
        out.extend(b"\r\n");
        out
    }
}

fn digits(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.as_bytes());
    out.extend(b": ");
    out.extend(value);
    out.extend(b"\r\n");
}

/// Lines end in CRLF, and neither half of it stands alone.
fn check_lines(head: &[u8]) -> Result<(), &'static str> {
    let alone = head.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        0 => true,
        _ => false,
    });
    match alone || head.starts_with(b"\r") {
        true => Err("its lines do not end as lines do"),
        false => Ok(()),
    }
}

fn form(method: &str, target: &str) -> Result<Form, &'static str> {
    if !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) || target.contains('#') {
        return Err("its target cannot be read");
    }
    if method == "CONNECT" {
        let of = authority(target).filter(|of| of.port.is_some());
        return of.map(Form::Tunnel).ok_or("CONNECT names no host and port");
    }
    if target.starts_with('/') {
        let path = target.to_owned();
        return Ok(Form::Origin { path });
    }
    let rest = target
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
        .map(|_| &target[7..]);
    let rest = rest
        .ok_or("its target is neither a path nor an http:// address; https:// goes by CONNECT")?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (of, path) = rest.split_at(cut);
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    let of = authority(of).ok_or("its host cannot be read")?;
    Ok(Form::Absolute { of, path })
}

/// `host`, `host:port`, `[address]:port`; nothing in front of an `@`.
pub(super) fn authority(text: &str) -> Option<Authority> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            match after {
                "" => (format!("[{address}]"), None),
                after => (format!("[{address}]"), Some(after.strip_prefix(':')?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => {
            let plain = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
            Some(port.parse().ok().filter(|port: &u16| plain && *port > 0)?)
        }
    };
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!host.is_empty() && host.bytes().all(letters)).then_some(Authority { host, port })
}

/// The value of a header that may be there once.
fn one<'h>(headers: &[httparse::Header<'h>], name: &str) -> Result<Option<&'h [u8]>, &'static str> {
    let mut found = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err("a header that may be there once is there twice"),
        (first, None) => Ok(first.map(|header| header.value)),
    }
}

fn body(headers: &[httparse::Header<'_>]) -> Result<Option<Body>, &'static str> {
    match (
        one(headers, "content-length")?,
        one(headers, "transfer-encoding")?,
    ) {
        (Some(_), Some(_)) => Err("it has two lengths"),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Body::Chunked)),
        (None, Some(_)) => Err("its body is coded in an unknown way"),
        (None, None) => Ok(None),
        (Some(length), None) => {
            let plain = (1..=19).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| plain);
            let length = length.and_then(|length| length.parse().ok());
            length
                .map(|length| Some(Body::Length(length)))
                .ok_or("its length cannot be read")
        }
    }
}

/// Without those that are about one connection: the usual ones, and those that `Connection` names.
fn kept(headers: &[httparse::Header<'_>]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let named: Vec<String> = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .flat_map(|header| {
            let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            value
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let kept: Vec<_> = headers
        .iter()
        .filter(|header| {
            let name = header.name.to_ascii_lowercase();
            !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(&name)
        })
        .map(|header| (header.name.to_owned(), header.value.to_vec()))
        .collect();
    match kept.len() <= MAX_HEADERS - OURS {
        true => Ok(kept),
        false => Err("it has too many headers"),
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
