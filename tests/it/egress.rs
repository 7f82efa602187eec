//! What gets out of a sandbox, as programs in it see it: servers of the test's own on loopback, named
//! in the policy with that address; real clients inside; on both backends.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use crate::git_http::{HttpServer, begin, reply, upload_pack};
use assert_cmd::Command;
use serde_json::{Value, json};
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One user with a policy, and what they reach.
pub(crate) struct Scene {
    pub(crate) env: TestEnv,
    pub(crate) backend: &'static [&'static str],
    pub(crate) policy: PathBuf,
    pub(crate) workspace: PathBuf,
}

pub(crate) const NAMESPACE: &[&str] = &["--backend", "namespace"];
pub(crate) const DOCKER: &[&str] = &["--backend", "docker", "--image", IMAGE];

/// How a run went, and what it recorded of the network.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) events: Vec<Value>,
}

impl Scene {
    /// `network` is the table of that name, but for its mode.
    pub(crate) fn new(backend: &'static [&'static str], network: &str) -> Self {
        let env = TestEnv::new();
        let policy = env.path("net.toml");
        let text = format!(
            "schema = 1\n[executor]\nrequire = [\"memory:watched\", \"cpu:watched\", \"pids:watched\"]\n\
             [network]\nmode = \"proxy\"\n{network}\n"
        );
        std::fs::write(&policy, text).unwrap();
        let workspace = env.workspace("ws", &[("lib.py", LIB)]);
        Self {
            env,
            backend,
            policy,
            workspace,
        }
    }

    pub(crate) fn exec(&self, argv: &[&str]) -> Command {
        let mut command = self.env.fumehood();
        let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/egress/ca.pem");
        command
            .env("SSL_CERT_FILE", bundle)
            .args(["exec", "--policy", self.policy.to_str().unwrap()])
            .args(self.backend)
            .args(["--workspace", self.workspace.to_str().unwrap(), "--"])
            .args(argv);
        command
    }

    /// Every event of the last run.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let mut command = self.env.fumehood();
        let output = command.args(["runs", "show", "last", "--json"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: Value| line["event"].clone()).collect()
    }

    /// As [`Self::exec`], as the last words of another command.
    pub(crate) fn exec_under(&self, mut command: std::process::Command, argv: &[&str]) -> Output {
        let inner = self.exec(argv);
        let variables = inner
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        command
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(variables)
            .current_dir(self.env.path("work"));
        command.output().unwrap()
    }

    pub(crate) fn run(&self, argv: &[&str]) -> Ran {
        self.ran(self.exec(argv).output().unwrap())
    }

    pub(crate) fn ran(&self, output: Output) -> Ran {
        self.env
            .fumehood()
            .args(["runs", "verify", "last"])
            .assert()
            .success();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut events = self.shown();
        events.retain(|event| event["type"].as_str().unwrap().starts_with("network-"));
        Ran {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            events,
        }
    }

    /// A script after the library of attempts; its last line is JSON.
    pub(crate) fn python(&self, script: &str) -> (Value, Ran) {
        let script = format!("from lib import *\n{script}");
        let ran = self.run(&["/usr/bin/python3", "-c", &script]);
        let last = ran.stdout.lines().last().unwrap_or_default();
        let value =
            serde_json::from_str(last).unwrap_or_else(|_| panic!("{}\n{}", ran.stdout, ran.stderr));
        (value, ran)
    }
}

impl Ran {
    pub(crate) fn blocked(&self) -> Vec<String> {
        let blocked = self
            .events
            .iter()
            .filter(|event| event["type"] == "network-blocked");
        blocked
            .map(|event| event["why"].as_str().unwrap().to_owned())
            .collect()
    }

    /// It was refused: recorded, and told to the person.
    pub(crate) fn must_have_blocked(&self, what: &str) {
        let said = self.blocked().iter().any(|why| why.contains(what));
        assert!(said, "{what} is not among {:#?}", self.blocked());
        assert!(
            self.stderr.contains(what),
            "{what} is not in {}",
            self.stderr
        );
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.events
            .iter()
            .filter(|event| event["type"] == kind)
            .count()
    }
}

/// What the scripts share. Nothing in it knows of Fumehood.
pub(crate) const LIB: &str = r#"
import http.client, json, os, socket, ssl, struct, sys, urllib.error, urllib.request

