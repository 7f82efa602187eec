//! Values that are known to be secret, replaced on their way to a sink: a screen, a log, a record, a
//! model.
//!
//! It is hygiene, not a wall: whoever wants a value out writes it backwards. What it finds are the
//! spellings of [`forms`], also where the value is cut across pieces, by one automaton that looks at each
//! byte once. Every byte of a value becomes a `*`, so that lengths and offsets stay true.
//!
//! ```text
//!   bytes ─▶ automaton ─▶ found: these bytes become *
//!               └ the last bytes may begin a value: held until it is decided, no more than its length
//! ```

mod forms;

pub use forms::{MAX_VALUE, MIN_VALUE, is_sought};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a byte of a value becomes.
const MASK: u8 = b'*';

/// So many bytes that may begin a value are shown at once where somebody waits for them: the start of a
/// value is often its kind (`hf_`), and a prompt must not be held back by its last letter.
const OPENING: usize = 3;

/// Values by their names.
#[derive(Clone, Default)]
pub struct Known(BTreeMap<Vec<u8>, String>);

impl Known {
    /// One more; of a length that is not sought it is passed over. The first name stays.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let value = value.trim_ascii();
        if is_sought(value) {
            let name = name.to_owned();
            self.0.entry(value.to_owned()).or_insert(name);
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values()).finish()
    }
}

/// Finds known values. A copy is cheap.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<Automat>>);

struct Automat {
    machine: Machine,
    start: StateID,
    /// How many bytes of some form lead to a state.
    depths: HashMap<StateID, usize>,
    /// By form.
    names: Vec<String>,
}

/// Forms of so many bytes together are sought by a table, which is faster and larger.
const TABLE: usize = 16 * 1024;

enum Machine {
    Table(DFA),
    Links(NFA),
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.0.as_ref().map_or(0, |automat| automat.names.len());
        write!(f, "Redactor({forms} forms)")
    }
}

impl Redactor {
    /// Of these values in all their forms.
    pub fn new(known: &Known) -> Self {
        let mut forms = BTreeMap::new();
        for (value, name) in &known.0 {
            for form in forms::forms(value) {
                forms.entry(form).or_insert_with(|| name.clone());
            }
        }
        if forms.is_empty() {
            return Self(None);
        }
        // Built of at most some megabytes: an automaton of that size fits its numbers.
        Self(Automat::new(forms).map(Arc::new))
    }

    /// Whether there is anything to look for.
    pub fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// For one stream.
    pub fn stream(&self) -> Redacting {
        Redacting::new(self.clone())
    }

    /// A whole text.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.bytes(text.as_bytes()) {
            None => Cow::Borrowed(text),
            Some(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                // A value that is no text itself was found in one.
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// Whether a known value is in it.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.bytes(bytes).is_some()
    }

    /// `None` where nothing is found.
    fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.as_ref()?;
        let mut stream = self.stream();
        let mut out = Vec::new();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        (!stream.found().is_empty()).then_some(out)
    }

    /// Anything that has a form in JSON, with every text in it redacted; `None` where nothing is found.
    /// A value may be a word of ours ("docker"): where that makes it another thing than it was, that word
    /// alone is left.
    pub fn anything<T: Serialize + DeserializeOwned>(&self, thing: &T) -> Option<T> {
        self.0.as_ref()?;
        let told = serde_json::to_value(thing).ok()?;
        let parse = |chosen: &[bool]| {
            let mut value = told.clone();
            self.value(&mut value, &mut chosen.iter());
            serde_json::from_value(value).ok()
        };
        // How many texts have a value in them is known when all were looked at.
        let found = self.value(&mut told.clone(), &mut std::iter::empty());
        if found == 0 {
            return None;
        }
        let mut chosen = vec![false; found];
        choose(&mut chosen, 0..found, &|chosen| parse(chosen).is_some());
        parse(&chosen)
    }

    /// Redacts those of the texts with a value in them that are `chosen`, in order; says how many there are.
    fn value<'a>(&self, value: &mut Value, chosen: &mut impl Iterator<Item = &'a bool>) -> usize {
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Owned(redacted) => {
                    if chosen.next() == Some(&true) {
                        *text = redacted;
                    }
                    1
                }
                Cow::Borrowed(_) => 0,
            },
            Value::Array(values) => values.iter_mut().map(|one| self.value(one, chosen)).sum(),
            Value::Object(map) => map.values_mut().map(|one| self.value(one, chosen)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
}

/// Chooses as much of a range as `fits` together with what is chosen already, by halves.
fn choose(chosen: &mut [bool], range: Range<usize>, fits: &impl Fn(&[bool]) -> bool) {
    chosen[range.clone()].fill(true);
    if fits(chosen) {
        return;
    }
    chosen[range.clone()].fill(false);
    if range.len() > 1 {
        let middle = range.start + range.len() / 2;
        choose(chosen, range.start..middle, fits);
        choose(chosen, middle..range.end, fits);
    }
}

