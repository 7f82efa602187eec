use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Request, &'static str> {
    request(text.as_bytes())
}

#[test]
fn a_proxy_request_is_written_anew_for_its_host() {
    let request = read(
        "GET http://Pypi.org:80/simple/?a=b HTTP/1.1\r\nHost: pypi.org\r\nUser-Agent: pip\r\n\
         Proxy-Connection: keep-alive\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Upgrade: h2c\r\nProxy-Authorization: Basic eA==\r\n\r\n",
    )
    .unwrap();
    let Form::Absolute { of, path } = &request.form else {
        panic!("{request:?}")
    };
    assert_eq!((of.host.as_str(), of.port), ("Pypi.org", Some(80)));
    let written = String::from_utf8(request.written("pypi.org", path)).unwrap();
    assert_eq!(
        written,
        "GET /simple/?a=b HTTP/1.1\r\nHost: pypi.org\r\nUser-Agent: pip\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let host = "Host: a.org\r\n";
    for (line, headers) in [
        // Two lengths, in every disguise.
        (
            "POST / HTTP/1.1",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "POST / HTTP/1.1",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
        ),
        (
            "POST / HTTP/1.1",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
        ),
        ("POST / HTTP/1.1", "Content-Length: 5, 6\r\n"),
        ("POST / HTTP/1.1", "Content-Length: +5\r\n"),
        ("POST / HTTP/1.1", "Content-Length: 0x5\r\n"),
        ("POST / HTTP/1.1", "Content-Length: -1\r\n"),
        (
            "POST / HTTP/1.1",
            "Content-Length: 99999999999999999999\r\n",
        ),
        ("POST / HTTP/1.1", "Content-Length:\r\n"),
        (
            "POST / HTTP/1.1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        ("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n"),
        ("POST / HTTP/1.1", "Transfer-Encoding: xchunked\r\n"),
        ("POST / HTTP/1.1", "Transfer-Encoding : chunked\r\n"),
        ("POST / HTTP/1.1", "Transfer-Encoding:\x0bchunked\r\n"),
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n"),
    ] {
        let text = format!("{line}\r\n{host}{headers}\r\n");
        assert!(read(&text).is_err(), "{text:?}");
    }
}

#[test]
fn hosts_lines_and_targets_that_could_be_read_in_two_ways_are_refused() {
    let host = "Host: a.org\r\n";
    for (line, headers) in [
        // Two hosts.
        ("GET / HTTP/1.1", "Host: b.org\r\n"),
        // Lines.
        ("GET / HTTP/1.1", "X: a\r\n folded\r\n"),
        ("GET / HTTP/1.1", "X: a\nY: b\r\n"),
        ("GET / HTTP/1.1", "X: a\rY: b\r\n"),
        ("GET / HTTP/1.1", "X: a\0b\r\n"),
        ("GET / HTTP/1.1", "no colon\r\n"),
        // Targets.
        ("GET * HTTP/1.1", ""),
        ("GET https://a.org/ HTTP/1.1", ""),
        ("GET ftp://a.org/ HTTP/1.1", ""),
        ("GET http://user@a.org/ HTTP/1.1", ""),
        ("GET http:///x HTTP/1.1", ""),
        ("GET http://a.org:/ HTTP/1.1", ""),
        ("GET http://a.org:0/ HTTP/1.1", ""),
        ("GET http://a.org:99999/ HTTP/1.1", ""),
        ("GET http://a.org\\@b.org/ HTTP/1.1", ""),
        ("GET http://a.org#b/ HTTP/1.1", ""),
        ("GET a.org HTTP/1.1", ""),
        ("CONNECT a.org HTTP/1.1", ""),
        ("CONNECT http://a.org:443 HTTP/1.1", ""),
        ("GET / HTTP/2.0", ""),
        ("GET /a b HTTP/1.1", ""),
        (" GET / HTTP/1.1", ""),
        ("G(T / HTTP/1.1", ""),
        ("PRI * HTTP/2.0", ""),
    ] {
        let text = format!("{line}\r\n{host}{headers}\r\n");
        assert!(read(&text).is_err(), "{text:?}");
    }
    assert!(read("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(read("GET / HTTP/1.1\r\nHost: a.org, b.org\r\n\r\n").is_err());
    assert!(read("GET / HTTP/1.1\r\nHost: user@a.org\r\n\r\n").is_err());
    assert!(read("\r\nGET / HTTP/1.1\r\nHost: a.org\r\n\r\n").is_err());
    assert!(read("GET / HTTP/1.1\r\nHost: a.org\r\n\r\nGET").is_err());
}

#[test]
fn addresses_keep_their_brackets_until_they_are_judged() {
    let connect = read("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n").unwrap();
    let of = Authority {
        host: "[::1]".to_owned(),
        port: Some(443),
    };
    assert_eq!(connect.form, Form::Tunnel(of));
    assert_eq!(authority("[::1"), None);
    assert_eq!(authority("[::1]443"), None);
}

#[test]
fn an_answer_ends_with_its_connection() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nETag: x\r\n\r\n";
    let answered = answer(head, "GET").unwrap();
    assert_eq!(answered.body, Body::Length(5));
    assert_eq!(
        String::from_utf8(answered.head).unwrap(),
        "HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(answer(head, "HEAD").unwrap().body, Body::Length(0));
    let open = answer(b"HTTP/1.0 200 OK\r\n\r\n", "GET").unwrap();
    assert_eq!(open.body, Body::ToTheEnd);
    assert!(answer(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "GET").is_err());
    // Found by a fuzz target: what was read could be written as what nobody reads.
    assert!(answer(b"HTTP/1.1 050 Odd\r\n\r\n", "GET").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
        let _ = answer(&bytes, "GET");
        let _ = request(&[b"GET / HTTP/1.1\r\nHost: a.org\r\n", &bytes[..], b"\r\n\r\n"].concat());
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same(
        path in "/[a-z0-9?=&%.]{0,20}", value in "[ -~&&[^\\r\\n]]{0,20}", length in 0..1000_u64
    ) {
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: a.org\r\nX-A: {value}\r\nContent-Length: {length}\r\n\r\n"
        );
        let first = read(&text).unwrap();
        let again = request(&first.written("a.org", &path)).unwrap();
        prop_assert_eq!(again, first);
    }
}

#[test]
fn what_is_written_anew_has_no_more_headers_than_can_be_read() {
    let many = |count: usize| "A: b\r\n".repeat(count);
    let asked = |count| {
        let text = format!("GET / HTTP/1.1\r\nHost: a.org\r\n{}\r\n", many(count - 1));
        let request = read(&text)?;
        super::request(&request.written("a.org", "/")).map(drop)
    };
    let told = |count| {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", many(count));
        let told = answer(text.as_bytes(), "GET")?;
        answer(&told.head, "GET").map(drop)
    };
    let most = MAX_HEADERS - OURS;
    assert_eq!((asked(most), told(most)), (Ok(()), Ok(())));
    let why = Err("it has too many headers");
    assert_eq!((asked(most + 1), told(most + 1)), (why, why));
}
