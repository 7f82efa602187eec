//! Sizes and times as people write them: a number and a unit, always both. Pure.

/// Powers of 1024, and of 1000, in the order they are tried when a size is written out.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// In milliseconds.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitError {
    /// A number alone.
    NoUnit,
    /// No number, or a unit that is none of ours.
    Unknown,
    /// More than fits, or no whole number of the smallest unit.
    Range,
}

/// `10GiB`, `1.5 GiB`, `500MB`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    quantity(text, &SIZES)
}

/// `30m`, `1h30m`, `90s`, `500ms`; in milliseconds.
pub fn parse_time(text: &str) -> Result<u64, UnitError> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !is_number(c)).unwrap_or(rest.len());
        let letters = rest[digits..]
            .find(|c: char| is_number(c) || c == ' ')
            .map_or(rest.len(), |at| digits + at);
        let part = quantity(&rest[..letters], &TIMES)?;
        total = total.checked_add(part).ok_or(UnitError::Range)?;
        rest = rest[letters..].trim_start();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

fn is_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// Exact: whole and fraction apart, no floats in between.
fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !is_number(c)).unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(UnitError::Unknown);
    }
    let unit = unit.trim();
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let (_, factor) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or(UnitError::Unknown)?;
    let whole: u64 = whole.parse().map_err(|_| UnitError::Range)?;
    let scale = u32::try_from(fraction.len())
        .ok()
        .and_then(|digits| 10_u64.checked_pow(digits))
        .ok_or(UnitError::Range)?;
    let fraction: u64 = match fraction {
        "" => 0,
        digits => digits.parse().map_err(|_| UnitError::Range)?,
    };
    let part = u128::from(fraction) * u128::from(*factor);
    if part % u128::from(scale) != 0 {
        return Err(UnitError::Range);
    }
    let part = u64::try_from(part / u128::from(scale)).map_err(|_| UnitError::Range)?;
    whole
        .checked_mul(*factor)
        .and_then(|whole| whole.checked_add(part))
        .ok_or(UnitError::Range)
}

/// Bytes as a policy would say them, exactly.
pub fn size(bytes: u64) -> String {
    exact(bytes, &SIZES)
}

/// Milliseconds as a policy would say them, exactly.
pub fn time(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        // Two units where one will not do: 1h30m.
        ms => {
            let mut rest = ms;
            let mut out = String::new();
            for (unit, factor) in TIMES {
                if rest >= factor {
                    out.push_str(&format!("{}{unit}", rest / factor));
                    rest %= factor;
                }
            }
            out
        }
    }
}

fn exact(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("{value}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("10GiB", 10 << 30),
            ("1.5 GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("64kib", 64 << 10),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, ms) in [
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_told_apart_from_nonsense() {
        assert_eq!(parse_size("4"), Err(UnitError::NoUnit));
        assert_eq!(parse_time("90"), Err(UnitError::NoUnit));
        assert_eq!(parse_time("1h30"), Err(UnitError::NoUnit));
        for text in ["", "GiB", "4 gigs", "-4GiB", "4G iB", "1.2.3GiB", ".5GiB"] {
            assert_eq!(parse_size(text), Err(UnitError::Unknown), "{text}");
        }
        for text in ["99999999999TiB", "0.3B", "99999999999999999999B"] {
            assert_eq!(parse_size(text), Err(UnitError::Range), "{text}");
        }
    }

    #[test]
    fn quantities_are_written_in_the_largest_unit_that_is_exact() {
        assert_eq!(size(4 << 30), "4GiB");
        assert_eq!(size(3 << 29), "1536MiB");
        assert_eq!(size(500_000_000), "500MB");
        assert_eq!(size(0), "0B");
        assert_eq!(time(5_400_000), "1h30m");
        assert_eq!(time(1_500), "1s500ms");
        assert_eq!(time(0), "0s");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value: u64) {
            prop_assert_eq!(parse_size(&size(value)), Ok(value));
            prop_assert_eq!(parse_time(&time(value)), Ok(value));
        }
    }
}
