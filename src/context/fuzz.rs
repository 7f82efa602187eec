//! What holds of the sanitiser, whatever bytes it is given.

use super::sanitise::{Sanitiser, deceives, sanitise, visible, visible_lines};

/// Longest marker after a line that was cut.
const MARKER: usize = 60;

/// No line of an input is longer.
const WIDE: usize = 1 << 20;

/// The first byte says where the rest is cut in two, and how long a line may be.
pub(crate) fn sanitiser(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let cut = usize::from(first) % (bytes.len() + 1);
    for max in [usize::from(first) % 40, WIDE] {
        let text = sanitise(bytes, max);
        assert!(is_plain(&text), "{text:?}");
        let mut lines = text.split('\n');
        assert!(lines.all(|line| line.len() <= max + MARKER), "{text:?}");
        // How the bytes come makes no difference.
        let mut pieces = Sanitiser::new(max);
        let mut joined = pieces.push(&bytes[..cut]);
        joined += &pieces.push(&bytes[cut..]);
        joined += &pieces.finish();
        assert_eq!(joined, text);
    }
    let once = sanitise(bytes, WIDE);
    assert_eq!(sanitise(once.as_bytes(), WIDE), once);
    live(bytes, cut);
    let text = String::from_utf8_lossy(bytes);
    let shown = visible(&text);
    assert!(shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    assert_eq!(read_back(&shown), text, "two texts could look the same");
    assert_eq!(read_back(&visible_lines(&text)), text);
}

/// On a terminal there are two escape sequences more, both our own.
fn live(bytes: &[u8], cut: usize) {
    let mut whole = Sanitiser::live(WIDE);
    let text = whole.push(bytes) + &whole.finish();
    let mut pieces = Sanitiser::live(WIDE);
    let joined = pieces.push(&bytes[..cut]) + &pieces.push(&bytes[cut..]) + &pieces.finish();
    assert_eq!(joined, text);
    let rest = text.replace("\r\u{1b}[K", "").replace("\u{8} \u{8}", "");
    assert!(is_plain(&rest), "{text:?}");
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| matches!(c, '\n' | '\t') || (!c.is_control() && !deceives(c));
    text.chars().all(plain)
}

/// What a text that was made visible was.
fn read_back(shown: &str) -> String {
    let mut out = String::new();
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once("\\u{") {
        let (code, tail) = after.split_once('}').expect("an escape ends");
        let code = u32::from_str_radix(code, 16).expect("an escape holds a number");
        out.push_str(before);
        out.push(char::from_u32(code).expect("an escape is of a character"));
        rest = tail;
    }
    out + rest
}
