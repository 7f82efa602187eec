use super::*;
use std::path::Path;

fn policy(remotes: &[&str]) -> GitPolicy {
    GitPolicy {
        hosts: vec!["github.com".into(), "huggingface.co".into()],
        remotes: remotes.iter().map(|&r| r.to_owned()).collect(),
        max_bytes: 1 << 20,
        max_files: 100,
    }
}

// Nothing of this is cloned, whatever the answer of a person: the policy's own words do not reach it.

const NO_URLS: &[&str] = &[
    "",
    "-",
    "--upload-pack=touch /tmp/x",
    "-oProxyCommand=x",
    "/srv/repos/x",
    "./x",
    "../x",
    "~/x",
    "x",
    "github.com/a/b",
    "//github.com/a/b",
    "C:\\repos\\x",
];

const OTHER_TRANSPORTS: &[&str] = &[
    "git://github.com/a/b",
    "ssh://git@github.com/a/b",
    "ssh://-oProxyCommand=touch%20x/a",
    "git+ssh://git@github.com/a/b",
    "git@github.com:a/b.git",
    "github.com:a/b.git",
    "[git@github.com]:a/b",
    "ext::sh -c touch% /tmp/x",
    "ext::https://github.com/a/b",
    "fd::17/foo",
    "https::http://github.com/a/b",
    "ftp://github.com/a/b",
    "rsync://github.com/a/b",
    "data:text/plain,x",
    "javascript:alert(1)",
    "HTTPS://github.com/a/b",
    "hTTps://github.com/a/b",
];

const USER_INFORMATION: &[&str] = &[
    "https://user@github.com/a/b",
    "https://user:secret@github.com/a/b",
    "https://@github.com/a/b",
    "https://:@github.com/a/b",
    "https://github.com@evil.example/a/b",
    "https://github.com:443@evil.example/a/b",
    "https://evil.example\\@github.com/a/b",
    "https://evil.example%40github.com/a/b",
];

const HOSTS_IN_DISGUISE: &[&str] = &[
    "https://GitHub.com/a/b",
    "https://github.com:443/a/b",
    "https://github.com:/a/b",
    "https://github.com:0443/a/b",
    "https://github.com:99999/a/b",
    "https://2130706433/a/b",
    "https://0x7f.1/a/b",
    "https://0177.0.0.1/a/b",
    "https://127.1/a/b",
    "https://[::ffff:127.0.0.1]/a/b",
    "https://[0:0:0:0:0:0:0:1]/a/b",
    "https://%67ithub.com/a/b",
    "https://github%2ecom/a/b",
    "https://github.com%00.evil.example/a/b",
    "https://gıthub.com/a/b",
    "https://github.com\u{3002}evil.example/a/b",
    "https://github.com。/a/b",
    "https:///github.com/a/b",
    "https:/github.com/a/b",
    "https:github.com/a/b",
    "https://",
    "https:///",
];

const PATHS_IN_DISGUISE: &[&str] = &[
    "https://github.com/a/../b",
    "https://github.com/a/./b",
    "https://github.com/..",
    "https://github.com/a/%2e%2e/b",
    "https://github.com/a/%2E%2E/b",
    "https://github.com/a/.%2e/b",
    "https://github.com/a%2fb",
    "https://github.com/a%2Fb",
    "https://github.com/a%5cb",
    "https://github.com/a%00b",
    "https://github.com/a%0ab",
    "https://github.com/a%c2%9bb",
    "https://github.com/a%c2%85",
    "https://github.com/a%",
    "https://github.com/a%zz",
    "https://github.com/a%25%32%65b",
    "https://github.com//a/b",
    "https://github.com/a//b",
    "https://github.com/-a/b",
    "https://github.com/a#b",
];

const WHAT_TERMINALS_AND_SHELLS_READ: &[&str] = &[
    "https://github.com/a\\b",
    "https://github.com/a/b\n",
    " https://github.com/a/b",
    "https://github.com/a b",
    "https://github.com/a\tb",
    "https://github.com/a\rb",
    "https://github.com/a\0b",
    "https://github.com/a\u{1b}[31mb",
    "https://github.com/a\u{202e}b",
    "https://github.com/ä",
    "https://github.com/a?x=\"y\"",
    "https://github.com/$(id)",
    "https://github.com/`id`",
];

