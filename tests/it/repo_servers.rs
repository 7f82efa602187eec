//! Servers that are down, wrong, slow or hostile: each ends in one clear error, in time.

use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use crate::git_http::{GitServer, HttpServer, REFS, Request, begin, begin_git, pkt, reply};
use crate::repo::{Bench, names};
use flate2::{Compression, write::ZlibEncoder};
use fumehood::repo::{Limit, RepoError, UrlError, file_url, lay_down};
use serde_json::json;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const ID: &str = "1234567890123456789012345678901234567890";

/// A list of one branch, by a server that can do what we ask for.
fn one_branch() -> Vec<u8> {
    let capabilities =
        "multi_ack_detailed shallow side-band-64k ofs-delta symref=HEAD:refs/heads/main";
    [
        pkt(b"# service=git-upload-pack\n"),
        b"0000".to_vec(),
        pkt(format!("{ID} HEAD\0{capabilities}\n").as_bytes()),
        pkt(format!("{ID} refs/heads/main\n").as_bytes()),
        b"0000".to_vec(),
    ]
    .concat()
}

/// What comes before a pack: the first round's answer, or the second's.
fn before_pack(request: &Request) -> Vec<u8> {
    let shallow = [pkt(format!("shallow {ID}").as_bytes()), b"0000".to_vec()].concat();
    if String::from_utf8_lossy(&request.body).ends_with("0009done\n") {
        [shallow, pkt(b"NAK\n")].concat()
    } else {
        shallow
    }
}

