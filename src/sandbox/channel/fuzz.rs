//! What holds of the messages of a sandbox, whatever comes out of its pipe.

use super::control::{Pulse, heed, heed_hello};
use super::ledger::{Heard, Ledger};
use super::over::Over;
use crate::sandbox::wire::{
    self, Entered, FromInit, NamePorts, Outbound, StreamHead, ToInit, World,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Mutex;

/// Steps that there are: all but the last were asked for.
const STEPS: u32 = 4;

/// Pings that were sent.
const PINGS: u32 = 3;

/// Bytes as the body of one message of every kind, then as everything that init says.
pub(crate) fn wire(data: &[u8]) {
    body::<StreamHead>(data);
    body::<Outbound>(data);
    body::<NamePorts>(data);
    body::<ToInit>(data);
    body::<FromInit>(data);
    body::<World>(data);
    body::<Entered>(data);
    conversation(data);
}

/// What can be read can be written, and reads the same.
fn body<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = wire::parse::<T>(data) else {
        return;
    };
    let frame = wire::frame(&message).expect("what was read fits a frame");
    let (prefix, body) = frame
        .split_first_chunk::<4>()
        .expect("a frame has a length");
    assert_eq!(wire::body_length(*prefix, data.len()), Some(body.len()));
    assert_eq!(wire::parse::<T>(body).as_ref(), Ok(&message));
}

/// However it goes, it ends, in words that can be shown, and no step hears what it cannot be.
fn conversation(data: &[u8]) {
    let mut ledger = Ledger::default();
    let mut ears = Vec::new();
    for step in 1..=STEPS {
        let (number, ear) = ledger.reserve(STEPS as usize).expect("there is room");
        assert_eq!(number, step);
        if step < STEPS {
            ledger.begin(step);
        }
        ears.push(ear);
    }
    let ledger = Mutex::new(ledger);
    let pulse = Pulse::default();
    for _ in 0..PINGS {
        pulse.beat();
    }
    let listening = async {
        let mut from = data;
        match heed_hello(&mut from).await {
            Ok(()) => heed(&mut from, &ledger, &pulse).await,
            Err(over) => over,
        }
    };
    let over = crate::sandbox::fuzz::block_on(listening);
    let (Over::Protocol(words) | Over::Ended(words)) = over;
    assert!(words.chars().all(|c| !c.is_control()), "{words:?}");
    for (step, mut ear) in (1..).zip(ears) {
        let heard: Vec<Heard> = std::iter::from_fn(|| ear.try_recv().ok()).collect();
        let fits = match heard.as_slice() {
            [] => true,
            [Heard::Started | Heard::Failed(_)] | [Heard::Started, Heard::Exited(_)] => {
                step < STEPS
            }
            _ => false,
        };
        assert!(fits, "step {step} heard {heard:?}");
    }
}