const FILES_IN_DISGUISE: &[&str] = &[
    "file:/srv/repos/x",
    "file://srv/repos/x",
    "file://localhost/srv/repos/x",
    "file:///srv/repos/../x",
    "file:///srv/repos/%2e%2e/x",
    "file:///srv/repos//x",
    "file:///srv/repos/x#y",
    "FILE:///srv/repos/x",
];

fn bad() -> Vec<&'static str> {
    [
        NO_URLS,
        OTHER_TRANSPORTS,
        USER_INFORMATION,
        HOSTS_IN_DISGUISE,
        PATHS_IN_DISGUISE,
        WHAT_TERMINALS_AND_SHELLS_READ,
        FILES_IN_DISGUISE,
    ]
    .concat()
}

/// Under the most generous policies there are: one even lists what is refused.
fn all_refused(urls: &[&str]) {
    for remotes in [&["https://github.com/", "file:///srv/"], urls] {
        let taken: Vec<_> = urls
            .iter()
            .map(|url| (url, check_url(url, &policy(remotes))))
            .filter(|(_, judged)| {
                !matches!(
                    judged,
                    Err(UrlError::Spelling { .. } | UrlError::Scheme { .. })
                )
            })
            .collect();
        assert!(taken.is_empty(), "{taken:#?}");
    }
}

#[test]
fn what_is_no_url_is_refused() {
    all_refused(NO_URLS);
}

#[test]
fn other_transports_are_refused() {
    all_refused(OTHER_TRANSPORTS);
}

#[test]
fn user_names_and_passwords_are_refused() {
    all_refused(USER_INFORMATION);
}

#[test]
fn hosts_in_disguise_are_refused() {
    all_refused(HOSTS_IN_DISGUISE);
}

#[test]
fn paths_in_disguise_are_refused() {
    all_refused(PATHS_IN_DISGUISE);
}

#[test]
fn what_terminals_and_shells_read_is_refused() {
    all_refused(WHAT_TERMINALS_AND_SHELLS_READ);
}

#[test]
fn files_in_disguise_are_refused() {
    all_refused(FILES_IN_DISGUISE);
}

#[test]
fn refusals_are_printable_ascii_and_bounded_and_say_what_to_do() {
    let long = format!("https://github.com/{}", "ä".repeat(5000));
    for url in bad().into_iter().chain([long.as_str()]) {
        let error = check_url(url, &policy(&[])).unwrap_err();
        for text in [error.to_string(), error.remedy()] {
            assert!(!text.is_empty() && text.len() < 4096, "{url:?}: {text}");
            assert!(!text.chars().any(char::is_control), "{url:?}: {text:?}");
            assert!(
                text.chars().all(|c| c.is_ascii() || c == '…'),
                "{url:?}: {text:?}"
            );
        }
    }
}

#[test]
fn the_hosts_of_the_policy_are_listed() {
    for url in [
        "https://github.com/a/b",
        "https://github.com/a/b.git",
        "https://github.com/a/b/",
        "https://huggingface.co/datasets/a/b",
        "https://github.com/a/b?c=d",
        "https://github.com/a/b%20c",
        "https://github.com",
    ] {
        let checked = check_url(url, &policy(&[])).unwrap();
        assert_eq!(checked.listing(), &Listing::Host, "{url}");
        assert_eq!(checked.as_str(), url);
        assert_eq!(checked.scheme(), Scheme::Https);
        assert_eq!(checked.widens(), None);
    }
}

#[test]
fn another_public_host_is_a_question_with_the_line_that_would_list_it() {
    for (url, line) in [
        ("https://gitlab.com/a/b", "git.hosts = [\"gitlab.com\"]"),
        (
            "https://www.github.com/a/b",
            "git.hosts = [\"www.github.com\"]",
        ),
        (
            "https://github.com.evil.example/a",
            "git.hosts = [\"github.com.evil.example\"]",
        ),
        (
            "https://xn--gthub-n4a.com/a",
            "git.hosts = [\"xn--gthub-n4a.com\"]",
        ),
    ] {
        let checked = check_url(url, &policy(&[])).unwrap();
        assert!(!checked.is_listed(), "{url}");
        assert_eq!(checked.widens(), Some(line));
    }
}