/// An honest list, and a pack of the test's making, given in the second round.
fn with_pack(
    pack: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> HttpServer {
    HttpServer::start(move |request, stream| {
        begin_git(request, stream)?;
        if request.wants_refs() {
            return stream.write_all(&one_branch());
        }
        let before = before_pack(request);
        stream.write_all(&before)?;
        if before.ends_with(b"NAK\n") {
            pack(stream)?;
        }
        Ok(())
    })
}

/// In the side band of packs.
fn band(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(60_000)
        .flat_map(|chunk| pkt(&[&[1], chunk].concat()))
        .collect()
}

fn pack_head(objects: u32) -> Vec<u8> {
    [b"PACK\0\0\0\x02".as_slice(), &objects.to_be_bytes()].concat()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn url(server: &HttpServer) -> String {
    format!("{}repo.git", server.url())
}

fn served(at: &Path) -> GitServer {
    lay_down(at, &[("x", b"x")]).unwrap();
    GitServer::start(at)
}

#[tokio::test]
async fn each_refusal_of_a_server_has_its_own_words() {
    let mut bench = Bench::new();
    type Is = fn(&RepoError) -> bool;
    let cases: &[(&str, &str, Is)] = &[
        ("404 Not Found", "spelling", |e| {
            matches!(e, RepoError::NotFound { .. })
        }),
        ("410 Gone", "spelling", |e| {
            matches!(e, RepoError::NotFound { .. })
        }),
        (
            "401 Unauthorized",
            "private repositories are not supported in this version",
            |e| matches!(e, RepoError::LoginWanted { status: 401, .. }),
        ),
        (
            "403 Forbidden",
            "private repositories are not supported in this version",
            |e| matches!(e, RepoError::LoginWanted { status: 403, .. }),
        ),
        ("500 Internal Server Error", "", |e| {
            matches!(e, RepoError::Status { status: 500, .. })
        }),
        ("503 Busy", "", |e| {
            matches!(e, RepoError::Status { status: 503, .. })
        }),
        ("200 OK", "git clone", |e| {
            matches!(e, RepoError::NotGit { .. })
        }),
        ("204 No Content", "", |e| {
            matches!(e, RepoError::Status { status: 204, .. })
        }),
    ];
    for (status, remedy, is) in cases {
        let server = HttpServer::start(|_, stream| {
            reply(stream, status, &[("Content-Type", "text/html")], b"<html>")
        });
        let error = bench.refused(&url(&server)).await;
        assert!(is(&error), "{status}: {error:?}");
        let said = error.remedy().unwrap_or_default();
        assert!(said.contains(remedy), "{status}: {said}");
        // The same in the second request, after an honest list.
        let server = HttpServer::start(|request, stream| match request.wants_refs() {
            true => reply(stream, "200 OK", &[REFS], &one_branch()),
            false => reply(stream, status, &[("Content-Type", "text/html")], b"<html>"),
        });
        let error = bench.refused(&url(&server)).await;
        assert!(is(&error), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn redirects_lead_nowhere_else() {
    let mut bench = Bench::new();
    let secret = bench.repos().join("secret");
    lay_down(&secret, &[("s", b"secret")]).unwrap();
    let other = served(&bench.repos().join("other"));
    let rest = "/info/refs?service=git-upload-pack";
    for to in [
        format!("{}{rest}", other.url()),
        format!("{}{rest}", file_url(&secret)),
        format!("http://169.254.169.254/repo.git{rest}"),
        format!("https://127.0.0.1:1/repo.git{rest}"),
        format!("//localhost/repo.git{rest}"),
        format!("ext::sh -c id{rest}"),
        format!("git://127.0.0.1/repo.git{rest}"),
        "/somewhere".into(),
        "/a/../b/info/refs".into(),
        "http://".into(),
        String::new(),
        // To itself, for ever.
        format!("/repo.git{rest}"),
    ] {
        let target = to.clone();
        let server = HttpServer::start(move |_, stream| {
            reply(stream, "302 Found", &[("Location", &target)], b"")
        });
        // The policy lists the other server and the local repository, too.
        bench.policy.git.remotes = vec![server.url(), other.prefix(), file_url(&bench.repos())];
        let error = bench.clone_url(&url(&server)).await.unwrap_err();
        assert!(
            matches!(error, RepoError::Redirect { .. }),
            "{to}: {error:?}"
        );
        assert!(!error.to_string().chars().any(char::is_control), "{to}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_leave_the_listed_prefix() {
    let mut bench = Bench::new();
    let server = HttpServer::start(|_, stream| {
        let to = "/private/repo.git/info/refs?service=git-upload-pack";
        reply(stream, "301 Moved", &[("Location", to)], b"")
    });
    let error = bench
        .refused(&format!("{}public/repo.git", server.url()))
        .await;
    assert!(matches!(error, RepoError::Redirect { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 1);
}

/// The user's own git may have good reasons for this; a clone of ours was judged by the URL it was given.
#[test]
fn what_the_users_git_was_told_leads_a_clone_nowhere_else() {
    let env = TestEnv::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = listener.local_addr().unwrap();
    let (came, visitors) = mpsc::channel();
    std::thread::spawn(move || listener.incoming().try_for_each(|_| came.send(())));
    let commit = lay_down(&env.path("r"), &[("x", b"x")]).unwrap();
    let server = GitServer::start(&env.path("r"));
    let told = format!(
        "[url \"git://{elsewhere}/\"]\n\tinsteadOf = {}\n",
        server.prefix()
    );
    std::fs::create_dir_all(env.path("home/.config/git")).unwrap();
    for place in ["home/.gitconfig", "home/.config/git/config"] {
        std::fs::write(env.path(place), &told).unwrap();
    }
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("clone_repo", json!({"url": server.url()}))),
        Reply::Answer(says("It is there.")),
    ]);
    let remotes = format!("git.remotes=[{:?}]", server.prefix());
    env.fumehood()
        .env("LLAMACPP_BASE_URL", llm.base_url())
        .args(["run", "--model", "llamacpp/tiny", "--policy", "dev-loop"])
        .args(["--yes", "--set", &remotes, "clone it"])
        .assert()
        .success();
    let said = llm.requests()[1].last_text().to_owned();
    assert!(visitors.try_recv().is_err(), "{said}");
    assert!(said.contains(&commit), "{said}");
}

#[tokio::test]
async fn a_redirect_in_the_middle_is_refused() {
    let mut bench = Bench::new();
    let server = HttpServer::start(|request, stream| match request.wants_refs() {
        true => reply(stream, "200 OK", &[REFS], &one_branch()),
        false => reply(stream, "307 Elsewhere", &[("Location", "/x")], b""),
    });
    let error = bench.refused(&url(&server)).await;
    let asked = server.requests();
    assert!(asked.iter().all(|asked| asked.target != "/x"), "{asked:?}");
    assert!(matches!(error, RepoError::Redirect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = bench.refused(&format!("http://{address}/r")).await;
    assert!(matches!(error, RepoError::Unreachable { .. }), "{error:?}");
    assert!(error.remedy().is_some());
    let error = bench.refused("http://no-such-host.invalid/r").await;
    assert!(matches!(error, RepoError::Unreachable { .. }), "{error:?}");
    let path = bench.repos().join("none");
    let error = bench.refused(&file_url(&path)).await;
    assert!(matches!(error, RepoError::Local { .. }), "{error:?}");
}

#[tokio::test]
async fn what_the_policy_does_not_list_is_refused_with_the_line_that_would() {
    let bench = Bench::new();
    let server = served(&bench.repos().join("r"));
    let error = fumehood::repo::check_url(&server.url(), &bench.policy.git).unwrap_err();
    let line = format!("[git] remotes = [\"{}\"]", server.url());
    assert_eq!(error.remedy(), format!("add to the policy: {line}"));
    assert!(matches!(error, UrlError::NotListed { .. }));
}

#[tokio::test]
async fn garbage_is_not_taken_for_git() {
    let mut bench = Bench::new();
    let words = pkt(b"ERR no \x1b[31m such thing\n");
    let cases: &[&[u8]] = &[
        b"",
        b"<html>hello</html>",
        b"0000",
        b"00000000",
        b"0001",
        b"ffff",
        b"0007\x01PA",
        b"PACK\0\0\0\x02\0\0\0\0",
        b"001e# service=git-upload-pack\n0000zzzz",
        b"001e# service=git-upload-pack\n00000011nonsense!!!!",
        b"0009ERR no\x1b[31m",
        &words,
        &[0; 4096],
        &[0xff; 4096],
    ];
    for garbage in cases {
        let garbage = garbage.to_vec();
        let shown = garbage.escape_ascii().to_string();
        let server = HttpServer::start(move |_, stream| reply(stream, "200 OK", &[REFS], &garbage));
        let error = bench.refused(&url(&server)).await;
        let known = matches!(
            error,
            RepoError::NotGit { .. }
                | RepoError::Damaged { .. }
                | RepoError::Refused { .. }
                | RepoError::Empty { .. }
        );
        assert!(known, "{shown}: {error:?}");
    }
    let mut cut = one_branch();
    cut.truncate(cut.len() - 10);
    let server = HttpServer::start(move |_, stream| reply(stream, "200 OK", &[REFS], &cut));
    bench.refused(&url(&server)).await;
}

#[tokio::test]
async fn packs_that_are_cut_wrong_or_something_else_are_refused() {
    let mut bench = Bench::new();
    let blob = [&[0x31][..], &deflate(b"x")].concat();
    // Known before libgit2 gets it.
    let no_pack: Vec<Vec<u8>> = vec![
        b"hello, I am a pack".to_vec(),
        band(b"hello, I am a pack"),
        [
            band(&[pack_head(0), vec![0; 40]].concat()),
            b"0000".to_vec(),
        ]
        .concat(),
        b"0002".to_vec(),
    ];
    let cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"0000".to_vec(),
        band(&pack_head(0)),
        band(&pack_head(1)),
        band(&[pack_head(1), blob.clone()].concat()),
        // A checksum that is none; and a good object, but not the commit that was asked for.
        [
            band(&[pack_head(1), blob.clone(), vec![0; 20]].concat()),
            b"0000".to_vec(),
        ]
        .concat(),
        [
            band(&[pack_head(1), vec![0x61, 0x7f], deflate(b"xx"), vec![0; 20]].concat()),
            b"0000".to_vec(),
        ]
        .concat(),
        pkt(b"\x03fatal: \x1b]0;title\x07 no more"),
        pkt(b"ERR upload-pack: \x1b[31m no"),
    ];
    let ours = no_pack.len();
    for (n, case) in no_pack.into_iter().chain(cases).enumerate() {
        let shown = case.escape_ascii().to_string();
        let server = with_pack(move |stream| stream.write_all(&case));
        let error = bench.refused(&url(&server)).await;
        let known = match n < ours {
            true => matches!(error, RepoError::NotGit { .. }),
            false => matches!(
                error,
                RepoError::NotGit { .. } | RepoError::Damaged { .. } | RepoError::Refused { .. }
            ),
        };
        assert!(known, "{shown}: {error:?}");
        assert_eq!(names(&bench.scratch()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn bombs_in_packs_are_refused_before_they_unfold() {
    let mut bench = Bench::new();
    // 10 GiB out of a delta of a few bytes.
    let varint = [0x80, 0x80, 0x80, 0x80, 0x28];
    let delta = [&[0x01][..], &varint, &[0x80 | 0x10, 0x01]].concat();
    let bomb = [
        pack_head(2),
        vec![0x31],
        deflate(b"x"),
        vec![0x60 | delta.len() as u8, 0x0a],
        deflate(&delta),
        vec![0; 20],
    ]
    .concat();
    let server = with_pack(move |stream| stream.write_all(&band(&bomb)));
    let error = bench.refused(&url(&server)).await;
    let limit = Limit::Object(128 << 20);
    assert!(
        matches!(error, RepoError::TooBig { limit: l } if l == limit),
        "{error:?}"
    );

    // A blob that says it is 600 MiB.
    let server = with_pack(|stream| {
        let head = [pack_head(1), vec![0xb0, 0x80, 0x80, 0xe0, 0x12]].concat();
        stream.write_all(&band(&head))
    });
    let error = bench.refused(&url(&server)).await;
    assert!(
        matches!(error, RepoError::TooBig { limit: l } if l == limit),
        "{error:?}"
    );

    // Four thousand million objects.
    let server = with_pack(|stream| stream.write_all(&band(&pack_head(u32::MAX))));
    let error = bench.refused(&url(&server)).await;
    assert!(
        matches!(
            error,
            RepoError::TooBig {
                limit: Limit::Objects(_)
            }
        ),
        "{error:?}"
    );
    assert!(error.remedy().unwrap().contains("max_files"));
}

#[tokio::test]
async fn a_pack_without_an_end_is_cut_at_max_bytes() {
    let mut bench = Bench::new();
    bench.policy.git.max_bytes = 5 << 20;
    // Progress messages for ever; and a blob of noise that does not end.
    let chatter = with_pack(|stream| {
        let line = pkt(&[&[2][..], &[b'.'; 60_000]].concat());
        loop {
            stream.write_all(&line)?;
        }
    });
    let noise = with_pack(|stream| {
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        // 50 MiB, stored without compression.
        let head = [pack_head(1), vec![0xb0, 0x80, 0x80, 0xc8, 0x01, 0x78, 0x01]].concat();
        stream.write_all(&band(&head))?;
        loop {
            let block: Vec<u8> = (0..50_000).map(|_| random()).collect();
            let length = 50_000u16.to_le_bytes();
            let complement = (!50_000u16).to_le_bytes();
            stream.write_all(&band(&[&[0], &length[..], &complement, &block].concat()))?;
        }
    });
    for server in [chatter, noise] {
        let error = bench.refused(&url(&server)).await;
        assert!(
            matches!(
                error,
                RepoError::TooBig {
                    limit: Limit::Received(5_242_880)
                }
            ),
            "{error:?}"
        );
        assert!(error.remedy().unwrap().contains("max_bytes"));
    }
}

#[tokio::test]
async fn a_list_of_references_without_an_end_is_cut() {
    let mut bench = Bench::new();
    let server = HttpServer::start(|request, stream| {
        begin_git(request, stream)?;
        stream.write_all(&one_branch()[..one_branch().len() - 4])?;
        let many: Vec<u8> = (0..10_000)
            .flat_map(|n| pkt(format!("{ID} refs/heads/{n}-{}\n", "x".repeat(200)).as_bytes()))
            .collect();
        loop {
            stream.write_all(&many)?;
        }
    });
    let error = bench.refused(&url(&server)).await;
    assert!(
        matches!(
            error,
            RepoError::TooBig {
                limit: Limit::Refs(_)
            }
        ),
        "{error:?}"
    );
}

/// Silent from some point on: before the list, within it, before the pack, within it.
fn silent(from: usize) -> HttpServer {
    HttpServer::start(move |request, stream| {
        let sleep = || std::thread::sleep(Duration::from_secs(30));
        let list = request.wants_refs();
        if (list && from == 0) || (!list && from == 2) {
            sleep();
        }
        begin_git(request, stream)?;
        if list {
            let list = one_branch();
            let end = if from == 1 {
                list.len() / 2
            } else {
                list.len()
            };
            stream.write_all(&list[..end])?;
        } else {
            stream.write_all(&before_pack(request))?;
            stream.write_all(&band(&pack_head(1)))?;
        }
        if !list || from == 1 {
            stream.flush()?;
            sleep();
        }
        Ok(())
    })
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let mut bench = Bench::new();
    bench.net.stall = Duration::from_millis(300);
    for from in 0..4 {
        let server = silent(from);
        let begun = Instant::now();
        let error = bench.refused(&url(&server)).await;
        assert!(
            matches!(error, RepoError::Stalled { .. }),
            "{from}: {error:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{from}");
    }
}

#[tokio::test]
async fn a_clone_is_cancelled_wherever_it_waits() {
    for from in 0..4 {
        let mut bench = Bench::new();
        let server = silent(from);
        let cancel = bench.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        });
        let begun = Instant::now();
        let error = bench.refused(&url(&server)).await;
        assert!(matches!(error, RepoError::Cancelled), "{from}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{from}");
    }
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, &[("x", b"x")]).unwrap();
    bench.cancel.cancel();
    let error = bench.refused(&file_url(&at)).await;
    assert!(matches!(error, RepoError::Cancelled), "{error:?}");
}

#[tokio::test]
async fn a_server_that_trickles_runs_out_of_time() {
    let mut bench = Bench::new();
    bench.net.time = Duration::from_secs(1);
    let server = HttpServer::start(|request, stream| {
        begin_git(request, stream)?;
        loop {
            stream.write_all(&pkt(format!("{ID} refs/heads/x\n").as_bytes()))?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let error = bench.refused(&url(&server)).await;
    assert!(matches!(error, RepoError::TooSlow { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// Ends TLS in front of a server; gives its https URL.
async fn behind_tls(server: &HttpServer) -> String {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("../data/tls/server.pem"))
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../data/tls/server.key")).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = url::Url::parse(&server.url()).unwrap();
    let behind = behind.socket_addrs(|| None).unwrap()[0];
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let mut stream = acceptor.accept(stream).await?;
                let mut inner = tokio::net::TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut inner).await
            });
        }
    });
    format!("https://{address}/repo.git")
}

#[tokio::test]
async fn a_certificate_must_be_signed_by_a_trusted_authority() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, &[("x", b"x")]).unwrap();
    let server = HttpServer::start(move |request, stream| {
        crate::git_http::upload_pack(&at, &[], request, stream)
    });
    let url = behind_tls(&server).await;
    let error = bench.refused(&url).await;
    assert!(matches!(error, RepoError::Tls { .. }), "{error:?}");
    assert!(error.remedy().unwrap().contains("SSL_CERT_FILE"));
    assert_eq!(server.requests().len(), 0, "nothing was asked");
    // With the authority at hand it is trusted, but not under another name.
    let bundle = bench.repos().join("ca.pem");
    std::fs::write(&bundle, include_bytes!("../data/tls/ca.pem")).unwrap();
    bench.net.ca_bundle = Some(bundle.clone());
    let other = url.replace("127.0.0.1", "localhost");
    let error = bench.refused(&other).await;
    assert!(matches!(error, RepoError::Tls { .. }), "{error:?}");
    assert!(error.remedy().unwrap().contains(bundle.to_str().unwrap()));
    assert_eq!(bench.clone_listed(&url).await.unwrap().files, 1);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_not_trusted() {
    let mut bench = Bench::new();
    let server = served(&bench.repos().join("r"));
    let url = server.url().replace("http://", "https://");
    let error = bench.refused(&url).await;
    assert!(
        matches!(error, RepoError::Tls { .. } | RepoError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_named() {
    let mut bench = Bench::new();
    let path = bench.repos().join("bundle.pem");
    bench.net.ca_bundle = Some(path.clone());
    for content in [None, Some("not a certificate"), Some("")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = bench.refused("https://127.0.0.1:1/r").await;
        assert!(matches!(error, RepoError::CaBundle { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn answers_that_come_in_one_byte_chunks_are_read_all_the_same() {
    let mut bench = Bench::new();
    let server = HttpServer::start(|request, stream| {
        begin(stream, "200 OK", &[REFS])?;
        assert!(request.wants_refs());
        for byte in one_branch() {
            stream.write_all(&[byte])?;
            stream.flush()?;
        }
        Ok(())
    });
    bench.rev = Some("nothing".into());
    let error = bench.refused(&url(&server)).await;
    assert!(matches!(error, RepoError::UnknownRev { .. }), "{error:?}");
}
