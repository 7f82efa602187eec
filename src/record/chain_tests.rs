use super::*;
use crate::protocol::stop::StopReason;
use proptest::prelude::*;

fn notice(text: &str) -> Event {
    Event::Notice { text: text.into() }
}

/// A file of these texts, and the head that is stored beside it.
fn file(texts: &[String]) -> (Vec<u8>, Head) {
    let mut head = Head::start();
    let mut bytes = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let event = match index + 1 == texts.len() {
            true => Event::RunEnded {
                stop: StopReason::Finished,
                exit_code: 0,
                text: text.clone(),
            },
            false => notice(text),
        };
        let line = encode(&head, "2026-01-02T03:04:05.678Z", &event).unwrap();
        head = head.then(&line);
        bytes.extend(line);
        bytes.push(b'\n');
    }
    (bytes, head)
}

fn four() -> (Vec<u8>, Head) {
    file(&["one", "two", "three", "four"].map(String::from))
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn judge(bytes: &[u8], head: Option<&Head>) -> Verified {
    verify(bytes, head).unwrap()
}

fn broken(line: u64, why: Fault) -> Verified {
    Verified::Broken { line, why }
}

#[test]
fn what_was_written_is_intact_with_its_head_and_without() {
    let (bytes, head) = four();
    let intact = Verified::Intact {
        records: 4,
        head: head.clone(),
    };
    assert_eq!(judge(&bytes, Some(&head)), intact);
    assert_eq!(judge(&bytes, None), intact);
}

#[test]
fn the_format_is_the_documented_one() {
    let line = encode(&Head::start(), "2026-01-02T03:04:05.678Z", &notice("hi")).unwrap();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        format!(
            r#"{{"v":1,"seq":1,"time":"2026-01-02T03:04:05.678Z","prev":"{}","event":{{"type":"notice","text":"hi"}}}}"#,
            "0".repeat(64)
        )
    );
}

#[test]
fn an_unfinished_last_line_is_a_crash() {
    let (bytes, _) = four();
    let all = lines(&bytes);
    let head = Head::start().then(all[0].strip_suffix(b"\n").unwrap());
    for cut in 1..all[1].len() {
        let mut torn = all[0].clone();
        torn.extend(&all[1][..cut]);
        let found = judge(&torn, Some(&head));
        assert_eq!(
            found,
            Verified::Torn {
                records: 1,
                head: head.clone()
            },
            "{cut}"
        );
    }
}

#[test]
fn a_last_line_that_was_whole_once_is_not_a_crash() {
    let (bytes, head) = four();
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(
        judge(cut, Some(&head)),
        broken(4, Fault::Missing { told: 4 })
    );
}

#[test]
fn something_after_an_unfinished_line_is_broken() {
    let (bytes, _) = four();
    let all = lines(&bytes);
    let mut mixed = all[0].clone();
    mixed.extend(&all[1][..10]);
    mixed.extend(&all[1]);
    assert!(matches!(
        judge(&mixed, None),
        Verified::Broken {
            line: 2,
            why: Fault::NotARecord { .. }
        }
    ));
}

#[test]
fn dropped_and_reordered_lines_are_named() {
    let (bytes, head) = four();
    let all = lines(&bytes);
    let without = |n: usize| {
        let mut rest = all.clone();
        rest.remove(n);
        rest.concat()
    };
    assert_eq!(
        judge(&without(1), Some(&head)),
        broken(2, Fault::Sequence { found: 3 })
    );
    assert_eq!(
        judge(&without(3), Some(&head)),
        broken(4, Fault::Missing { told: 4 })
    );
    let mut swapped = all.clone();
    swapped.swap(1, 2);
    assert_eq!(
        judge(&swapped.concat(), Some(&head)),
        broken(2, Fault::Sequence { found: 3 })
    );
    let mut doubled = all.clone();
    doubled.insert(1, all[1].clone());
    assert_eq!(
        judge(&doubled.concat(), Some(&head)),
        broken(3, Fault::Sequence { found: 2 })
    );
}

#[test]
fn a_changed_text_is_found_at_the_line_after_it() {
    let (bytes, head) = four();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(
        judge(text.replace("two", "TWO").as_bytes(), Some(&head)),
        broken(3, Fault::Hash)
    );
    // The last line has none after it: the head tells.
    assert_eq!(
        judge(text.replace("four", "FOUR").as_bytes(), Some(&head)),
        broken(4, Fault::Head)
    );
}

#[test]
fn a_format_of_the_future_is_said_so() {
    let (bytes, _) = four();
    let text = String::from_utf8(bytes).unwrap();
    let future = text.replacen(r#"{"v":1,"#, r#"{"v":2,"more":true,"#, 1);
    assert_eq!(
        judge(future.as_bytes(), None),
        broken(1, Fault::UnknownVersion { found: 2 })
    );
}

#[test]
fn a_head_may_lag_behind() {
    let (bytes, _) = four();
    let all = lines(&bytes);
    let early = Head::start().then(all[0].strip_suffix(b"\n").unwrap());
    assert!(matches!(
        judge(&bytes, Some(&early)),
        Verified::Intact { records: 4, .. }
    ));
}

#[test]
fn a_head_reads_back_and_a_power_cut_leaves_none() {
    let (_, head) = four();
    assert_eq!(
        Head::parse(head.to_text().as_bytes()),
        Ok(Some(head.clone()))
    );
    assert_eq!(Head::parse(b""), Ok(None));
    assert_eq!(Head::parse(&[0; 86]), Ok(None));
    assert_eq!(Head::parse(b"4 abc\n"), Err(Fault::HeadUnreadable));
    assert_eq!(head.to_text().len(), Head::start().to_text().len());
}

proptest! {
    #[test]
    fn no_single_byte_changes_unnoticed(
        texts in prop::collection::vec(".{0,12}", 1..6),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let (bytes, head) = file(&texts);
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != value);
        let mut changed = bytes;
        changed[place] = value;
        let found = judge(&changed, Some(&head));
        prop_assert!(matches!(found, Verified::Broken { .. }), "{found:?}");
    }

    #[test]
    fn no_line_is_dropped_doubled_or_moved_unnoticed(
        texts in prop::collection::vec("[a-c]{0,2}", 2..8),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        drop in any::<bool>(),
    ) {
        let (bytes, head) = file(&texts);
        let mut all = lines(&bytes);
        let (from, to) = (from.index(all.len()), to.index(all.len()));
        let line = all.remove(from);
        if !drop {
            prop_assume!(from != to);
            all.insert(to, line);
        }
        let found = judge(&all.concat(), Some(&head));
        prop_assert!(matches!(found, Verified::Broken { .. }), "{found:?}");
    }
}
