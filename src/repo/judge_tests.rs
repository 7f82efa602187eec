use super::*;
use proptest::prelude::*;

#[test]
fn names_that_only_look_odd_are_kept() {
    for good in [
        ".github",
        ".gitignore",
        ".gitmodules",
        ".gitattributes",
        "git",
        "agit~1",
        "git~2",
        "x.git",
        "...",
        "..a",
        "-rf",
        "a b",
        "a\\b",
        "größe",
        "файл",
        "$(id)",
        "nul",
    ] {
        assert_eq!(bad_name(good.as_bytes()), None, "{good}");
    }
    assert_eq!(bad_name(b"gr\xf6\xdfe"), None, "no UTF-8, but a name");
    assert_eq!(bad_name(&[b'a'; 255]), None);
}

#[test]
fn settings_are_known_in_any_case() {
    for name in [".hg", ".HG", ".envrc", ".VSCode", ".idea", ".claude"] {
        assert!(is_setting(name.as_bytes()), "{name}");
    }
    assert!(!is_setting(b".env") && !is_setting(b"vscode"));
}

fn parse(raw: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut rest = raw;
    std::iter::from_fn(|| next_entry(&mut rest))
        .map(|entry| entry.map(|entry| (entry.mode.to_vec(), entry.name.to_vec())))
        .collect()
}

#[test]
fn a_tree_is_parsed_to_its_last_byte_or_not_at_all() {
    let one = [b"100644 a\0".as_slice(), &[7; 20]].concat();
    let two = [one.as_slice(), b"40000 d\0", &[0; 20]].concat();
    assert_eq!(parse(b""), Some(vec![]));
    assert_eq!(parse(&two).unwrap().len(), 2);
    for cut in 1..two.len() {
        let whole = cut == one.len();
        assert_eq!(parse(&two[..cut]).is_some(), whole, "{cut}");
    }
    assert_eq!(parse(b"10064400000 a\0"), None);
    assert_eq!(parse(&[one.as_slice(), b"\n"].concat()), None);
}

proptest! {
    #[test]
    fn no_tree_makes_it_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = parse(&raw);
    }
}
