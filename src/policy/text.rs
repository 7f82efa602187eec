//! Hostile bytes as one line a person may read: printable ASCII, quoted where a shell would need it,
//! bounded, and never cut without saying by how much.

/// Longest argument in a one-line summary, in bytes of what is shown.
const MAX_ARGUMENT: usize = 120;

/// Longest one-line summary, in bytes of what is shown.
const MAX_LINE: usize = 240;

/// A command as one line.
pub(crate) fn command_line(argv: &[Vec<u8>]) -> String {
    let mut line = String::new();
    for (index, argument) in argv.iter().enumerate() {
        let shown = short(argument);
        if index > 0 && line.len() + shown.len() > MAX_LINE {
            let left = argv.len() - index;
            line.push_str(&format!(" …(+{left} arguments)"));
            return line;
        }
        if index > 0 {
            line.push(' ');
        }
        line.push_str(&shown);
    }
    line
}

/// One argument, quoted where needed; a long one says how many bytes are not shown.
pub(crate) fn short(argument: &[u8]) -> String {
    let whole = quoted(argument);
    if whole.len() <= MAX_ARGUMENT {
        return whole;
    }
    let mut kept = argument.len().min(MAX_ARGUMENT);
    while quoted(&argument[..kept]).len() > MAX_ARGUMENT && kept > 1 {
        kept /= 2;
    }
    let left = argument.len() - kept;
    format!("{}…(+{left} bytes)", quoted(&argument[..kept]))
}

/// One whole argument: plain words as they are, anything else in double quotes with escapes.
pub(crate) fn quoted(argument: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%^".contains(byte);
    if !argument.is_empty() && argument.iter().all(plain) {
        return visible(argument);
    }
    let inner = visible(argument).replace('"', "\\\"");
    format!("\"{inner}\"")
}

/// Printable ASCII; everything else as `\u{…}`, and bytes that are no UTF-8 as `\x…`.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                ' '..='~' => out.push(c),
                other => out.push_str(&format!("\\u{{{:x}}}", u32::from(other))),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(argv: &[&str]) -> String {
        let argv: Vec<Vec<u8>> = argv.iter().map(|a| a.as_bytes().to_vec()).collect();
        command_line(&argv)
    }

    #[test]
    fn plain_words_stay_plain_and_the_rest_is_quoted() {
        assert_eq!(
            line(&["python", "train.py", "--lr=0.1"]),
            "python train.py --lr=0.1"
        );
        assert_eq!(line(&["sh", "-c", "a \"b\""]), r#"sh -c "a \"b\"""#);
        assert_eq!(line(&["x", ""]), r#"x """#);
        assert_eq!(
            line(&["x", "\u{202e}\u{1b}[2J"]),
            r#"x "\u{202e}\u{1b}[2J""#
        );
        assert_eq!(line(&["x", "two\nlines"]), r#"x "two\nlines""#);
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let long = "a".repeat(1000);
        assert!(line(&["x", &long]).ends_with("…(+880 bytes)"));
        let many = vec!["argument"; 100];
        let shown = line(&many);
        let words = shown.matches("argument").count() - 1;
        assert!(
            shown.ends_with(&format!("…(+{} arguments)", 100 - words)),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn a_summary_is_one_bounded_printable_line(argv in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let line = command_line(&argv);
            prop_assert!(line.chars().all(|c| matches!(c, ' '..='~' | '…')));
            prop_assert!(line.len() < 2 * MAX_LINE + 60, "{}", line.len());
        }

        #[test]
        fn no_two_arguments_look_the_same(a: Vec<u8>, b: Vec<u8>) {
            prop_assume!(a != b);
            prop_assert_ne!(quoted(&a), quoted(&b));
        }
    }
}