#[test]
fn what_is_not_https_to_a_public_name_is_refused_unless_listed() {
    for url in [
        "http://github.com/a/b",
        "http://127.0.0.1:8000/a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://169.254.169.254/latest",
        "https://localhost/a",
        "https://intranet/a",
        "https://github.com./a",
        "https://git_hub.com/a",
        "https://-github.com/a",
        "https://github.com:8443/a",
        "file:///srv/repos/x",
    ] {
        match check_url(url, &policy(&[])) {
            Err(error @ UrlError::NotListed { .. }) => {
                assert!(
                    error.remedy().contains(&format!("remotes = [\"{url}\"]")),
                    "{}",
                    error.remedy()
                );
            }
            other => panic!("{url:?}: {other:?}"),
        }
        let checked = check_url(url, &policy(&[url])).unwrap();
        assert_eq!(checked.listing(), &Listing::Remote { prefix: url.into() });
    }
}

#[test]
fn a_remote_covers_whole_segments_only() {
    let covered = |prefix: &str, url: &str| {
        check_url(url, &policy(&[prefix])).is_ok_and(|checked| checked.is_listed())
    };
    for (prefix, url) in [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/x.git"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/x"),
        ("file:///srv/repos/x", "file:///srv/repos/x"),
        ("file:///srv/repos/x", "file:///srv/repos/x/y"),
        ("file:///srv/repos/", "file:///srv/repos/x"),
    ] {
        assert!(covered(prefix, url), "{prefix} {url}");
    }
    for (prefix, url) in [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:80000/x"),
        ("http://127.0.0.1:80", "http://127.0.0.1:8000/x"),
        ("http://127.0.0.1", "http://127.0.0.1:8000/x"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8001/x"),
        ("http://127.0.0.1:8000/", "https://127.0.0.1:8000/x"),
        ("file:///srv/repos/x", "file:///srv/repos/xy"),
        ("file:///srv/repos/x", "file:///srv/repos"),
        ("file:///", "file:///etc"),
        ("file://", "file:///etc"),
        ("http://h/a", "http://h/a?b"),
        ("", "file:///etc"),
        ("f", "file:///etc"),
        ("http", "http://127.0.0.1/x"),
        ("https:", "https://127.0.0.1/x"),
    ] {
        assert!(!covered(prefix, url), "{prefix} {url}");
    }
}

#[test]
fn entries_of_a_policy_are_judged_too() {
    for good in ["github.com", "git.example.org", "xn--bcher-kva.example"] {
        assert_eq!(check_host(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "GitHub.com",
        "github.com/a",
        "github.com:443",
        "github.com:8443",
        "*.github.com",
        "user@github.com",
        "127.0.0.1",
        "[::1]",
        "github.com.",
        "https://github.com",
        "github.com?x",
        "github.com#x",
        "gıthub.com",
    ] {
        assert!(check_host(bad).is_err(), "{bad:?}");
    }
    for good in [
        "http://127.0.0.1:8000/",
        "http://[::1]:8000/",
        "file:///srv/repos/x",
        "https://git.corp.example:8443/team",
    ] {
        assert_eq!(check_remote(good), Ok(()), "{good}");
    }
    for bad in [
        "file:///",
        "http://h/a?b",
        "git://h/a",
        "git@h:a",
        "/srv/x",
        "http://u@h/a",
        "http://h/a/../b",
        "",
    ] {
        assert!(check_remote(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn folders_have_a_url_that_is_taken_and_leads_back() {
    for path in [
        "/srv/repos/x",
        "/home/ada lovelace/x",
        "/home/größe/x",
        "/home/o'brien/[x]{y}",
        "/a#b/c?d/e&f/g=h/~i/$j",
    ] {
        let url = file_url(Path::new(path));
        let checked = check_url(&url, &policy(&[&url])).unwrap();
        assert!(checked.is_listed(), "{url}");
        assert_eq!(checked.url().to_file_path().unwrap(), Path::new(path));
    }
    for path in ["/a%b", "/a\\b", "/a\nb", "relative", "/a/../b", "/a//b"] {
        let url = file_url(Path::new(path));
        assert!(check_url(&url, &policy(&[&url])).is_err(), "{url}");
    }
}
