//! How one line of the table is written.

use super::Key;
use crate::policy::value::{Form, Slot, Unit, Value};

macro_rules! key {
    ($path:literal, $form:expr, $kind:ident($($field:ident).+), $about:literal) => {
        Key {
            path: $path,
            form: $form,
            about: $about,
            slot: Slot {
                get: |policy| Value::$kind(policy.$($field).+.clone()),
                put: |policy, value| {
                    if let Value::$kind(value) = value {
                        policy.$($field).+ = value;
                    }
                },
            },
        }
    };
}

macro_rules! choice {
    ($path:literal, $words:tt, $($field:ident).+, $about:literal) => {
        one_of!(Choice, $path, $words, $($field).+, $about)
    };
}

macro_rules! pick {
    ($path:literal, $words:tt, $($field:ident).+, $about:literal) => {
        one_of!(Pick, $path, $words, $($field).+, $about)
    };
}

macro_rules! one_of {
    ($form:ident, $path:literal, [$($word:literal = $value:expr),+], $($field:ident).+, $about:literal) => {
        Key {
            path: $path,
            form: Form::$form(&[$($word),+]),
            about: $about,
            slot: Slot {
                get: |policy| {
                    let values = [$($value),+];
                    let at = values.iter().position(|value| *value == policy.$($field).+);
                    Value::Choice(at.unwrap_or_default())
                },
                put: |policy, value| {
                    if let Value::Choice(index) = value {
                        let values = [$($value),+];
                        policy.$($field).+ = values[index.min(values.len() - 1)];
                    }
                },
            },
        }
    };
}

macro_rules! only {
    ($path:literal, $word:literal, $later:expr, $about:literal) => {
        fixed(
            $path,
            Form::Only {
                word: $word,
                later: $later,
            },
            $about,
        )
    };
}

pub(super) const fn fixed(path: &'static str, form: Form, about: &'static str) -> Key {
    Key {
        path,
        form,
        about,
        slot: Slot {
            get: |_| Value::Only,
            put: |_, _| (),
        },
    }
}

pub(super) const fn limit(unit: Unit, range: (u64, u64)) -> Form {
    Form::Limit { unit, range }
}

pub(super) const fn amount(unit: Unit, range: (u64, u64)) -> Form {
    Form::Amount { unit, range }
}
