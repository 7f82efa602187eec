//! The figures and their aims.

use std::fmt;

/// Samples of one thing, in milliseconds where nothing else is said.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    values: Vec<f64>,
    unit: &'static str,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            unit: "ms",
        }
    }
}

impl Samples {
    /// One value that is not taken twice.
    pub(super) fn one(value: f64, unit: &'static str) -> Self {
        Self {
            values: vec![value],
            unit,
        }
    }

    pub(super) fn push(&mut self, sample: f64) {
        self.values.push(sample);
    }

    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    pub(super) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::NAN, f64::min)
    }

    /// Itself, if there are any.
    pub(super) fn some(&self) -> Option<&Self> {
        (!self.values.is_empty()).then_some(self)
    }

    /// Each sample less what was measured beside it.
    pub(super) fn less(&self, other: &Self) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        Self {
            values: pairs.map(|(a, b)| a - b).collect(),
            unit: self.unit,
        }
    }

    fn shown(&self) -> String {
        let unit = self.unit;
        if let [value] = self.values[..] {
            return format!("{value:.1} {unit}");
        }
        let digits = match self.median().abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        format!(
            "{:.digits$} ({:.digits$}) {unit}",
            self.median(),
            self.min()
        )
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aim {
    /// Of our own samples, in their unit: at most.
    AtMost(f64),
    /// At least so many times faster than the peer.
    Faster(f64),
    /// Only told.
    Told,
}

/// One line of the table.
struct Line {
    what: String,
    ours: String,
    peer: String,
    ratio: String,
    aim: String,
    met: &'static str,
}

/// All lines, as they come.
pub(super) struct Table(Vec<Line>);

/// What ours is compared with.
pub(super) type Peer<'a> = Option<(&'a str, &'a Samples)>;

impl Table {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Samples of time or memory: less is better.
    pub(super) fn add(&mut self, what: &str, ours: &Samples, peer: Peer<'_>, aim: Aim) {
        let times = |f: fn(&Samples) -> f64| peer.map(|(_, peer)| f(peer) / f(ours));
        let ratio = times(Samples::median);
        let met = |value: f64, ratio: Option<f64>| match aim {
            Aim::AtMost(limit) => value <= limit,
            Aim::Faster(least) => ratio.is_some_and(|ratio| ratio >= least),
            Aim::Told => true,
        };
        let verdict = if matches!(aim, Aim::Told) {
            ""
        } else if met(ours.median(), ratio) {
            "met"
        } else if met(ours.min(), times(Samples::min)) {
            "met by the minimum"
        } else {
            "MISSED"
        };
        self.0.push(Line {
            what: what.to_owned(),
            ours: ours.shown(),
            peer: peer.map_or_else(String::new, |(name, peer)| {
                format!("{name} {}", peer.shown())
            }),
            ratio: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
            aim: match aim {
                Aim::AtMost(limit) => format!("<= {limit} {}", ours.unit),
                Aim::Faster(least) => format!(">= {least}x"),
                Aim::Told => String::new(),
            },
            met: verdict,
        });
    }

    /// A line that could not be measured.
    pub(super) fn missing(&mut self, what: &str, why: &str) {
        self.0.push(Line {
            what: what.to_owned(),
            ours: format!("not measured: {why}"),
            peer: String::new(),
            ratio: String::new(),
            aim: String::new(),
            met: "",
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["figure", "fumehood", "beside it", "faster", "aim", ""].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head)
            .chain(self.0.iter().map(|line| {
                [
                    line.what.clone(),
                    line.ours.clone(),
                    line.peer.clone(),
                    line.ratio.clone(),
                    line.aim.clone(),
                    line.met.to_owned(),
                ]
            }))
            .collect();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        });
        for row in &rows {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}
