//! The proxy against clients and hosts of the test's own, without a sandbox.

use super::hello::tests::{hello, name, record};
use super::*;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Default)]
struct Seen(Mutex<Vec<Report>>, Mutex<Vec<String>>);

impl Witness for Seen {
    fn note(&self, report: Report) -> bool {
        self.0.lock().unwrap().push(report);
        true
    }

    fn again(&self, why: &str) {
        self.1.lock().unwrap().push(why.to_owned());
    }
}

impl Seen {
    fn blocked(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let why = seen.iter().filter_map(|report| match report {
            Report::Blocked { why, .. } => Some(why.clone()),
            _ => None,
        });
        why.collect()
    }

    fn closed(&self) -> Vec<(u64, u64, String)> {
        let seen = self.0.lock().unwrap();
        let closed = seen.iter().filter_map(|report| match report {
            Report::Closed {
                sent,
                received,
                why,
                ..
            } => Some((*sent, *received, why.clone())),
            _ => None,
        });
        closed.collect()
    }
}

/// A policy, a resolver that knows every name at one address, and what was told.
struct Scene {
    egress: Arc<Egress>,
    seen: Arc<Seen>,
}

fn rule(host: &str, port: u16) -> HostRule {
    HostRule {
        host: host.to_owned(),
        ports: vec![port],
        methods: Vec::new(),
        address: None,
        source: None,
        private: false,
    }
}

/// The host as it is named, wherever it resolves to.
fn pinned(host: &str, port: u16) -> HostRule {
    HostRule {
        address: Some(HERE),
        ..rule(host, port)
    }
}

fn scene(allow: Vec<HostRule>) -> Scene {
    limited(allow, (None, None))
}

fn limited(allow: Vec<HostRule>, (up, down): (Option<u64>, Option<u64>)) -> Scene {
    let seen = Arc::new(Seen::default());
    let network = Network {
        allow,
        upload_bytes: up,
        download_bytes: down,
    };
    let resolve: Resolve = Arc::new(|_, _| Box::pin(async { Ok(vec![HERE]) }));
    let outside = Outside::new(None, Vec::new()).resolving(resolve);
    let egress = Egress::new(&network, Grants::default(), outside, seen.clone());
    Scene {
        egress: Arc::new(egress),
        seen,
    }
}

impl Scene {
    /// A stream as init opens it.
    async fn open(&self, wanted: Outbound) -> DuplexStream {
        self.open_beside(wanted, 0).await
    }

    async fn open_beside(&self, wanted: Outbound, others: usize) -> DuplexStream {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(Arc::clone(&self.egress).take(theirs, others));
        ours.write_all(&wire::frame(&wanted).unwrap())
            .await
            .unwrap();
        ours
    }

    /// What a client gets that says that.
    async fn say(&self, wanted: Outbound, words: &[u8]) -> String {
        let mut stream = self.open(wanted).await;
        // Whoever is refused early reads nothing more.
        let _ = stream.write_all(words).await;
        all(&mut stream).await
    }

    async fn proxy(&self, words: &str) -> String {
        self.say(Outbound::Proxy, words.as_bytes()).await
    }
}

async fn all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn named(name: &str, port: u16) -> Outbound {
    Outbound::Named {
        name: name.to_owned(),
        port,
    }
}

/// A server that answers every connection with what it was sent, and with that answer.
async fn server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let heard_by = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_one(stream, answer, Arc::clone(&heard_by)));
        }
    });
    (port, heard)
}

