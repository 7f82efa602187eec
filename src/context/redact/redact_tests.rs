use super::*;
use proptest::prelude::*;

fn redactor(values: &[&str]) -> Redactor {
    let mut known = Known::default();
    for value in values {
        known.add("KEY", value.as_bytes());
    }
    Redactor::new(&known)
}

fn pieces(redactor: &Redactor, text: &[u8], size: usize) -> Vec<u8> {
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    for piece in text.chunks(size) {
        stream.push(piece, &mut out);
    }
    stream.finish(&mut out);
    out
}

const KEY: &str = "hf_abcDEF123/+xyz";

#[test]
fn a_value_cut_across_pieces_is_found_and_lengths_stay() {
    let redactor = redactor(&[KEY]);
    let text = format!("before {KEY} between {KEY}{KEY} after hf_abcDEF12 not");
    let hidden = "*".repeat(KEY.len());
    let expected = format!("before {hidden} between {hidden}{hidden} after hf_abcDEF12 not");
    for size in 1..text.len() {
        let out = pieces(&redactor, text.as_bytes(), size);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            expected,
            "{size} at a time"
        );
    }
}

#[test]
fn values_that_overlap_are_hidden_whole() {
    let redactor = redactor(&["abcdefgh", "efghijkl", "abcdefghXYZ"]);
    assert_eq!(redactor.text("-abcdefghijkl-"), "-************-");
    assert_eq!(redactor.text("-abcdefghXYZ-"), "-***********-");
    assert_eq!(redactor.text("-abcdefghXY-"), "-********XY-");
}

#[test]
fn a_prompt_is_not_held_back_and_a_value_that_begins_in_it_is_hidden() {
    let redactor = redactor(&[KEY]);
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    stream.push(b"say h", &mut out);
    stream.pause(&mut out);
    assert_eq!(out, b"say h");
    stream.push(&KEY.as_bytes()[1..9], &mut out);
    stream.pause(&mut out);
    assert_eq!(out, b"say h", "held while it may be a value");
    stream.push(&KEY.as_bytes()[9..], &mut out);
    stream.push(b"!", &mut out);
    let hidden = "*".repeat(KEY.len() - 1);
    assert_eq!(String::from_utf8(out).unwrap(), format!("say h{hidden}!"));
}

#[test]
fn held_bytes_come_out_when_they_are_no_value_or_nothing_follows() {
    let redactor = redactor(&[KEY]);
    let text = format!("{} and {}", &KEY[..12], &KEY[..14]);
    for size in 1..text.len() {
        assert_eq!(pieces(&redactor, text.as_bytes(), size), text.as_bytes());
    }
}

#[test]
fn no_more_is_held_than_the_longest_form() {
    let value = "a".repeat(64);
    let redactor = redactor(&[&value]);
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    for _ in 0..100_000 {
        stream.push(b"a", &mut out);
        assert!(stream.held.len() <= 8 * 64);
    }
    stream.finish(&mut out);
    assert_eq!(out.len(), 100_000);
    assert!(out.iter().all(|&byte| byte == b'*'));
}

#[test]
fn every_text_of_a_structure_is_redacted_and_words_of_ours_stay() {
    use crate::protocol::event::Event;
    let redactor = redactor(&[KEY, "user-input", "se\"cret\nvalue"]);
    let told = Event::Asked {
        digest: crate::protocol::ids::Digest::new("00"),
        action: "user-input".into(),
        summary: format!("say {KEY}"),
        rule: String::new(),
        detail: serde_json::json!({"deep": [{"er": "se\"cret\nvalue"}]}),
    };
    let text = serde_json::to_string(&redactor.anything(&told).unwrap()).unwrap();
    for value in [KEY, "secret", "user-input", "cret"] {
        assert!(!text.contains(value), "{text}");
    }
    let input = Event::UserInput {
        text: format!("x {KEY}"),
    };
    let Some(Event::UserInput { text }) = redactor.anything(&input) else {
        panic!("the type's own word is not a text");
    };
    assert!(!text.contains(KEY));
    assert!(redactor.anything(&"nothing in it".to_owned()).is_none());
}

#[test]
fn a_word_of_ours_that_stays_leaves_nothing_else_as_it_was() {
    use crate::protocol::spec::BackendKind;
    let redactor = redactor(&[KEY, "namespace"]);
    // Both are values: a kind must be one of its words, a text need not.
    let told: (BackendKind, Vec<String>) = (
        BackendKind::Namespace,
        vec!["namespace".into(), "harmless".into(), KEY.into()],
    );
    let (kind, texts) = redactor.anything(&told).unwrap();
    assert_eq!(kind, BackendKind::Namespace);
    assert_eq!(
        texts,
        ["*".repeat(9), "harmless".into(), "*".repeat(KEY.len())]
    );
}

#[test]
fn a_long_value_is_found_too() {
    let value: String = (0..4000)
        .map(|n| char::from(b'a' + (n * n % 23) as u8))
        .collect();
    let redactor = redactor(&[&value, KEY]);
    let text = format!("x{value}y{KEY}z");
    for size in [1, 100, 5000] {
        let out = String::from_utf8(pieces(&redactor, text.as_bytes(), size)).unwrap();
        assert_eq!(out.trim_matches('*').len(), out.len());
        assert_eq!(out.replace('*', ""), "xyz");
        assert_eq!(out.len(), text.len());
    }
}

#[test]
fn values_that_are_too_short_or_nothing_are_not_sought() {
    assert!(redactor(&["short", "", "  \n"]).is_idle());
    let mut stream = Redactor::default().stream();
    let mut out = Vec::new();
    stream.push(b"as it is", &mut out);
    assert_eq!(out, b"as it is");
}

#[test]
fn neither_names_nor_debug_tell_a_value() {
    let mut known = Known::default();
    known.add("KEY", KEY.as_bytes());
    let told = format!(
        "{known:?} {:?} {:?}",
        Redactor::new(&known),
        Redactor::new(&known).stream()
    );
    assert!(told.contains("KEY") && !told.contains("hf_"), "{told}");
}

proptest! {
    #[test]
    fn however_it_is_cut_the_same_comes_out(
        text in "[ab]{0,200}",
        cuts in proptest::collection::vec(1usize..7, 1..40),
    ) {
        let redactor = redactor(&["abababab", "aabbaabbab", "bbbbbbbb"]);
        let whole = redactor.text(&text).into_owned();
        prop_assert_eq!(whole.len(), text.len());
        for value in ["abababab", "aabbaabbab", "bbbbbbbb"] {
            prop_assert!(!whole.contains(value));
        }
        let mut stream = redactor.stream();
        let (mut out, mut rest) = (Vec::new(), text.as_bytes());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            stream.push(now, &mut out);
            rest = later;
        }
        stream.finish(&mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
    }
}
