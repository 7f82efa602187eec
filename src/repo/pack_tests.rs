use super::*;
use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use std::io::Write as _;

const BOUNDS: PackBounds = PackBounds {
    objects: 10,
    object: 1 << 20,
    total: 4 << 20,
};

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(byte | if value > 0 { 0x80 } else { 0 });
        if value == 0 {
            return out;
        }
    }
}

fn head(kind: u8, size: u64) -> Vec<u8> {
    let rest = size >> 4;
    let first = (kind << 4) | (size & 15) as u8;
    if rest == 0 {
        return vec![first];
    }
    [vec![first | 0x80], varint(rest)].concat()
}

fn object(kind: u8, content: &[u8]) -> Vec<u8> {
    [head(kind, content.len() as u64), deflate(content)].concat()
}

/// A delta on the object before that copies `result` bytes, as it says.
fn delta(base: u64, result: u64) -> Vec<u8> {
    let content = [varint(base), varint(result), vec![0x80 | 0x40, 0xff]].concat();
    [
        head(6, content.len() as u64),
        vec![0x81, 0x01],
        deflate(&content),
    ]
    .concat()
}

fn pack(objects: &[Vec<u8>]) -> Vec<u8> {
    let count = (objects.len() as u32).to_be_bytes();
    [b"PACK\0\0\0\x02", &count[..], &objects.concat(), &[0; 20]].concat()
}

fn scan(bytes: &[u8]) -> Result<(), Fault> {
    let mut scanner = Scanner::new(BOUNDS);
    scanner.push(bytes)
}

#[test]
fn a_pack_within_its_bounds_passes_to_its_end() {
    let pack = pack(&[
        object(1, b"tree x"),
        object(3, &[7; 100_000]),
        object(3, b""),
        delta(100_000, 1 << 20),
    ]);
    let mut scanner = Scanner::new(BOUNDS);
    assert_eq!(scanner.push(&pack), Ok(()));
    assert!(matches!(scanner.scan.state, State::End));
    assert!(matches!(scanner.push(b"x"), Err(Fault::Wrong(_))));
}

#[test]
fn more_objects_than_allowed_are_refused_at_the_head() {
    let count = 11u32.to_be_bytes();
    let head = [b"PACK\0\0\0\x02", &count[..]].concat();
    assert_eq!(scan(&head), Err(Fault::TooBig(Limit::Objects(10))));
}

#[test]
fn a_big_object_is_refused_before_its_content_comes() {
    let count = 1u32.to_be_bytes();
    let bytes = [b"PACK\0\0\0\x02", &count[..], &head(3, 600 << 20)].concat();
    assert_eq!(scan(&bytes), Err(Fault::TooBig(Limit::Object(1 << 20))));
}

#[test]
fn a_small_delta_that_unfolds_to_much_is_refused() {
    let bytes = pack(&[object(3, &[0; 1000]), delta(1000, 10 << 30)]);
    assert!(bytes.len() < 200);
    assert_eq!(scan(&bytes), Err(Fault::TooBig(Limit::Object(1 << 20))));
}

#[test]
fn many_objects_that_unfold_to_much_together_are_refused() {
    let bytes = pack(&[
        object(3, &[0; 1 << 20]),
        delta(1 << 20, 1 << 20),
        delta(1 << 20, 1 << 20),
        delta(1 << 20, 1 << 20),
        delta(1 << 20, 1 << 20),
    ]);
    assert_eq!(scan(&bytes), Err(Fault::TooBig(Limit::Unfolded(4 << 20))));
}

#[test]
fn objects_that_lie_about_their_size_are_refused() {
    let count = 1u32.to_be_bytes();
    for (said, content) in [(10, vec![0; 1_000_000]), (10, vec![0; 9]), (0, vec![0; 1])] {
        let bytes = [
            b"PACK\0\0\0\x02",
            &count[..],
            &head(3, said),
            &deflate(&content),
        ]
        .concat();
        assert!(matches!(scan(&bytes), Err(Fault::Wrong(_))), "{said}");
    }
}

#[test]
fn what_is_no_pack_is_refused() {
    for bad in [
        &b"PICK\0\0\0\x02\0\0\0\x01"[..],
        b"PACK\0\0\0\x01\0\0\0\x01",
        b"PACK\0\0\0\x02\0\0\0\x01\x05",
        b"PACK\0\0\0\x02\0\0\0\x01\x00",
        b"PACK\0\0\0\x02\0\0\0\x01\x31notzlib",
        b"PACK\0\0\0\x02\0\0\0\x01\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"PACK\0\0\0\x02\0\0\0\x01\x61\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        assert!(scan(bad).is_err(), "{}", bad.escape_ascii());
    }
}

proptest! {
    #[test]
    fn where_chunks_end_makes_no_difference(size in 1usize..50) {
        let good = pack(&[object(1, b"tree x"), object(3, &[7; 50_000]), delta(50_000, 10)]);
        let bad = pack(&[object(3, &[0; 1000]), delta(1000, 10 << 30)]);
        for bytes in [good, bad] {
            let mut scanner = Scanner::new(BOUNDS);
            let pieces = bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk));
            prop_assert_eq!(pieces, scan(&bytes));
        }
    }

    #[test]
    fn no_stream_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300), count in 0u32..12) {
        let bytes = [b"PACK\0\0\0\x02", &count.to_be_bytes()[..], &body].concat();
        let _either = scan(&bytes);
    }
}
