use super::*;
use proptest::prelude::*;

fn written(dir: &Path, bound: Option<u64>, chunks: &[Vec<u8>]) -> LogSummary {
    let mut writer = LogWriter::create(&dir.join("log"), bound).unwrap();
    for chunk in chunks {
        writer.put(chunk);
    }
    writer.finish()
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    LogReader::open(path)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn what_fits_is_kept_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let summary = written(dir.path(), Some(1000), std::slice::from_ref(&bytes));
    assert_eq!((summary.total, summary.dropped), (1000, 0));
    assert!(summary.failure.is_none());
    assert_eq!(fs::read(&summary.path).unwrap(), bytes);
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn what_is_too_much_is_cut_in_the_middle_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_be_bytes).collect();
    let summary = written(dir.path(), Some(4000), std::slice::from_ref(&bytes));
    let kept = fs::read(&summary.path).unwrap();
    let marker = format!("\n[fumehood: {} bytes were cut here]\n", summary.dropped);
    let at = kept
        .windows(marker.len())
        .position(|window| window == marker.as_bytes())
        .unwrap();
    let (head, tail) = (&kept[..at], &kept[at + marker.len()..]);
    assert_eq!(head, &bytes[..2000]);
    assert!(bytes.ends_with(tail));
    assert!(tail.len() >= 1000);
    assert_eq!(
        head.len() + tail.len() + summary.dropped as usize,
        bytes.len()
    );
}

#[test]
fn nothing_is_kept_of_a_bound_of_zero() {
    let dir = tempfile::tempdir().unwrap();
    let summary = written(dir.path(), Some(0), &[b"abc".to_vec()]);
    assert_eq!((summary.total, summary.dropped), (3, 3));
    assert_eq!(
        fs::read_to_string(&summary.path).unwrap(),
        "\n[fumehood: 3 bytes were cut here]\n"
    );
}

#[test]
fn everything_is_kept_without_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let summary = written(dir.path(), None, &[vec![7; 100_000]]);
    assert_eq!(summary.dropped, 0);
    assert_eq!(fs::metadata(&summary.path).unwrap().len(), 100_000);
}

#[test]
fn disk_stays_within_the_bound_while_a_program_floods() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::create(&dir.path().join("log"), Some(4000)).unwrap();
    for _ in 0..5000 {
        writer.put(&[1; 777]);
        let used: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(used <= 4000, "{used}");
    }
}

#[test]
fn a_full_disk_is_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::create(&dir.path().join("log"), None).unwrap();
    writer.put(b"before");
    writer.head = File::options().write(true).open("/dev/full").unwrap();
    writer.put(b"after");
    writer.put(b"later");
    let summary = writer.finish();
    assert_eq!((summary.total, summary.dropped), (16, 10));
    assert_eq!(summary.failure.unwrap().kind(), io::ErrorKind::StorageFull);
}

proptest! {
    #[test]
    fn a_log_reads_the_same_before_and_after_its_end(
        bound in 0u64..200,
        sizes in prop::collection::vec(0usize..90, 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::create(&path, Some(bound)).unwrap();
        let mut all = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let chunk = vec![index as u8; *size];
            writer.put(&chunk);
            all.extend(chunk);
        }
        let running = read(&path);
        let summary = writer.finish();
        let finished = read(&path);
        if bound >= 4 {
            prop_assert_eq!(&running, &finished);
        }
        prop_assert_eq!(files(dir.path()), 1);
        prop_assert_eq!(summary.total, all.len() as u64);
        if summary.dropped == 0 {
            prop_assert_eq!(finished, all);
        } else {
            let kept = finished.len() - marker(summary.dropped).len();
            prop_assert_eq!(kept as u64 + summary.dropped, summary.total);
            prop_assert!(kept as u64 <= bound);
        }
    }
}
