//! What is submitted to an agent, and whether it is taken. Pure: no clock, no channel.
//!
//! ```text
//!             UserInput                     Shutdown
//!   idle ───────────────▶ working ────────────────────▶ ending
//!    ▲                     │  UserInput: steering, read between tool calls
//!    └──── turn ended ─────┘  Interrupt: ends the turn; what waits is kept
//! ```

use std::collections::VecDeque;

/// Something a door asks of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A task, or words to an agent at work.
    UserInput(String),
    /// Ends the turn.
    Interrupt,
    /// Ends the agent after the present turn.
    Shutdown,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Accepted,
    /// It changes nothing.
    Ignored(&'static str),
    Denied(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Idle,
    Working,
    Ending,
}

/// Inputs that wait; more are denied.
const MAX_WAITING: usize = 64;

/// The submissions of one agent, in order.
#[derive(Debug, Default)]
pub struct Queue {
    phase: Phase,
    waiting: VecDeque<String>,
    interrupted: bool,
    /// A shutdown was asked for while a turn ran.
    last: bool,
}

impl Queue {
    pub fn submit(&mut self, operation: Operation) -> Admission {
        if self.phase == Phase::Ending || self.last && !matches!(operation, Operation::Interrupt) {
            return Admission::Denied("the agent is ending");
        }
        match operation {
            Operation::UserInput(text) if text.trim().is_empty() => Admission::Ignored("empty"),
            Operation::UserInput(_) if self.waiting.len() >= MAX_WAITING => {
                Admission::Denied("too much is waiting already")
            }
            Operation::UserInput(text) => {
                self.waiting.push_back(text);
                Admission::Accepted
            }
            Operation::Interrupt if self.phase == Phase::Idle => {
                Admission::Ignored("nothing is running")
            }
            Operation::Interrupt if self.interrupted => Admission::Ignored("interrupted already"),
            Operation::Interrupt => {
                self.interrupted = true;
                Admission::Accepted
            }
            Operation::Shutdown => {
                self.last = true;
                Admission::Accepted
            }
        }
    }

    /// The input that begins the next turn, when none runs.
    pub fn next_turn(&mut self) -> Option<String> {
        if self.phase != Phase::Idle {
            return None;
        }
        let input = self.waiting.pop_front();
        self.phase = match (&input, self.last) {
            (Some(_), _) => Phase::Working,
            (None, true) => Phase::Ending,
            (None, false) => Phase::Idle,
        };
        input
    }

    /// Words for the turn that runs, between two of its calls.
    pub fn steering(&mut self) -> Option<String> {
        match self.phase {
            Phase::Working if !self.interrupted => self.waiting.pop_front(),
            Phase::Working | Phase::Idle | Phase::Ending => None,
        }
    }

    pub fn turn_ended(&mut self) {
        self.phase = Phase::Idle;
        self.interrupted = false;
    }

    /// Nothing more will come of it.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Ending
            || self.phase == Phase::Idle && self.last && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input(text: &str) -> Operation {
        Operation::UserInput(text.into())
    }

    #[test]
    fn input_to_a_working_agent_is_read_between_its_calls() {
        let mut queue = Queue::default();
        assert_eq!(queue.submit(input("task")), Admission::Accepted);
        assert_eq!(queue.next_turn().as_deref(), Some("task"));
        assert_eq!(queue.submit(input("rather this")), Admission::Accepted);
        assert_eq!(queue.next_turn(), None);
        assert_eq!(queue.steering().as_deref(), Some("rather this"));
    }

    #[test]
    fn an_interrupt_keeps_what_waits_for_the_next_turn() {
        let mut queue = Queue::default();
        queue.submit(input("task"));
        queue.next_turn();
        queue.submit(input("next"));
        assert_eq!(queue.submit(Operation::Interrupt), Admission::Accepted);
        assert_eq!(queue.steering(), None);
        queue.turn_ended();
        assert_eq!(queue.next_turn().as_deref(), Some("next"));
    }

    #[test]
    fn an_idle_agent_has_nothing_to_interrupt() {
        assert!(matches!(
            Queue::default().submit(Operation::Interrupt),
            Admission::Ignored(_)
        ));
    }

    #[test]
    fn after_shutdown_nothing_is_taken_and_what_was_taken_is_done() {
        let mut queue = Queue::default();
        queue.submit(input("task"));
        assert_eq!(queue.submit(Operation::Shutdown), Admission::Accepted);
        assert!(matches!(queue.submit(input("more")), Admission::Denied(_)));
        assert_eq!(queue.next_turn().as_deref(), Some("task"));
        assert!(!queue.is_done());
        queue.turn_ended();
        assert!(queue.is_done());
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            "[a-z]{0,3}".prop_map(Operation::UserInput),
            Just(Operation::Interrupt),
            Just(Operation::Shutdown),
        ]
    }

    proptest! {
        #[test]
        fn every_accepted_input_comes_out_once_and_in_order(
            script in proptest::collection::vec((operation(), 0..3u8), 0..60)
        ) {
            let mut queue = Queue::default();
            let (mut taken, mut given) = (Vec::new(), Vec::new());
            for (operation, then) in script {
                let text = match &operation {
                    Operation::UserInput(text) => Some(text.clone()),
                    Operation::Interrupt | Operation::Shutdown => None,
                };
                if queue.submit(operation) == Admission::Accepted {
                    taken.extend(text);
                }
                match then {
                    0 => given.extend(queue.next_turn()),
                    1 => given.extend(queue.steering()),
                    _ => queue.turn_ended(),
                }
            }
            queue.turn_ended();
            while let Some(text) = queue.next_turn() {
                given.push(text);
                queue.turn_ended();
            }
            prop_assert_eq!(taken, given);
        }
    }
}
