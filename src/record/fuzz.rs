//! What holds of records, whatever is in their files.

use super::chain::{
    self, Fault, Head, Next, Reader, Recorded, Verified, decode_alone, encode, verify,
};
use crate::protocol::event::Event;

const TIME: &str = "2026-01-01T00:00:00Z";

/// A file as it is; then its lines as events of a file that is otherwise right.
pub(crate) fn record(data: &[u8]) {
    judged(data);
    // What a head can be is of one length.
    if let Ok(Some(head)) = Head::parse(data) {
        assert!(head.to_text().as_bytes().eq_ignore_ascii_case(data));
    }
    let mut file = Vec::new();
    let mut head = Head::start();
    for line in data.split(|byte| *byte == b'\n') {
        let line = line_around(&head, line);
        head = head.then(&line);
        file.extend_from_slice(&line);
        file.push(b'\n');
    }
    judged(&file);
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<Event>(line) {
            written_anew(&event);
        }
    }
}

fn line_around(head: &Head, event: &[u8]) -> Vec<u8> {
    let (v, seq, prev) = (chain::VERSION, head.seq + 1, &head.hash);
    let start = format!(r#"{{"v":{v},"seq":{seq},"time":"{TIME}","prev":"{prev}","event":"#);
    [start.as_bytes(), event, b"}"].concat()
}

/// The reader and the judge agree, and a byte that is changed is seen.
fn judged(file: &[u8]) {
    let verified = verify(file, None).expect("a slice can be read");
    let mut reader = Reader::new(file);
    let mut records = 0;
    let end = loop {
        match reader.next().expect("a slice can be read") {
            Next::Record { record, .. } => {
                records += 1;
                assert_eq!(record.seq, records);
            }
            other => break other,
        }
    };
    let head = match (end, verified) {
        (
            Next::End,
            Verified::Intact {
                records: told,
                head,
            },
        ) => {
            assert_eq!(told, records);
            head
        }
        (Next::Torn, Verified::Torn { records: told, .. }) => return assert_eq!(told, records),
        (Next::Broken { line, why }, told) => {
            assert_eq!(line, records + 1);
            return assert_eq!(told, Verified::Broken { line, why });
        }
        (_, told) => panic!("{records} records were read, and it is {told:?}"),
    };
    let intact = |file: &[u8]| {
        let judged = verify(file, Some(&head)).expect("a slice can be read");
        matches!(judged, Verified::Intact { .. })
    };
    assert!(intact(file));
    if let Some(last) = file.len().checked_sub(1) {
        assert!(!intact(&file[..last]));
        let mut changed = file.to_vec();
        changed[usize::from(file[last / 2]) * last / 255] ^= 1;
        assert!(!intact(&changed));
    }
}

/// An event that can be read can be recorded, and reads the same.
fn written_anew(event: &Event) {
    let line = encode(&Head::start(), TIME, event).expect("an event can be written");
    assert!(!line.contains(&b'\n'));
    let again: Result<Recorded, Fault> = decode_alone(&line);
    assert_eq!(again.map(|one| one.event).as_ref(), Ok(event));
}
