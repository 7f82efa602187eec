//! The one task that owns an agent's history and its queue.

use super::queue::{Operation, Queue};
use super::turn::{self, TurnEnd};
use super::{Agent, AgentEnd};
use crate::context::history::History;
use crate::protocol::event::Event;
use crate::protocol::stop::StopReason;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Drives turns until the queue is done.
pub struct Driver {
    agent: Agent,
    queue: Arc<Mutex<Queue>>,
    /// Cancelled to interrupt what runs.
    cancel: CancellationToken,
}

impl Driver {
    pub fn new(agent: Agent, cancel: CancellationToken) -> Self {
        Self {
            agent,
            queue: Arc::default(),
            cancel,
        }
    }

    /// Where a door submits.
    pub fn queue(&self) -> Arc<Mutex<Queue>> {
        self.queue.clone()
    }

    /// One task from beginning to end: the headless way.
    pub async fn run_task(self, system: String, task: String) -> AgentEnd {
        {
            let mut queue = self.locked();
            queue.submit(Operation::UserInput(task));
            queue.submit(Operation::Shutdown);
        }
        self.drive(system).await
    }

    /// Takes turns until a shutdown, or until a turn ends otherwise than with an answer.
    async fn drive(self, system: String) -> AgentEnd {
        let overhead =
            serde_json::to_string(&self.agent.router.specs()).map_or(0, |text| text.len());
        let mut history = History::new(system, overhead);
        let mut end = AgentEnd::stopped(StopReason::Interrupted);
        loop {
            let Some(input) = self.locked().next_turn() else {
                return end;
            };
            if let Err(error) = self.take(&mut history, input) {
                return error;
            }
            let (after, ended) = turn::run(&self.agent, history, &self.queue, &self.cancel).await;
            history = after;
            self.locked().turn_ended();
            end = match ended {
                TurnEnd::Answered(text) => AgentEnd {
                    text,
                    ..AgentEnd::stopped(StopReason::Finished)
                },
                TurnEnd::Stopped(end) => return end,
            };
        }
    }

    fn take(&self, history: &mut History, input: String) -> Result<(), AgentEnd> {
        self.agent
            .desk
            .emit(&Event::UserInput {
                text: input.clone(),
            })
            .map_err(|stop| AgentEnd::by_tool(&stop))?;
        history
            .user(self.agent.desk.redactor().text(&input))
            .map_err(|error| turn::nonsense(&error.to_string()))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
