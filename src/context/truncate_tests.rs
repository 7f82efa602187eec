use super::*;
use proptest::prelude::*;

fn lines(count: usize) -> String {
    (0..count)
        .map(|n| format!("step {n} loss 0.123\n"))
        .collect()
}

const TRACEBACK: &str = "Traceback (most recent call last):\n  File \"train.py\", line 3, in <module>\n    fit(x)\n    ^^^^^^\n  File \"train.py\", line 1, in fit\n    raise ValueError(\"shape\")\nValueError: shape (3,) does not fit (4,)\n";

#[test]
fn a_short_text_is_untouched() {
    let cut = head_and_tail("all of it", 9);
    assert_eq!(
        (cut.text.as_str(), cut.total, cut.dropped),
        ("all of it", 9, 0)
    );
}

#[test]
fn a_long_text_keeps_whole_lines_of_head_and_tail_and_says_what_is_missing() {
    let text = lines(1000);
    let cut = head_and_tail(&text, 600);
    assert!(cut.text.starts_with("step 0 loss 0.123\nstep 1 "));
    assert!(cut.text.ends_with("step 999 loss 0.123\n"));
    let marker = format!("\n[… {} of {} bytes cut …]\nstep ", cut.dropped, text.len());
    assert!(cut.text.contains(&marker), "{}", cut.text);
    assert!(cut.text.len() > 400, "most of the room is used");
}

#[test]
fn the_last_traceback_is_kept_whole_in_the_middle_of_a_flood() {
    let text = format!("{}{TRACEBACK}{}", lines(500), lines(500));
    let cut = head_and_tail(&text, 900);
    assert!(cut.text.contains(TRACEBACK), "{}", cut.text);
    assert!(cut.text.starts_with("step 0 "));
    assert!(cut.text.ends_with("step 499 loss 0.123\n"));
    assert_eq!(cut.text.matches("bytes cut …]").count(), 2);
    assert!(cut.text.len() <= 900);
}

#[test]
fn of_two_tracebacks_the_last_is_the_one_kept() {
    let first = TRACEBACK.replace("shape", "first");
    let text = format!("{first}{}{TRACEBACK}{}", lines(500), lines(500));
    let cut = head_and_tail(&text, 1000);
    assert!(cut.text.contains(TRACEBACK));
}

#[test]
fn a_traceback_with_a_rank_before_each_line_is_kept_whole() {
    let ranked: String = TRACEBACK
        .lines()
        .map(|line| format!("[rank0]: {line}\n"))
        .collect();
    let text = format!("{}{ranked}{}", lines(500), lines(500));
    assert!(head_and_tail(&text, 1200).text.contains(&ranked));
}

#[test]
fn a_traceback_larger_than_the_room_is_cut_like_any_text() {
    let deep = format!(
        "{HEADER}\n{}ValueError: deep\n",
        "  File \"x.py\", line 1\n".repeat(500)
    );
    let cut = head_and_tail(&deep, 600);
    assert!(cut.text.len() <= 600 && cut.text.ends_with("ValueError: deep\n"));
    assert!(cut.text.starts_with(HEADER));
}

#[test]
fn a_flood_that_streams_by_is_held_in_bounded_memory() {
    let mut gather = Gather::new(1000);
    for _ in 0..100 {
        gather.push(&lines(100));
        assert!(gather.head.len() + gather.tail.len() <= 9000 + lines(100).len());
    }
    gather.push(TRACEBACK);
    let total = 100 * lines(100).len() + TRACEBACK.len();
    let cut = gather.finish();
    assert_eq!(cut.total, total as u64);
    assert!(cut.text.ends_with(TRACEBACK) && cut.text.starts_with("step 0 "));
}

proptest! {
    #[test]
    fn the_result_fits_and_the_sum_is_right(text in "(?s)[a-zé✓\n ]{0,900}", max in 0_usize..700) {
        let cut = head_and_tail(&text, max);
        prop_assert!(cut.text.len() <= max, "{} > {max}", cut.text.len());
        prop_assert_eq!(cut.total, text.len() as u64);
        prop_assert_eq!(cut.dropped == 0, text.len() <= max);
    }

    #[test]
    fn every_kept_line_is_a_piece_of_the_text_in_order(text in "[a-zé\n]{300,2000}", max in 256_usize..600) {
        let cut = head_and_tail(&text, max);
        let mut rest = text.as_str();
        for line in cut.text.lines().filter(|line| !line.starts_with("[… ")) {
            let at = rest.find(line);
            prop_assert!(at.is_some(), "{line:?} is not in the rest");
            rest = &rest[at.unwrap_or(0) + line.len()..];
        }
    }

    #[test]
    fn streaming_gives_what_the_whole_text_gives(text in "[a-zé\n]{0,1200}", sizes in proptest::collection::vec(1_usize..50, 1..5)) {
        let mut gather = Gather::new(300);
        let (mut rest, mut turn) = (text.as_str(), 0);
        while !rest.is_empty() {
            let size = rest.ceil_char_boundary(sizes[turn % sizes.len()].min(rest.len()));
            gather.push(&rest[..size]);
            (rest, turn) = (&rest[size..], turn + 1);
        }
        prop_assert_eq!(gather.finish(), head_and_tail(&text, 300));
    }
}
