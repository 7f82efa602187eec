//! Whether a loss is told that is no number: `loss: nan`, `train_loss=inf`, `"loss": NaN`, a progress
//! bar's `loss=nan`, `Loss is nan`, `loss: tensor(nan, device='cuda:0')`.
//!
//! What only looks like it is left alone: the best loss before the first epoch (`best_loss=inf`), a
//! scale (`loss_scale=inf`), source code (`loss = float("nan")`).

/// Bytes looked at before and after the word.
pub(super) const BEFORE: usize = 48;
pub(super) const AFTER: usize = 128;

/// Whether there may be more than what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    MoreMayCome,
    All,
}

/// `before` and `after` are what stands on both sides of the word `loss`.
pub(super) fn is_bad(before: &[u8], after: &[u8], read: Read) -> bool {
    let whole = match (after.len() > AFTER, read) {
        (true, _) => Read::All,
        (false, read) => read,
    };
    let mut cursor = Cursor {
        rest: &after[..after.len().min(AFTER)],
        read: whole,
    };
    match cursor.value() {
        Some(Bad::NotANumber) => true,
        Some(Bad::Infinite) => !is_a_beginning(before),
        None => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    NotANumber,
    Infinite,
}

/// Whether it is the least loss so far: infinite until there is one.
fn is_a_beginning(before: &[u8]) -> bool {
    let near = &before[before.len().saturating_sub(BEFORE)..];
    let line = near.rsplit(|byte| matches!(byte, b'\n' | b'\r')).next();
    let line = line.unwrap_or_default().to_ascii_lowercase();
    let field = line
        .rsplit(|byte| matches!(byte, b',' | b'|' | b'{'))
        .next();
    let field = String::from_utf8_lossy(field.unwrap_or_default()).into_owned();
    ["best", "min", "lowest", "prev", "last"]
        .iter()
        .any(|word| field.contains(word))
}

struct Cursor<'a> {
    rest: &'a [u8],
    read: Read,
}

impl Cursor<'_> {
    /// The value that follows, where it is a bad one and all of it is here.
    fn value(&mut self) -> Option<Bad> {
        let name = self.take(|byte| byte.is_ascii_alphanumeric() || b"_/.()".contains(&byte));
        if name
            .to_ascii_lowercase()
            .windows(5)
            .any(|part| part == b"scale")
        {
            return None;
        }
        let closed = self.take(|byte| b"\"'])".contains(&byte)).len();
        let spaces = self.spaces();
        let marked = self.one_of(b":=|,");
        let said = self.word(b"is") || self.word(b"was") || self.word(b"became");
        if closed + spaces == 0 && !marked && !said {
            return None;
        }
        self.spaces();
        self.opening()?;
        self.one_of(b"+-");
        self.number()
    }

    /// Quotes, brackets, and the name of a type: `[`, `'`, `tensor(`, `np.float32(`.
    fn opening(&mut self) -> Option<()> {
        for _ in 0..3 {
            while self.one_of(b"\"'[(") {}
            let name = self
                .rest
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
                .count();
            if name == 0 || self.rest.get(name) != Some(&b'(') {
                break;
            }
            if self.rest[..name].ends_with(b"float") {
                return None;
            }
            self.rest = &self.rest[name..];
        }
        Some(())
    }

    fn number(&mut self) -> Option<Bad> {
        let word = self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let bad = match word.to_ascii_lowercase().as_slice() {
            b"nan" => Bad::NotANumber,
            b"inf" | b"infinity" => Bad::Infinite,
            _ => return None,
        };
        // `inf` may be the beginning of `information`.
        (!self.rest.is_empty() || self.read == Read::All).then_some(bad)
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &[u8] {
        let count = self.rest.iter().take_while(|byte| wanted(**byte)).count();
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    /// Blanks within a line.
    fn spaces(&mut self) -> usize {
        self.take(|byte| matches!(byte, b' ' | b'\t')).len()
    }

    fn one_of(&mut self, bytes: &[u8]) -> bool {
        let found = self.rest.first().is_some_and(|byte| bytes.contains(byte));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// A whole word, and the blank after it.
    fn word(&mut self, word: &[u8]) -> bool {
        let rest = self
            .rest
            .strip_prefix(word)
            .and_then(|rest| rest.strip_prefix(b" "));
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }
}
