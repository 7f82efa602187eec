//! What holds of the proxy, whatever a client or a host sends.

use super::chunks::Chunks;
use super::head::{self, Form, MAX_HEAD, Request};
use super::hello::{self, Hello};
use super::{Egress, Grants, Outside, Report, Resolve, Witness};
use crate::protocol::net::{HostRule, Network};
use crate::sandbox::wire::{self, Outbound};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

/// Nothing that a client sends keeps the proxy longer, once the client is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte says where the rest is cut in two.
pub(crate) fn heads(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let cut = usize::from(first) % (bytes.len() + 1);
    if let Some(end) = head::end(bytes).filter(|end| *end <= MAX_HEAD) {
        let head = &bytes[..end];
        if let Ok(request) = head::request(head) {
            sent_anew(&request);
        }
        for method in ["GET", "HEAD"] {
            answered_anew(head, method);
        }
    }
    let mut whole = Chunks::new();
    let counted = whole.follow(bytes);
    let mut pieces = Chunks::new();
    let joined = pieces.follow(&bytes[..cut]).and_then(|before| {
        let after = pieces.follow(&bytes[cut..])?;
        Ok(before + after)
    });
    assert_eq!(joined, counted);
    match hello::read(bytes) {
        Hello::More | Hello::Nonsense => {}
        said => {
            let before = hello::read(&bytes[..cut]);
            assert!(
                before == Hello::More || before == said,
                "{before:?}, then {said:?}"
            );
            assert_eq!(hello::read(&[bytes, b"x"].concat()), said);
        }
    }
}

/// What a host is sent has the one meaning that was judged, and nothing after it.
fn sent_anew(request: &Request) {
    let path = match &request.form {
        Form::Tunnel(_) => return,
        Form::Absolute { path, .. } | Form::Origin { path } => path,
    };
    let written = request.written("pkg.test:81", path);
    assert_eq!(head::end(&written), Some(written.len()));
    let again = head::request(&written).expect("what is written anew can be read");
    assert_eq!(again.method, request.method);
    assert_eq!(again.form, Form::Origin { path: path.clone() });
    assert_eq!(again.body, request.body);
    assert!(!again.waits);
    let host = again.host.as_ref().expect("it names a host");
    assert_eq!((host.host.as_str(), host.port), ("pkg.test", Some(81)));
    let own = |request: &Request| {
        let mut headers = request.headers.clone();
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        headers
    };
    assert_eq!(own(&again), own(request));
}

fn answered_anew(bytes: &[u8], method: &str) {
    let Ok(answer) = head::answer(bytes, method) else {
        return;
    };
    assert_eq!(head::end(&answer.head), Some(answer.head.len()));
    let again = head::answer(&answer.head, method).expect("what is written anew can be read");
    assert_eq!((again.status, again.body), (answer.status, answer.body));
}

/// One name on two ports, one for a method only. Both lead to where no sandbox is let.
fn listed() -> Vec<HostRule> {
    let rule = |host: &str, ports: &[u16], methods: &[&str]| HostRule {
        host: host.to_owned(),
        ports: ports.to_vec(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        address: None,
        source: None,
        private: false,
    };
    vec![
        rule("pkg.test", &[80, 443], &[]),
        rule("get.test", &[80], &["GET"]),
    ]
}

#[derive(Default)]
struct Seen(Mutex<Vec<Report>>);

impl Witness for Seen {
    fn note(&self, report: Report) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
        true
    }
}

/// The first byte says what the rest is: a client of the proxy, of a name, or a stream as it comes.
pub(crate) fn proxy(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let name = |port| Outbound::Named {
        name: "pkg.test".to_owned(),
        port,
    };
    let wanted = match first % 4 {
        0 => Some(Outbound::Proxy),
        1 => Some(name(443)),
        2 => Some(name(80)),
        _ => None,
    };
    let mut stream = wanted
        .map(|wanted| wire::frame(&wanted).expect("it is short"))
        .unwrap_or_default();
    stream.extend_from_slice(rest);
    let seen = Arc::new(Seen::default());
    let served = crate::sandbox::fuzz::block_on(serve(&stream, Arc::clone(&seen)));
    assert!(served, "the proxy goes on without its client");
    let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    seen.iter().for_each(told);
    let count = |opened: bool| {
        let one = |report: &&Report| match report {
            Report::Opened { .. } => opened,
            Report::Closed { .. } => !opened,
            Report::Blocked { .. } => false,
        };
        seen.iter().filter(one).count()
    };
    assert_eq!(count(true), count(false));
}

/// Whether it came to an end.
async fn serve(stream: &[u8], seen: Arc<Seen>) -> bool {
    let asked = Arc::clone(&seen);
    let resolve: Resolve = Arc::new(move |host, port| {
        let seen = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.last();
        let told = matches!(last, Some(Report::Opened { host: h, port: p, .. }) if (h, *p) == (&host, port));
        assert!(told, "{host}:{port} was resolved after {last:?}");
        let home = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        Box::pin(async move { Ok(home.to_vec()) })
    });
    let network = Network {
        allow: listed(),
        upload_bytes: Some(1 << 20),
        download_bytes: None,
    };
    let outside = Outside::new(None, Vec::new()).resolving(resolve);
    let egress = Arc::new(Egress::new(&network, Grants::default(), outside, seen));
    let (ours, theirs) = duplex(1 << 16);
    let (mut answer, mut words) = tokio::io::split(ours);
    let talk = async {
        // Whoever is refused early reads nothing more.
        let _ = words.write_all(stream).await;
        let _ = words.shutdown().await;
    };
    let listen = async {
        let mut out = Vec::new();
        let _ = answer.read_to_end(&mut out).await;
    };
    let all = async { tokio::join!(egress.take(theirs, 0), talk, listen) };
    timeout(PATIENCE, all).await.is_ok()
}

/// Nothing is connected to, and what is told can be shown.
fn told(report: &Report) {
    match report {
        Report::Blocked { host, why, .. } => {
            assert!(why.starts_with("blocked: "), "{why:?}");
            let plain = |text: &str| text.chars().all(|c| matches!(c, ' '..='~' | '…'));
            assert!(plain(host) && plain(why), "{host:?} {why:?}");
        }
        Report::Opened {
            host, port, method, ..
        } => {
            let fits = |rule: &HostRule| {
                rule.host == *host
                    && rule.ports.contains(port)
                    && (rule.methods.is_empty()
                        || method
                            .as_ref()
                            .is_some_and(|one| rule.methods.contains(one)))
            };
            assert!(listed().iter().any(fits), "{report:?}");
        }
        Report::Closed {
            address,
            sent,
            received,
            ..
        } => assert_eq!((address, *sent, *received), (&None, 0, 0)),
    }
}
