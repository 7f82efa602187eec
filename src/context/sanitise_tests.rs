use super::*;
use proptest::prelude::*;

fn clean(text: &str) -> String {
    sanitise(text.as_bytes(), 1000)
}

#[test]
fn plain_text_tabs_and_newlines_pass_unchanged() {
    let text = "epoch 1\tloss 0.5\nÜnïcødé ✓ 日本 👩‍🔬\n";
    assert_eq!(clean(text), text);
}

#[test]
fn colours_and_cursor_moves_vanish() {
    assert_eq!(clean("\x1b[1;31mred\x1b[0m \x1b[2J\x1b[10;10Hx"), "red x");
    assert_eq!(clean("\x1b(Ba\x1b7b\x1bcc"), "abc");
}

#[test]
fn c1_spellings_vanish_like_their_escape_spellings() {
    assert_eq!(clean("a\u{9b}31mb\u{9d}0;title\u{9c}c"), "abc");
    assert_eq!(sanitise(b"a\x9b31mb", 99), "a\u{fffd}31mb");
}

#[test]
fn clipboard_writes_links_and_titles_vanish() {
    assert_eq!(clean("a\x1b]52;c;cm0gLXJmIC8=\x07b"), "ab");
    assert_eq!(
        clean("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\"),
        "click"
    );
    assert_eq!(
        clean("\x1bP$q\"p\x1b\\x\x1b_apc\x1b\\y\x1b^pm\x1b\\z"),
        "xyz"
    );
}

#[test]
fn an_unterminated_string_cannot_hide_the_rest_of_the_log() {
    assert_eq!(
        clean("\x1b]0;no end\nTraceback: boom\n"),
        "\nTraceback: boom\n"
    );
    let long = format!("\x1bP{}END", "q".repeat(MAX_STRING));
    assert_eq!(clean(&long), "END");
}

#[test]
fn an_escape_inside_a_string_begins_a_new_sequence() {
    assert_eq!(clean("\x1b]0;t\x1b[31mred"), "red");
}

#[test]
fn a_newline_inside_a_control_sequence_still_counts() {
    assert_eq!(clean("a\x1b[3\nb\x1b\nc"), "a\nb\nc");
}

#[test]
fn bells_nul_and_other_controls_vanish() {
    assert_eq!(clean("a\0b\x07c\x7fd\x0ee"), "abcde");
}

#[test]
fn characters_that_reorder_or_hide_are_written_out() {
    assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
    assert_eq!(clean("x\u{200b}\u{e0041}"), "x\\u{200b}\\u{e0041}");
}

#[test]
fn bad_utf8_becomes_the_replacement_character() {
    assert_eq!(
        sanitise(b"a\xff\xc3(\xe2\x82", 99),
        "a\u{fffd}\u{fffd}(\u{fffd}"
    );
}

#[test]
fn a_progress_bar_folds_to_its_last_state() {
    assert_eq!(
        clean("  1%|#\r 50%|##\r100%|####|\r\nok\r\n"),
        "100%|####|\nok\n"
    );
    assert_eq!(clean("50%\r   \rdone\n"), "done\n");
    assert_eq!(clean("50%\x1b[2K\x1b[1Gdone\n"), "done\n");
    assert_eq!(clean("|\x08/\x08-\x08ok\n"), "ok\n");
}

#[test]
fn the_unfinished_line_can_be_looked_at() {
    let mut sanitiser = Sanitiser::new(99);
    assert_eq!(sanitiser.push(b"done\n 1%\r 2%"), "done\n");
    assert_eq!(sanitiser.pending(), " 2%");
    assert_eq!(sanitiser.finish(), " 2%");
}

#[test]
fn a_line_over_its_limit_is_cut_and_says_so() {
    assert_eq!(
        sanitise("ab\u{e9}defg\nok\n".as_bytes(), 3),
        "ab[… 6 bytes of this line cut]\nok\n"
    );
    assert_eq!(sanitise(b"abcdef\rxy\n", 3), "xy\n");
}

#[test]
fn a_live_terminal_sees_text_at_once_and_bars_redrawn() {
    let mut live = Sanitiser::live(99);
    assert_eq!(live.push(b"name? "), "name? ");
    assert_eq!(live.push(b"\x1b[31m1%\r"), "1%");
    assert_eq!(live.push(b"2%\r\n"), "\r\u{1b}[K2%\n");
    assert_eq!(live.finish(), "");
}

#[test]
fn a_prompt_shows_what_is_not_printable_ascii() {
    assert_eq!(visible("p\u{430}y\n\x1b[0m"), "p\\u{430}y\\u{a}\\u{1b}[0m");
    assert_eq!(visible(r"C:\dir \u{41}"), r"C:\dir \u{5c}u{41}");
    assert_eq!(visible_lines("a\tb\n\u{202e}"), "a\tb\n\\u{202e}");
}

/// Bytes that meet each other's edges: escape sequences, controls, cut characters, plain text.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        "[a-z é✓👩]{0,8}".prop_map(String::into_bytes),
        proptest::sample::select(vec![
            "\x1b[",
            "\x1b]52;c;",
            "\x1bP",
            "\x07",
            "\x1b\\",
            "\u{9b}",
            "\u{9c}",
            "\u{9d}",
            "31m",
            "\r",
            "\n",
            "\r\n",
            "\x08",
            "\u{202e}",
            "\x1b",
            "1G",
            "\x18",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn in_pieces(mut sanitiser: Sanitiser, bytes: &[u8], sizes: &[usize]) -> String {
    let (mut out, mut rest, mut turn) = (String::new(), bytes, 0);
    while !rest.is_empty() {
        let size = sizes[turn % sizes.len()].min(rest.len());
        out.push_str(&sanitiser.push(&rest[..size]));
        (rest, turn) = (&rest[size..], turn + 1);
    }
    out + &sanitiser.finish()
}

proptest! {
    #[test]
    fn any_split_gives_the_same_output(
        bytes in hostile(),
        sizes in proptest::collection::vec(1_usize..9, 1..8),
        max in 0_usize..40,
    ) {
        for make in [Sanitiser::new, Sanitiser::live] {
            let whole = in_pieces(make(max), &bytes, &[usize::MAX]);
            prop_assert_eq!(in_pieces(make(max), &bytes, &sizes), whole);
        }
    }

    #[test]
    fn nothing_but_printable_text_tabs_and_newlines_comes_out(bytes in hostile(), max in 0_usize..99) {
        let out = sanitise(&bytes, max);
        prop_assert!(out.chars().all(|c| matches!(c, '\n' | '\t') || (!c.is_control() && !deceives(c))));
    }

    #[test]
    fn a_live_terminal_gets_no_sequence_but_our_erase(bytes in hostile()) {
        let out = in_pieces(Sanitiser::live(99), &bytes, &[usize::MAX]);
        let rest = out.replace("\r\u{1b}[K", "").replace("\u{8} \u{8}", "");
        prop_assert!(rest.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
    }

    #[test]
    fn lines_stay_within_their_limit(bytes in hostile(), max in 0_usize..40) {
        for line in sanitise(&bytes, max).lines() {
            prop_assert!(line.len() <= max + "[… 18446744073709551615 bytes of this line cut]".len());
        }
    }

    #[test]
    fn visible_is_printable_ascii_and_tells_texts_apart(a in ".{0,12}", b in ".{0,12}") {
        prop_assert!(visible(&a).bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(visible(&a) == visible(&b), a == b);
    }
}