impl Automat {
    fn new(forms: BTreeMap<Vec<u8>, String>) -> Option<Self> {
        let (forms, names): (Vec<_>, Vec<_>) = forms.into_iter().unzip();
        let kind = MatchKind::Standard;
        let total: usize = forms.iter().map(Vec::len).sum();
        let (machine, (start, depths)) = match total {
            0..=TABLE => {
                let mut builder = DFA::builder();
                let machine = builder.match_kind(kind).prefilter(false);
                let machine = machine.build(&forms).ok()?;
                let depths = depths(&machine, &forms)?;
                (Machine::Table(machine), depths)
            }
            _ => {
                let mut builder = NFA::builder();
                let machine = builder.match_kind(kind).prefilter(false);
                let machine = machine.build(&forms).ok()?;
                let depths = depths(&machine, &forms)?;
                (Machine::Links(machine), depths)
            }
        };
        Some(Self {
            machine,
            start,
            depths,
            names,
        })
    }
}

/// Where it starts, and how many bytes of a form lead to each state.
fn depths(
    machine: &impl Automaton,
    forms: &[Vec<u8>],
) -> Option<(StateID, HashMap<StateID, usize>)> {
    let start = machine.start_state(Anchored::No).ok()?;
    let mut depths = HashMap::new();
    for form in forms {
        let mut state = start;
        for (at, &byte) in form.iter().enumerate() {
            state = machine.next_state(Anchored::No, state, byte);
            depths.insert(state, at + 1);
        }
    }
    Some((start, depths))
}

/// Redacts one stream. How its bytes are cut into pieces changes nothing of what comes out.
pub struct Redacting {
    redactor: Redactor,
    state: Option<StateID>,
    /// Bytes that may still become part of a value, from `done` on.
    held: Vec<u8>,
    done: usize,
    /// The last bytes that were hidden, from and to.
    hidden: (usize, usize),
    found: BTreeSet<String>,
}

impl fmt::Debug for Redacting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacting")
            .field("held", &(self.held.len() - self.done))
            .finish_non_exhaustive()
    }
}

impl Redacting {
    fn new(redactor: Redactor) -> Self {
        Self {
            state: redactor.0.as_ref().map(|automat| automat.start),
            redactor,
            held: Vec::new(),
            done: 0,
            hidden: (0, 0),
            found: BTreeSet::new(),
        }
    }

    /// Takes bytes; appends those that are decided to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let (Some(automat), Some(state)) = (self.redactor.0.clone(), self.state) else {
            return out.extend_from_slice(bytes);
        };
        let from = self.held.len();
        self.held.extend_from_slice(bytes);
        self.state = Some(match &automat.machine {
            Machine::Table(machine) => self.scan(machine, (state, from), &automat.names),
            Machine::Links(machine) => self.scan(machine, (state, from), &automat.names),
        });
        let depth = self.depth();
        self.give(self.held.len().saturating_sub(depth), out);
    }

    /// Somebody waits for what was said so far: the few bytes that only may begin a value are given. The
    /// rest of it is redacted all the same when it comes.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if self.depth() <= OPENING {
            self.show(self.held.len(), out);
        }
    }

    /// The stream ended: gives what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.give(self.held.len(), out);
        self.state = self.redactor.0.as_ref().map(|automat| automat.start);
    }

    /// Whose values were found so far.
    pub fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    fn depth(&self) -> usize {
        let automat = self.redactor.0.as_ref();
        let depth = automat
            .zip(self.state)
            .and_then(|(automat, state)| automat.depths.get(&state));
        depth.copied().unwrap_or(0)
    }

    /// Looks at what is held from `from` on.
    fn scan<A: Automaton>(
        &mut self,
        machine: &A,
        (mut state, from): (StateID, usize),
        names: &[String],
    ) -> StateID {
        for at in from..self.held.len() {
            state = machine.next_state(Anchored::No, state, self.held[at]);
            if machine.is_special(state) && machine.is_match(state) {
                self.mask(machine, (state, at + 1), names);
            }
        }
        state
    }

    /// Every form that ends at `end`.
    fn mask<A: Automaton>(
        &mut self,
        machine: &A,
        (state, end): (StateID, usize),
        names: &[String],
    ) {
        for index in 0..machine.match_len(state) {
            let form = machine.match_pattern(state, index);
            let begin = end.saturating_sub(machine.pattern_len(form));
            self.hide(begin, end);
            let name = &names[form.as_usize()];
            if !self.found.contains(name) {
                self.found.insert(name.clone());
            }
        }
    }

    /// Ends only grow, and no byte is written twice: a form that repeats itself is found at every byte.
    fn hide(&mut self, begin: usize, end: usize) {
        let (from, to) = self.hidden;
        if begin > to || from == to {
            self.held[begin..end].fill(MASK);
            self.hidden = (begin, end);
            return;
        }
        if begin < from {
            self.held[begin..from].fill(MASK);
        }
        self.held[to..end].fill(MASK);
        self.hidden = (begin.min(from), end);
    }

    /// Bytes up to `end` go out, those of them that did not yet.
    fn show(&mut self, end: usize, out: &mut Vec<u8>) {
        if end > self.done {
            out.extend_from_slice(&self.held[self.done..end]);
            self.done = end;
        }
    }

    /// The same, and they are not needed any more.
    fn give(&mut self, end: usize, out: &mut Vec<u8>) {
        self.show(end, out);
        let rest = self.held.len() - end;
        // What is moved is no more than what has gone: many small pieces cost no more than a large one.
        if rest <= end {
            self.held.drain(..end);
            self.done -= end;
            let (from, to) = self.hidden;
            self.hidden = (from.saturating_sub(end), to.saturating_sub(end));
        }
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