async fn answer_one(stream: TcpStream, answer: &'static str, heard: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text).await.unwrap_or(0) == 0 {
            break;
        }
    }
    heard.lock().unwrap().push(text);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_listed_host_answers_a_request_that_was_written_anew() {
    let (port, heard) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let answer = scene
        .proxy(&format!(
            "GET http://PKG.test:{port}/x HTTP/1.1\r\nHost: pkg.test:{port}\r\nProxy-Connection: keep-alive\r\n\r\n"
        ))
        .await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let heard = heard.lock().unwrap().clone();
    let sent = format!("GET /x HTTP/1.1\r\nHost: pkg.test:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(heard, std::slice::from_ref(&sent));
    let (up, down, why) = scene.seen.closed()[0].clone();
    assert_eq!((up, why.as_str()), (sent.len() as u64, ""));
    assert!(down > 5);
}

#[tokio::test]
async fn a_connection_to_the_address_of_a_name_is_the_same() {
    let (port, _) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let words = format!("GET /x HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    let answer = scene.say(named("pkg.test", port), words.as_bytes()).await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn what_is_not_listed_is_told_and_never_resolved() {
    let asked = Arc::new(Mutex::new(0));
    let asked_by = Arc::clone(&asked);
    let resolve: Resolve = Arc::new(move |_, _| {
        *asked_by.lock().unwrap() += 1;
        Box::pin(async { Ok(vec![HERE]) })
    });
    let seen = Arc::new(Seen::default());
    let network = Network {
        allow: vec![rule("pkg.test", 443)],
        upload_bytes: None,
        download_bytes: None,
    };
    let outside = Outside::new(None, Vec::new()).resolving(resolve);
    let egress = Egress::new(&network, Grants::default(), outside, seen.clone());
    let scene = Scene {
        egress: Arc::new(egress),
        seen,
    };
    let why = "blocked: evil.test:443; add it to [network] allow or approve it";
    let connect = scene
        .proxy("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
        .await;
    assert!(
        connect.starts_with(&format!("HTTP/1.1 403 {why}\r\n")),
        "{connect}"
    );
    let socks = b"\x05\x01\x00\x05\x01\x00\x03\x09evil.test\x01\xbb";
    let answer = scene.say(Outbound::Proxy, socks).await;
    assert_eq!(answer.as_bytes()[..4], [5, 0, 5, 2]);
    assert_eq!(scene.say(named("evil.test", 443), &[]).await, "");
    assert_eq!(*asked.lock().unwrap(), 0);
    // The same thing again is not recorded again, and whoever reads along hears it.
    assert_eq!(scene.seen.blocked(), [why]);
    assert_eq!(*scene.seen.1.lock().unwrap(), [why, why]);
}

#[tokio::test]
async fn a_question_for_a_name_is_answered_with_its_ports() {
    let scene = scene(vec![rule("*.test", 443), rule("a.b.test", 80)]);
    for (host, ports) in [
        ("x.test", vec![443]),
        ("a.b.test", vec![80]),
        ("evil.org", vec![]),
    ] {
        let mut stream = scene.open(Outbound::Name { name: host.into() }).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(
            wire::parse::<NamePorts>(&bytes[4..]).unwrap(),
            NamePorts(ports),
            "{host}"
        );
    }
    assert_eq!(
        scene.seen.blocked(),
        ["blocked: evil.org; add it to [network] allow or approve it"]
    );
}

#[tokio::test]
async fn a_listed_name_that_leads_home_is_refused_unless_that_address_is_named() {
    let (port, heard) = server(HELLO).await;
    let request = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    let unnamed = scene(vec![rule("pkg.test", port)]);
    let answer = unnamed.proxy(&request).await;
    assert!(answer.starts_with("HTTP/1.1 403 blocked"), "{answer}");
    assert!(unnamed.seen.blocked()[0].contains("leads to 127.0.0.1, a loopback address"));
    assert!(heard.lock().unwrap().is_empty());
    // The counterpart: with the address named the same request goes through.
    let open = scene(vec![rule("pkg.test", port), rule("127.0.0.1", port)]);
    assert!(open.proxy(&request).await.ends_with("hello"));
}

#[tokio::test]
async fn a_tls_greeting_has_to_be_for_the_host() {
    let (port, heard) = server("").await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let hidden = (0xfe0d, vec![0; 8]);
    for (extensions, why) in [
        (vec![name("evil.test")], "another host: evil.test"),
        (vec![], "names no host"),
        (vec![name("pkg.test"), hidden], "hides for whom it is"),
        (vec![name("pkg.test"), name("evil.test")], "cannot be read"),
    ] {
        let greeting = record(&hello(&extensions));
        let mut stream = scene.open(named("pkg.test", port)).await;
        stream.write_all(&greeting).await.unwrap();
        let mut alert = [0; 7];
        stream.read_exact(&mut alert).await.unwrap();
        assert_eq!(alert, [21, 3, 1, 0, 2, 2, 49]);
        assert!(scene.seen.blocked().last().unwrap().contains(why), "{why}");
    }
    assert!(heard.lock().unwrap().is_empty());
    // The counterpart.
    let mut stream = scene.open(named("pkg.test", port)).await;
    stream
        .write_all(&record(&hello(&[name("PKG.test")])))
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    all(&mut stream).await;
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn connect_is_held_to_its_host_inside_as_well() {
    let (port, heard) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port), pinned("other.test", port)]);
    let connect = format!("CONNECT pkg.test:{port} HTTP/1.1\r\nHost: pkg.test\r\n\r\n");
    for (inside, status) in [
        (
            format!("GET / HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n"),
            "421",
        ),
        (
            format!("GET http://other.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n"),
            "421",
        ),
        (
            format!("CONNECT other.test:{port} HTTP/1.1\r\nHost: other.test:{port}\r\n\r\n"),
            "400",
        ),
        ("GET / HTTP/1.1\r\nHost: pkg.test\r\n\r\n".to_owned(), "421"),
    ] {
        let answer = scene.proxy(&format!("{connect}{inside}")).await;
        let inner = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(
            inner.starts_with(&format!("HTTP/1.1 {status} ")),
            "{inside}: {answer}"
        );
    }
    assert!(heard.lock().unwrap().is_empty());
    let inside = format!("GET / HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    assert!(
        scene
            .proxy(&format!("{connect}{inside}"))
            .await
            .ends_with("hello")
    );
}

#[tokio::test]
async fn a_request_behind_a_request_never_reaches_the_host() {
    let (port, heard) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let host = format!("Host: pkg.test:{port}\r\n");
    let second = format!("GET /second HTTP/1.1\r\n{host}\r\n");
    for first in [
        format!("POST http://pkg.test:{port}/ HTTP/1.1\r\n{host}Content-Length: 4\r\n\r\nbody"),
        format!(
            "POST http://pkg.test:{port}/ HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        ),
        format!("GET http://pkg.test:{port}/ HTTP/1.1\r\n{host}\r\n"),
    ] {
        let answer = scene.proxy(&format!("{first}{second}")).await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 3);
    assert!(
        !heard.iter().any(|text| text.contains("second")),
        "{heard:?}"
    );
}

#[tokio::test]
async fn only_the_methods_listed_get_through() {
    let (port, heard) = server(HELLO).await;
    let mut get = pinned("pkg.test", port);
    get.methods = vec!["GET".to_owned()];
    let scene = scene(vec![get]);
    let ask = |method: &str| {
        format!("{method} http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n")
    };
    for method in ["POST", "DELETE", "get", "PUT"] {
        let answer = scene.proxy(&ask(method)).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{method}: {answer}");
    }
    // Nor can they be hidden in TLS.
    let mut sealed = scene.open(named("pkg.test", port)).await;
    sealed
        .write_all(&record(&hello(&[name("pkg.test")])))
        .await
        .unwrap();
    all(&mut sealed).await;
    assert!(heard.lock().unwrap().is_empty());
    assert!(scene.proxy(&ask("GET")).await.ends_with("hello"));
}

#[tokio::test]
async fn no_header_means_another_method_where_methods_are_listed() {
    let (port, heard) = server(HELLO).await;
    let mut get = pinned("get.test", port);
    get.methods = vec!["GET".to_owned()];
    let scene = scene(vec![get, pinned("any.test", port)]);
    let ask = |host: &str, header: &str| {
        format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n{header}\r\n\r\n")
    };
    for header in [
        "X-HTTP-Method-Override: DELETE",
        "x-http-method-override: GET",
        "X_HTTP_Method_Override: PUT",
        "X-Method-Override: POST",
        "X-HTTP-Method: PATCH",
    ] {
        let answer = scene.proxy(&ask("get.test", header)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{header}: {answer}");
    }
    assert!(heard.lock().unwrap().is_empty());
    assert!(scene.seen.blocked()[0].contains("asks for another"));
    // The counterparts: another header, and a host without such a rule.
    for (host, header) in [
        ("get.test", "X-Method: DELETE"),
        ("any.test", "X-HTTP-Method-Override: DELETE"),
    ] {
        assert!(scene.proxy(&ask(host, header)).await.ends_with("hello"));
    }
}

#[tokio::test]
async fn an_upload_above_the_limit_is_cut_and_the_next_refused() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // It reads whatever comes and answers nothing.
    let sink = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        bytes.len()
    });
    let scene = limited(vec![pinned("pkg.test", port)], (Some(4096), None));
    let host = format!("Host: pkg.test:{port}\r\n");
    let head = format!(
        "POST http://pkg.test:{port}/ HTTP/1.1\r\n{host}Content-Length: 2147483648\r\n\r\n"
    );
    let mut stream = scene.open(Outbound::Proxy).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    assert!(sink.await.unwrap() <= 4096);
    assert!(scene.seen.blocked()[0].contains("network.upload_bytes"));
    assert!(scene.seen.closed()[0].0 <= 4096);
    let again = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\n{host}\r\n");
    assert!(scene.proxy(&again).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn a_download_above_the_limit_is_cut() {
    let (port, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let scene = limited(vec![pinned("pkg.test", port)], (None, Some(20)));
    let request = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    let answer = scene.proxy(&request).await;
    assert!(!answer.contains("hello"), "{answer}");
    assert!(scene.seen.blocked()[0].contains("network.download_bytes"));
    let again = scene.proxy(&request).await;
    assert!(again.starts_with("HTTP/1.1 403 "), "{again}");
}

#[tokio::test]
async fn one_connection_too_many_is_refused() {
    let (port, heard) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let words = format!("CONNECT pkg.test:{port} HTTP/1.1\r\n\r\n");
    let mut stream = scene.open_beside(Outbound::Proxy, MAX_CONNECTIONS).await;
    stream.write_all(words.as_bytes()).await.unwrap();
    assert!(all(&mut stream).await.starts_with("HTTP/1.1 503 "));
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_says_too_little_too_slowly_is_cut() {
    let scene = scene(vec![pinned("pkg.test", 443)]);
    let mut head = scene.open(Outbound::Proxy).await;
    head.write_all(b"GET http://pkg.test/ HTTP/1.1\r\nX-")
        .await
        .unwrap();
    assert!(all(&mut head).await.starts_with("HTTP/1.1 408 "));
    let mut greeting = scene.open(named("pkg.test", 443)).await;
    greeting
        .write_all(&record(&hello(&[name("pkg.test")]))[..20])
        .await
        .unwrap();
    assert_eq!(all(&mut greeting).await, "");
    let mut silent = scene.open(named("pkg.test", 443)).await;
    assert_eq!(all(&mut silent).await, "");
    // And a stream whose head never comes.
    let (mut ours, theirs) = tokio::io::duplex(64);
    tokio::spawn(Arc::clone(&scene.egress).take(theirs, 0));
    assert_eq!(all(&mut ours).await, "");
}

#[tokio::test]
async fn socks_leads_to_names_and_to_nothing_else() {
    let (port, _) = server(HELLO).await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let [high, low] = port.to_be_bytes();
    let mut good = b"\x05\x01\x00\x05\x01\x00\x03\x08pkg.test".to_vec();
    good.extend([high, low]);
    good.extend(format!("GET / HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n").bytes());
    assert!(scene.say(Outbound::Proxy, &good).await.ends_with("hello"));
    for (request, reply) in [
        // An address, in either version.
        (
            &b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"[..],
            Some(2),
        ),
        (
            b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50",
            Some(2),
        ),
        // To be connected to, and datagrams.
        (b"\x05\x01\x00\x05\x02\x00\x03\x08pkg.test\x01\xbb", Some(7)),
        (b"\x05\x01\x00\x05\x03\x00\x03\x08pkg.test\x01\xbb", Some(7)),
        // Nonsense.
        (b"\x05\x01\x02", None),
        (b"\x05\x01\x00\x04\x01\x00\x03", None),
    ] {
        let mut stream = scene.open(Outbound::Proxy).await;
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.get(3).copied(), reply, "{request:?}");
    }
}

#[tokio::test]
async fn a_host_that_was_approved_meanwhile_is_reached() {
    let (port, _) = server(HELLO).await;
    let scene = scene(Vec::new());
    let request = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    assert!(scene.proxy(&request).await.starts_with("HTTP/1.1 403 "));
    scene.egress.grants.add(pinned("pkg.test", port));
    assert!(scene.proxy(&request).await.ends_with("hello"));
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow_and_another_request() {
    let (port, _) =
        server("HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n")
            .await;
    let scene = scene(vec![pinned("pkg.test", port)]);
    let request = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    let answer = scene.proxy(&request).await;
    assert!(answer.contains("Location: http://evil.test/"), "{answer}");
    let next = scene
        .proxy("GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        .await;
    assert!(
        next.starts_with("HTTP/1.1 403 blocked: evil.test:80"),
        "{next}"
    );
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    struct Full;
    impl Witness for Full {
        fn note(&self, _: Report) -> bool {
            false
        }
    }
    let (port, heard) = server(HELLO).await;
    let network = Network {
        allow: vec![pinned("pkg.test", port)],
        upload_bytes: None,
        download_bytes: None,
    };
    let outside = Outside::new(None, Vec::new());
    let egress = Egress::new(&network, Grants::default(), outside, Arc::new(Full));
    let scene = Scene {
        egress: Arc::new(egress),
        seen: Arc::default(),
    };
    let request = format!("GET http://pkg.test:{port}/ HTTP/1.1\r\nHost: pkg.test:{port}\r\n\r\n");
    let answer = scene.proxy(&request).await;
    assert!(answer.contains("could not be recorded"), "{answer}");
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_of_the_hosts_is_asked_to_connect() {
    let (port, heard) = server("HTTP/1.1 200 OK\r\n\r\n").await;
    let seen = Arc::new(Seen::default());
    let network = Network {
        allow: vec![rule("pkg.test", 80)],
        upload_bytes: None,
        download_bytes: None,
    };
    let upstream = Upstream::parse(&format!("http://ada:x@localhost:{port}")).unwrap();
    let outside = Outside::new(Some(upstream), Vec::new());
    let egress = Egress::new(&network, Grants::default(), outside, seen.clone());
    let scene = Scene {
        egress: Arc::new(egress),
        seen,
    };
    scene
        .proxy("GET http://pkg.test/ HTTP/1.1\r\nHost: pkg.test\r\n\r\n")
        .await;
    assert_eq!(
        heard.lock().unwrap()[0],
        "CONNECT pkg.test:80 HTTP/1.1\r\nHost: pkg.test:80\r\nProxy-Authorization: Basic YWRhOng=\r\n\r\n"
    );
}

#[tokio::test]
async fn names_of_a_pattern_are_an_upload_as_well() {
    let asked = Arc::new(Mutex::new(0));
    let asked_by = Arc::clone(&asked);
    // Nobody answers: the question itself has carried the name outside.
    let resolve: Resolve = Arc::new(move |name, _| {
        *asked_by.lock().unwrap() += name.len();
        Box::pin(async { Ok(Vec::new()) })
    });
    let seen = Arc::new(Seen::default());
    let network = Network {
        allow: vec![rule("*.evil.test", 80)],
        upload_bytes: Some(200),
        download_bytes: None,
    };
    let outside = Outside::new(None, Vec::new()).resolving(resolve);
    let egress = Egress::new(&network, Grants::default(), outside, seen.clone());
    let scene = Scene {
        egress: Arc::new(egress),
        seen,
    };
    for n in 0..20 {
        let host = format!("{n:060}.evil.test");
        let answer = scene
            .proxy(&format!(
                "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
            ))
            .await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert!((1..=200).contains(&*asked.lock().unwrap()));
    assert!(scene.seen.blocked()[0].contains("network.upload_bytes"));
}

#[tokio::test]
async fn a_flood_of_names_is_bounded_and_says_that_more_may_hide_behind_it() {
    let scene = scene(Vec::new());
    for n in 0..400 {
        let name = format!("x{n}.evil.test");
        all(&mut scene.open(Outbound::Name { name }).await).await;
    }
    let blocked = scene.seen.blocked();
    assert_eq!(blocked.len(), 256);
    let not_told = |why: &&String| why.contains("what else is blocked in this run is not told");
    assert_eq!(blocked.iter().filter(not_told).count(), 1);
    assert!(not_told(&blocked.last().unwrap()));
    assert_eq!(scene.seen.1.lock().unwrap().len(), 400 - 256);
}
