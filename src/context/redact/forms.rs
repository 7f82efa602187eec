//! The spellings of one value that are looked for: as it is, in JSON, hexadecimal, percent-encoded, and
//! in base64 wherever it begins in what was encoded. Pure.
//!
//! It does not undo anything else: a value reversed, spaced out, compressed, or wrapped into lines by
//! `base64` gets through.

/// Shorter values are not looked for: they would be found in harmless text.
pub const MIN_VALUE: usize = 8;

/// Longer ones are not either: each costs memory of about a hundred times its length.
pub const MAX_VALUE: usize = 16 * 1024;

/// The shortest line of a value of several lines that is looked for by itself.
const MIN_LINE: usize = 16;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Whether a value is of a length that is looked for.
pub fn is_sought(value: &[u8]) -> bool {
    (MIN_VALUE..=MAX_VALUE).contains(&value.trim_ascii().len())
}

/// Every spelling, each once.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for part in parts(value) {
        all.push(part.to_vec());
        all.extend(json(part));
        all.push(hex(part, b"0123456789abcdef"));
        all.push(hex(part, b"0123456789ABCDEF"));
        all.push(percent(part, b"0123456789ABCDEF"));
        all.push(percent(part, b"0123456789abcdef"));
        for before in 0..3 {
            all.push(base64(part, before, STANDARD));
            all.push(base64(part, before, URL_SAFE));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The value without white space around it, and the long lines of one that has several. The first and
/// last line of a key in PEM are everybody's.
fn parts(value: &[u8]) -> Vec<&[u8]> {
    let whole = value.trim_ascii();
    let mut parts = vec![whole];
    if whole.contains(&b'\n') {
        let lines = whole.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        parts.extend(lines.filter(|line| line.len() >= MIN_LINE && !line.starts_with(b"-----")));
    }
    parts
}

/// As it stands in a JSON string; a value that is no text stands in none.
fn json(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let quoted = serde_json::to_string(text).ok()?;
    Some(quoted.as_bytes()[1..quoted.len() - 1].to_vec())
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let pair = |byte: &u8| {
        [
            digits[usize::from(byte >> 4)],
            digits[usize::from(byte & 15)],
        ]
    };
    value.iter().flat_map(pair).collect()
}

/// All but the unreserved characters of RFC 3986.
fn percent(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(byte),
            false => {
                out.push(b'%');
                out.extend(hex(&[byte], digits));
            }
        }
    }
    out
}

/// The characters that the value alone decides, where `before` bytes (modulo 3) come before it.
fn base64(value: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| match at.checked_sub(before * 8) {
        Some(at) => value[at / 8] >> (7 - at % 8) & 1,
        None => 0,
    };
    // The first character that has no bit of what comes before, to the last that has none of what follows.
    let first = (before * 8).div_ceil(6);
    let end = (before + value.len()) * 8 / 6;
    let letter = |at: usize| {
        let index = (0..6).fold(0, |index, n| index << 1 | bit(at * 6 + n));
        alphabet[usize::from(index)]
    };
    (first..end).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &[u8], form: &str) -> bool {
        forms(value).iter().any(|found| found == form.as_bytes())
    }

    #[test]
    fn a_value_is_known_in_every_spelling() {
        let value = b"p\xc3\xa4ss \"w+rd\"";
        assert!(has(value, "päss \"w+rd\""));
        assert!(has(value, "päss \\\"w+rd\\\""));
        assert!(has(value, "70c3a473732022772b726422"));
        assert!(has(value, "p%C3%A4ss%20%22w%2Brd%22"));
        assert!(has(value, "p%c3%a4ss%20%22w%2brd%22"));
        assert!(has(value, "70C3A473732022772B726422"));
    }

    #[test]
    fn base64_is_known_wherever_the_value_begins_in_it() {
        let value = b"hf_abcdefgh12345";
        for (before, after) in [("", ""), ("u", ":x"), ("us", "!"), ("use", "rest")] {
            let whole = [before.as_bytes(), value, after.as_bytes()].concat();
            let encoded = encode(&whole);
            let found = forms(value).iter().any(|form| {
                form.len() > 16 && encoded.contains(std::str::from_utf8(form).unwrap())
            });
            assert!(found, "{before:?} before it: {encoded}");
        }
    }

    /// Base64 with padding, spelled out apart from the code above.
    fn encode(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk
                .iter()
                .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for n in 0..4 {
                match n <= chunk.len() {
                    true => out.push(char::from(STANDARD[(word >> (18 - 6 * n) & 63) as usize])),
                    false => out.push('='),
                }
            }
        }
        out
    }

    #[test]
    fn lines_of_a_long_value_are_known_by_themselves_and_its_frame_is_not() {
        let key = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----\n";
        assert!(has(key, "MIIEvQIBADANBgkqhkiG9w0B"));
        assert!(!has(key, "-----BEGIN PRIVATE KEY-----"));
        assert!(!has(key, "short"));
    }

    #[test]
    fn lengths_that_are_looked_for() {
        assert!(!is_sought(b"seven77\n"));
        assert!(is_sought(b"eight888"));
        assert!(!is_sought(&vec![b'x'; MAX_VALUE + 1]));
    }
}