def free():
    """No variable names a proxy."""
    for name in list(os.environ):
        if "proxy" in name.lower(): del os.environ[name]
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

def get(url, data=None):
    try: return urllib.request.urlopen(url, data, timeout=60).read().decode()
    except urllib.error.HTTPError as e: return f"{e.code} {e.reason}"
    except Exception as e: return repr(e)

def raw(data, to=("127.0.0.1", 3128), more=b""):
    """The answer to these bytes."""
    with socket.create_connection(to, timeout=60) as s:
        s.sendall(data)
        out = b""
        while True:
            try: some = s.recv(65536)
            except ConnectionError: break
            if not some: break
            out += some
    return out.decode("latin-1")

def resolve(name):
    try: return sorted({a[4][0] for a in socket.getaddrinfo(name, 80)})
    except OSError as e: return type(e).__name__

def reach(where, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(10)
            if kind == socket.SOCK_DGRAM: s.sendto(b"x", where)
            else: s.connect(where)
        return "reached"
    except OSError as e: return type(e).__name__

def sealed(host, port, name):
    """A TLS connection to a host, with that name in its greeting."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        with socket.create_connection((host, port), timeout=60) as s:
            with context.wrap_socket(s, server_hostname=name) as t: return t.version()
    except OSError as e: return type(e).__name__

def query(name, kind, tcp=False):
    """The answer code and the count of answers."""
    q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0)
    for label in name.split("."): q += bytes([len(label)]) + label.encode()
    q += b"\0" + struct.pack(">HH", kind, 1)
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    s.settimeout(60)
    s.connect(("127.0.0.1", 53))
    s.sendall(struct.pack(">H", len(q)) + q if tcp else q)
    a = s.recv(4096)
    while tcp and (len(a) < 2 or len(a) < 2 + struct.unpack(">H", a[:2])[0]): a += s.recv(4096)
    a = a[2 if tcp else 0:]
    return [a[3] & 15, struct.unpack(">H", a[6:8])[0]]

def done(value): print(json.dumps(value))
"#;

pub(crate) fn server() -> (HttpServer, u16) {
    let server = HttpServer::start(|request, stream| match request.target.as_str() {
        "/hello" => reply(stream, "200 OK", &[], b"hello"),
        "/away" => {
            let headers = [("Location", "http://away.test/"), ("Content-Length", "0")];
            begin(stream, "302 Found", &headers)
        }
        "/post" => reply(
            stream,
            "200 OK",
            &[],
            request.body.len().to_string().as_bytes(),
        ),
        _ => reply(stream, "404 Not Found", &[], b"nothing here"),
    });
    let port = port(&server);
    (server, port)
}

pub(crate) fn port(server: &HttpServer) -> u16 {
    url::Url::parse(&server.url()).unwrap().port().unwrap()
}

/// The same behind TLS, with a certificate for `pkg.test` and `other.test`.
pub(crate) fn behind_tls(inner: u16) -> u16 {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("../data/egress/server.pem"))
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../data/egress/server.key")).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    crate::stage::runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that hangs up is part of many tests.
                let mut stream = acceptor.accept(stream).await?;
                let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", inner)).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut inner).await
            });
        }
    });
    port
}

/// An entry of `allow`: that name, at 127.0.0.1.
pub(crate) fn here(name: &str, ports: &[u16]) -> String {
    format!("{{ host = \"{name}\", ports = {ports:?}, address = \"127.0.0.1\" }}")
}

/// Each claim, on each backend.
macro_rules! on_both {
    ($($name:ident($backend:ident) $body:block)+) => {
        $(fn $name($backend: &'static [&'static str]) $body)+
        mod namespace {
            $(#[test] fn $name() { super::$name(crate::egress::NAMESPACE); })+
        }
        mod docker {
            $(#[test] fn $name() {
                if crate::docker::there() {
                    super::$name(crate::egress::DOCKER);
                }
            })+
        }
    };
}

pub(crate) use on_both;

on_both! {
    clients_reach_what_is_listed_with_and_without_variables(backend) {
        let (server, plain) = server();
        let tls = behind_tls(plain);
        let allow = here("pkg.test", &[plain, tls]);
        let scene = Scene::new(backend, &format!("allow = [{allow}]\nca = \"host\""));
        let (got, ran) = scene.python(&format!(
            r#"
plain, tls = "http://pkg.test:{plain}/hello", "https://pkg.test:{tls}/hello"
by_proxy = [get(plain), get(tls)]
socks = raw(b"\5\1\0" + b"\5\1\0\3\x08pkg.test" + ({plain}).to_bytes(2, "big") + b"GET /hello HTTP/1.1\r\nHost: pkg.test:{plain}\r\n\r\n")
free()
by_name = [get(plain), get(tls), sealed("pkg.test", {tls}, "pkg.test")]
done([by_proxy, socks[-5:], by_name, resolve("pkg.test")])
"#
        ));
        assert_eq!(got[0], json!(["hello", "hello"]), "{}", ran.stderr);
        assert_eq!(got[1], "hello");
        assert_eq!(got[2], json!(["hello", "hello", "TLSv1.3"]), "{}", ran.stderr);
        assert_eq!(got[3], json!(["127.100.0.1"]));
        assert_eq!(ran.count("network-blocked"), 0, "{:?}", ran.blocked());
        assert!(ran.count("network-opened") >= 5);
        assert_eq!(ran.count("network-opened"), ran.count("network-closed"));
        let first = ran.events.iter().find(|event| event["type"] == "network-closed").unwrap();
        assert_eq!(first["address"], "127.0.0.1");
        assert!(first["received"].as_u64().unwrap() > 5);
        assert!(server.requests().len() >= 5);
    }

    what_is_not_listed_is_refused_and_named(backend) {
        let (server, plain) = server();
        let scene = Scene::new(backend, &format!("allow = [{}]", here("pkg.test", &[plain])));
        let (got, ran) = scene.python(&format!(
            r#"
proxied = [get("http://evil.test/"), get("https://evil.test/"), get("http://pkg.test:1/")]
redirected = get("http://pkg.test:{plain}/away")
free()
done([proxied, redirected, resolve("evil.test"), get("http://evil.test/"), reach(("pkg.test", 1)), get("http://pkg.test:{plain}/away")])
"#
        ));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert!(text(&got[0][0]).starts_with("403 blocked: evil.test:80;"), "{got}");
        assert!(text(&got[0][1]).contains("403 blocked: evil.test:443;"), "{got}");
        assert!(text(&got[0][2]).starts_with("403 blocked: pkg.test:1;"), "{got}");
        assert!(text(&got[1]).starts_with("403 blocked: away.test:80;"), "{got}");
        assert_eq!(got[2], "gaierror");
        assert!(text(&got[3]).contains("Name or service not known"), "{got}");
        assert_eq!(got[4], "ConnectionRefusedError");
        assert!(text(&got[5]).contains("Name or service not known"), "{got}");
        ran.must_have_blocked("blocked: evil.test:443; add it to [network] allow or approve it");
        ran.must_have_blocked("blocked: evil.test; add it to [network] allow or approve it");
        // Where the redirects led to, by the proxy and by name.
        ran.must_have_blocked("blocked: away.test:80; add it to [network] allow or approve it");
        ran.must_have_blocked("blocked: away.test; add it to [network] allow or approve it");
        ran.must_have_blocked("blocked: pkg.test:1; the host is listed, this port is not");
        assert!(server.requests().iter().all(|request| request.target == "/away"));
    }

    no_spelling_of_an_address_gets_out(backend) {
        let (server, plain) = server();
        let scene = Scene::new(backend, &format!("allow = [{}]", here("pkg.test", &[plain])));
        let (got, ran) = scene.python(&format!(
            r#"
spellings = ["127.0.0.1", "2130706433", "0x7f000001", "0X7F.1", "0x7f.1", "127.1", "0177.0.0.1", "017700000001",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "169.254.169.254",
    "[64:ff9b::7f00:1]", "[2001:db8::1]", "[fd00:ec2::254]", "localhost", "127.0.0.1.", "0"]
connect = [raw(f"CONNECT {{s}}:{plain} HTTP/1.1\r\nHost: {{s}}:{plain}\r\n\r\n".encode())[:12] for s in spellings]
plain = [raw(f"GET http://{{s}}:{plain}/hello HTTP/1.1\r\nHost: {{s}}:{plain}\r\n\r\n".encode())[:12] for s in spellings]
socks = [raw(b"\5\1\0\5\1\0\1\x7f\0\0\1" + ({plain}).to_bytes(2, "big"))[3:4] == "\2",
    raw(b"\5\1\0\5\1\0\4" + b"\0"*15 + b"\1" + ({plain}).to_bytes(2, "big"))[3:4] == "\2"]
done([connect, plain, socks, spellings])
"#
        ));
        let blocked = ran.blocked();
        for spelled in got[3].as_array().unwrap() {
            let spelled = spelled.as_str().unwrap();
            // An address is told in its one spelling.
            let told = match spelled.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(address) if address.to_canonical() == address => address.to_string(),
                _ => spelled.to_owned(),
            };
            assert!(blocked.iter().any(|why| why.contains(&told)), "{told}: {blocked:#?}");
        }
        for answer in got[0].as_array().unwrap().iter().chain(got[1].as_array().unwrap()) {
            assert!(["HTTP/1.1 403", "HTTP/1.1 400"].contains(&answer.as_str().unwrap()), "{got}");
        }
        assert_eq!(got[2], json!([true, true]));
        ran.must_have_blocked("blocked: 2130706433: it is an address in another spelling");
        assert!(server.requests().is_empty());
    }

    tls_for_another_host_and_requests_for_another_are_refused(backend) {
        let (server, plain) = server();
        let tls = behind_tls(plain);
        let allow = [here("pkg.test", &[plain, tls]), here("other.test", &[plain])].join(", ");
        let scene = Scene::new(backend, &format!("allow = [{allow}]\nca = \"host\""));
        let (got, ran) = scene.python(&format!(
            r#"
named = [sealed("pkg.test", {tls}, n) for n in ("pkg.test", "other.test", "evil.test", None)]
def ask(*lines): return raw("\r\n".join(lines + ("", "")).encode())[:12]
def tunnel(*lines): return raw(("CONNECT pkg.test:{plain} HTTP/1.1\r\n\r\n" + "\r\n".join(lines + ("", ""))).encode()).split("\r\n\r\n", 1)[1][:12]
hosts = [
    ask("GET http://pkg.test:{plain}/hello HTTP/1.1", "Host: other.test:{plain}"),
    ask("GET http://pkg.test:{plain}/hello HTTP/1.1", "Host: pkg.test:{plain}", "Host: other.test:{plain}"),
    ask("GET http://pkg.test:{plain}/hello HTTP/1.1"),
    tunnel("GET /hello HTTP/1.1", "Host: other.test:{plain}"),
    tunnel("GET http://other.test:{plain}/hello HTTP/1.1", "Host: pkg.test:{plain}"),
    tunnel("SSH-2.0-x"), tunnel("\x00\x01")]
good = tunnel("GET /hello HTTP/1.1", "Host: pkg.test:{plain}")
done([named, hosts, good])
"#
        ));
        assert_eq!(got[0][0], "TLSv1.3", "{}", ran.stderr);
        for refused in [&got[0][1], &got[0][2], &got[0][3]] {
            assert_eq!(*refused, "SSLError", "{got}");
        }
        for refused in got[1].as_array().unwrap() {
            let refused = refused.as_str().unwrap();
            let status = ["HTTP/1.1 400", "HTTP/1.1 421", ""];
            assert!(status.contains(&refused), "{got}");
        }
        assert_eq!(got[2], "HTTP/1.1 200");
        ran.must_have_blocked("its TLS greeting is for another host: evil.test");
        ran.must_have_blocked("its TLS greeting names no host");
        ran.must_have_blocked("the request is for another host: other.test");
        assert_eq!(server.requests().len(), 1);
    }

    smuggled_requests_and_listed_methods_only(backend) {
        let (server, plain) = server();
        let rule = format!(
            "{{ host = \"pkg.test\", ports = [{plain}], methods = [\"GET\"], address = \"127.0.0.1\" }}"
        );
        let scene = Scene::new(backend, &format!("allow = [{rule}, {}]", here("post.test", &[plain])));
        let (got, ran) = scene.python(&format!(
            r#"
at = "http://post.test:{plain}/post"
host = "Host: post.test:{plain}\r\n"
hidden = "GET /hidden HTTP/1.1\r\n" + host + "\r\n"
tries = [
    f"POST {{at}} HTTP/1.1\r\n{{host}}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    f"POST {{at}} HTTP/1.1\r\n{{host}}Content-Length: 4\r\nContent-Length: 0\r\n\r\n",
    f"POST {{at}} HTTP/1.1\r\n{{host}}Transfer-Encoding: xchunked\r\n\r\n",
    f"POST {{at}} HTTP/1.1\r\n{{host}}Transfer-Encoding : chunked\r\n\r\n",
    f"POST {{at}} HTTP/1.1\n{{host}}Content-Length: 0\n\n\r\n\r\n",
    f"POST {{at}} HTTP/1.1\r\n{{host}}X: a\r\n b\r\n\r\n"]
refused = [raw((t + hidden).encode())[:12] for t in tries]
behind = raw((f"POST {{at}} HTTP/1.1\r\n{{host}}Content-Length: 2\r\n\r\nab" + hidden).encode())
methods = [get("http://pkg.test:{plain}/hello"), get("http://pkg.test:{plain}/post", b"x")[:11]]
def meaning(header, host): return raw(f"GET http://{{host}}:{plain}/hello HTTP/1.1\r\nHost: {{host}}:{plain}\r\n{{header}}: DELETE\r\n\r\n".encode())[:12]
other = [meaning(h, "pkg.test") for h in ("X-HTTP-Method-Override", "x_http_method_override", "X-Method-Override", "X-HTTP-Method")]
done([refused, behind[:12], behind.count("HTTP/1.1"), methods, other, meaning("X-HTTP-Method-Override", "post.test")])
"#
        ));
        for refused in got[4].as_array().unwrap() {
            assert_eq!(refused, "HTTP/1.1 400", "{got}");
        }
        ran.must_have_blocked("its rule names methods, and a header of the request asks for another");
        // Where no methods are listed there is nothing to get around.
        assert_eq!(got[5], "HTTP/1.1 200");
        for refused in got[0].as_array().unwrap() {
            assert_eq!(refused, "HTTP/1.1 400", "{got}");
        }
        assert_eq!((&got[1], &got[2]), (&json!("HTTP/1.1 200"), &json!(1)));
        assert_eq!(got[3], json!(["hello", "403 blocked"]), "{got}");
        let seen = server.requests();
        assert!(seen.iter().all(|request| request.target != "/hidden"));
        assert_eq!(seen.len(), 3);
    }

    names_have_one_address_and_nothing_else_leads_out(backend) {
        let (_server, plain) = server();
        let scene = Scene::new(backend, &format!("allow = [{}]", here("pkg.test", &[plain])));
        let (got, ran) = scene.python(
            r#"
A, AAAA, TXT, PTR, HTTPS, ANY = 1, 28, 16, 12, 65, 255
done([
    [query("pkg.test", k) for k in (A, AAAA, TXT, HTTPS, ANY)],
    query("PKG.test", A, tcp=True), query("localhost", A), query("x.localhost", AAAA),
    [query(n, A) for n in ("evil.test", "pkg.test.evil.test", "a.pkg.test", "secret-data.evil.test", "169.254.169.254")],
    query("1.0.100.127.in-addr.arpa", PTR),
    [reach(a) for a in (("198.51.100.1", 80), ("169.254.169.254", 80), ("10.0.0.1", 80), ("127.100.0.200", 80))],
    [reach(a, kind=socket.SOCK_DGRAM) for a in (("198.51.100.1", 53), ("8.8.8.8", 443))],
    [reach(a, socket.AF_INET6) for a in (("2001:db8::1", 80), ("64:ff9b::808:808", 53), ("fd00:ec2::254", 80))],
])
"#,
        );
        assert_eq!(got[0], json!([[0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]));
        assert_eq!(got[1], json!([0, 1]));
        assert_eq!((&got[2], &got[3]), (&json!([0, 1]), &json!([0, 0])));
        assert_eq!(got[4], json!([[3, 0], [3, 0], [3, 0], [3, 0], [3, 0]]));
        assert_eq!(got[5], json!([3, 0]));
        for name in ["evil.test", "pkg.test.evil.test", "a.pkg.test", "secret-data.evil.test"] {
            ran.must_have_blocked(&format!("blocked: {name}; add it to [network] allow or approve it"));
        }
        for group in [&got[6], &got[7], &got[8]] {
            for answer in group.as_array().unwrap() {
                assert_ne!(answer, "reached", "{got}");
            }
        }
    }

    an_upload_above_the_limit_is_cut(backend) {
        let (server, plain) = server();
        let allow = here("pkg.test", &[plain]);
        let limits = "upload_bytes = \"64KiB\"\ndownload_bytes = \"1MiB\"";
        let scene = Scene::new(backend, &format!("allow = [{allow}]\n{limits}"));
        let (got, ran) = scene.python(&format!(
            r#"
at = "http://pkg.test:{plain}/post"
done([get(at, b"x" * 1000), get(at, b"x" * (2 << 20)) == "2097152", get("http://pkg.test:{plain}/hello")])
"#
        ));
        assert_eq!((&got[0], &got[1]), (&json!("1000"), &json!(false)));
        assert!(got[2].as_str().unwrap().starts_with("403 blocked"), "{got}");
        ran.must_have_blocked("the limit of network.upload_bytes is reached");
        let sent: u64 = ran.events.iter().filter_map(|event| event["sent"].as_u64()).sum();
        assert!(sent <= 64 << 10, "{sent}");
        assert!(server.requests().iter().all(|request| request.body.len() <= 64 << 10));
    }

    one_connection_too_many_is_refused_and_the_rest_goes_on(backend) {
        let (_server, plain) = server();
        let scene = Scene::new(backend, &format!("allow = [{}]", here("pkg.test", &[plain])));
        let (got, ran) = scene.python(&format!(
            r#"
held = []
def connect():
    s = socket.create_connection(("127.0.0.1", 3128), timeout=60)
    s.sendall(b"CONNECT pkg.test:{plain} HTTP/1.1\r\n\r\n")
    return s, s.recv(12)
codes = []
for _ in range(140):
    s, code = connect()
    held.append(s); codes.append(code.decode())
over = [c for c in codes if c != "HTTP/1.1 200"]
for s in held: s.close()
import time
for _ in range(300):
    again = get("http://pkg.test:{plain}/hello")
    if again == "hello": break
    time.sleep(0.1)
done([len(codes) - len(over), sorted(set(over)), again])
"#
        ));
        assert_eq!(got[1], json!(["HTTP/1.1 503"]), "{got}");
        assert_eq!(got[0], 128, "{got}");
        assert_eq!(got[2], "hello");
        ran.must_have_blocked("more than 128 connections at one time");
    }

    pip_installs_from_an_index_named_in_the_users_own_configuration(backend) {
        let wheel = made_wheel();
        let index = HttpServer::start(move |request, stream| match request.target.as_str() {
            "/simple/fume-sample/" => {
                let page = "<a href=\"/files/fume_sample-1.0-py3-none-any.whl\">fume_sample-1.0-py3-none-any.whl</a>";
                reply(stream, "200 OK", &[("Content-Type", "text/html")], page.as_bytes())
            }
            "/files/fume_sample-1.0-py3-none-any.whl" => reply(stream, "200 OK", &[], &wheel),
            _ => reply(stream, "404 Not Found", &[], b""),
        });
        let plain = port(&index);
        let tls = behind_tls(plain);
        let scene = Scene::new(backend, &format!(
            "allow = [{}]\nsources = [\"pip\"]\nca = \"host\"", here("pkg.test", &[plain, tls])
        ));
        let pip = bundled_pip(&scene);
        for index in [format!("http://pkg.test:{plain}/simple"), format!("https://pkg.test:{tls}/simple")] {
            let script = format!("python3 {pip}/pip install --no-cache-dir --target out-{} fume-sample", index.len());
            let mut command = scene.exec(&["/bin/sh", "-c", &script]);
            command.env("PIP_INDEX_URL", &index);
            if index.starts_with("https") {
                // Only pip's own configuration names the authority.
                let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/egress/ca.pem");
                command.env_remove("SSL_CERT_FILE").env("PIP_CERT", bundle);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{index}: {}", String::from_utf8_lossy(&output.stderr));
            // And it runs, without a network.
            let script = format!("import sys; sys.path.insert(0, 'out-{}'); import fume_sample; print(fume_sample.SAID)", index.len());
            let mut offline = scene.env.fumehood();
            offline
                .args(["exec", "--policy", "dev-loop"])
                .args(scene.backend)
                .args(["--workspace", scene.workspace.to_str().unwrap(), "--"])
                .args(["/usr/bin/python3", "-c", &script]);
            offline.assert().success().stdout("sampled\n");
        }
    }
}

/// A package of one module. `zip` is python's own here: the archive is made where the tests run.
fn made_wheel() -> Vec<u8> {
    const MAKE: &str = r#"
import sys, zipfile
out = zipfile.ZipFile(sys.argv[1], "w")
info = "fume_sample-1.0.dist-info/"
out.writestr("fume_sample.py", "SAID = 'sampled'\n")
out.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: fume-sample\nVersion: 1.0\n")
out.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
out.writestr(info + "RECORD", f"fume_sample.py,,\n{info}METADATA,,\n{info}WHEEL,,\n{info}RECORD,,\n")
out.close()
"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new("/usr/bin/python3")
        .args(["-c", MAKE, file.path().to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(file.path()).unwrap()
}

/// The pip that comes with Python's `ensurepip`, as it is, in the workspace.
pub(crate) fn bundled_pip(scene: &Scene) -> &'static str {
    const FIND: &str = r#"
import ensurepip, glob, os
places = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), "/usr/share/python-wheels"]
print(next(w for p in places for w in glob.glob(p + "/pip-*.whl")))
"#;
    let output = std::process::Command::new("/usr/bin/python3")
        .args(["-c", FIND])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let wheel = String::from_utf8(output.stdout).unwrap();
    let name = "pip-0-py3-none-any.whl";
    std::fs::copy(wheel.trim(), scene.workspace.join(name)).unwrap();
    name
}

#[test]
fn git_and_curl_of_this_system_need_no_variable() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("r");
    fumehood::repo::lay_down(&at, &[("points.csv", b"1\n")]).unwrap();
    let git = HttpServer::start(move |request, stream| {
        let own = ["uploadpack.allowAnySHA1InWant=true".to_owned()];
        upload_pack(&at, &own, request, stream)
    });
    let port = port(&git);
    let scene = Scene::new(
        NAMESPACE,
        &format!("allow = [{}]", here("git.test", &[port])),
    );
    for variables in ["", "unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy;"] {
        let script = format!(
            "{variables} rm -rf got; git -c protocol.version=0 clone -q http://git.test:{port}/repo.git got && cat got/points.csv"
        );
        let ran = scene.run(&["/bin/sh", "-c", &script]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), "1\n"),
            "{}",
            ran.stderr
        );
    }
    let ran = scene.run(&[
        "/bin/sh",
        "-c",
        "git clone -q http://evil.test/repo.git no 2>&1",
    ]);
    assert_ne!(ran.code, Some(0));
    ran.must_have_blocked("blocked: evil.test:80;");
}

#[test]
fn an_agent_reads_what_was_blocked_and_yes_approves_no_other_host() {
    let scene = Scene::new(NAMESPACE, "");
    let script = "import urllib.request; urllib.request.urlopen('http://evil.test/')";
    let ask = json!({"host": "evil.test", "port": 80, "reason": "to send it"});
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("exec", json!({"argv": ["/usr/bin/python3", "-c", script]}))),
        Reply::Answer(says("").calls("allow_host", ask)),
        Reply::Answer(says("I cannot.")),
    ]);
    let mut run = scene.env.fumehood();
    run.env("LLAMACPP_BASE_URL", llm.base_url())
        .args(["run", "--model", "llamacpp/tiny", "--yes"])
        .args(["--policy", scene.policy.to_str().unwrap()])
        .args(scene.backend)
        .args(["--workspace", scene.workspace.to_str().unwrap(), "Send it."]);
    let output = run.output().unwrap();
    let requests = llm.requests();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(requests.len(), 3, "{said}");
    let blocked = "network: blocked: evil.test:80; add it to [network] allow or approve it";
    assert!(
        requests[1].last_text().contains(blocked),
        "{}",
        requests[1].last_text()
    );
    let refused = requests[2].last_text();
    assert!(
        refused.contains("Not allowed") && refused.contains("--yes"),
        "{refused}"
    );
}

#[test]
fn without_a_network_in_the_policy_none_of_it_is_there() {
    let scene = Scene::new(NAMESPACE, "");
    let text = std::fs::read_to_string(&scene.policy).unwrap();
    std::fs::write(&scene.policy, text.replace("\"proxy\"", "\"none\"")).unwrap();
    let (got, ran) = scene.python(
        "done([reach(('127.0.0.1', 3128)), reach(('127.0.0.1', 53)), resolve('pkg.test'), 'HTTP_PROXY' in os.environ])",
    );
    assert_eq!(
        got,
        json!([
            "ConnectionRefusedError",
            "ConnectionRefusedError",
            "gaierror",
            false
        ])
    );
    assert_eq!(ran.events.len(), 0);
}
