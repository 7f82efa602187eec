//! Secrets: asked about once in a run, handed to each sandbox of it before its first step.

use super::Bench;
use crate::policy::action::SecretAction;
use crate::policy::gate::decide_secrets;
use crate::policy::permit::{Denial, Permit};
use crate::protocol::event::Event;
use crate::protocol::question::{QuestionBody, SecretsView};
use crate::sandbox::Sandbox;
use crate::tools::ToolStop;
use crate::tools::desk::{About, Patience, Settled};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How far the handing over has come.
#[derive(Default)]
pub(super) struct Handed {
    permit: Option<Permit<SecretAction>>,
    /// A no is one for the run, too: nobody is asked until they say yes.
    denied: Option<Denial>,
    /// The sandbox that has them.
    to: Option<String>,
}

impl Bench {
    /// Lets a person say whether the sandbox is given what the policy lists; a yes is for the run.
    pub(super) async fn settle_secrets(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Result<(), Denial>, ToolStop> {
        // Two executions at once ask one question: the other waits for its answer.
        let mut handed = tokio::select! {
            handed = self.handed.lock() => handed,
            () = cancel.cancelled() => return Err(ToolStop::Interrupted),
        };
        if self.setup.spec.secrets.is_empty() || handed.permit.is_some() {
            return Ok(Ok(()));
        }
        if let Some(denial) = &handed.denied {
            return Ok(Err(denial.clone()));
        }
        let act = SecretAction {
            run: self.setup.run.clone(),
            secrets: self.setup.spec.secrets.clone(),
            network: self.setup.spec.network.clone(),
            policy: self.policy_digest.clone(),
        };
        let about = About::act(&act);
        let verdict = decide_secrets(&self.setup.policy, act);
        let limit = self.setup.policy.approval.timeout_ms;
        let patience = Patience {
            timeout: limit.map(Duration::from_millis),
            cancel: cancel.clone(),
        };
        let body = |act: &SecretAction| {
            let allow = act.network.as_ref().map(|network| &network.allow);
            QuestionBody::Secrets(SecretsView {
                secrets: act.secrets.clone(),
                // What a person allowed since is reached as well.
                reaches: allow.map(|rules| {
                    let all = rules.iter().cloned().chain(self.grants.all());
                    all.map(|rule| rule.to_string()).collect()
                }),
            })
        };
        let desk = &self.setup.desk;
        match desk.settle(about, verdict, body, &patience).await? {
            Settled::Denied(denial) => {
                handed.denied = Some(denial.clone());
                Ok(Err(denial))
            }
            Settled::Granted { permit, .. } => {
                handed.permit = Some(permit);
                Ok(Ok(()))
            }
        }
    }

    /// Hands them over, where this sandbox has none yet.
    pub(super) async fn hand_over(&self, sandbox: &Sandbox) -> Result<(), ToolStop> {
        let mut handed = self.handed.lock().await;
        let Some(permit) = &handed.permit else {
            return Ok(());
        };
        if handed.to.as_deref() == Some(sandbox.name()) {
            return Ok(());
        }
        let names: Vec<String> = permit
            .act()
            .secrets
            .iter()
            .map(|secret| secret.name.clone())
            .collect();
        self.setup.desk.emit(&Event::SecretsGiven { names })?;
        sandbox.give(&self.setup.secrets);
        handed.to = Some(sandbox.name().to_owned());
        Ok(())
    }
}
