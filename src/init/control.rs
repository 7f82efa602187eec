//! The control stream: what the host says, and what init says.

use crate::link;
use crate::secrets;
use crate::serve::{End, Sandbox};
use crate::streams::Stream;
use crate::wire::{FromInit, MAX_TO_INIT, PROTOCOL_VERSION, ToInit};
use std::rc::Rc;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;

/// Both directions, in one task: a yamux stream remembers one waker for "there is room to send", and
/// reading asks for that too (window updates). Two tasks would overwrite each other's, and one of them
/// would sleep for good.
pub async fn converse(sandbox: Rc<Sandbox>, stream: Stream, said: UnboundedReceiver<FromInit>) {
    let (from, to) = tokio::io::split(stream);
    let listening = async {
        let end = listen(&sandbox, from).await;
        sandbox.end(end);
    };
    tokio::join!(listening, speak(said, to));
}

/// Listens until the host has nothing more to say, or says something that makes no sense.
async fn listen(sandbox: &Rc<Sandbox>, mut from: ReadHalf<Stream>) -> End {
    let hello = link::read_frame(&mut from, MAX_TO_INIT).await;
    let Ok(Some(ToInit::Hello { version })) = hello else {
        return End::Broken;
    };
    sandbox.say(FromInit::Hello {
        version: PROTOCOL_VERSION,
    });
    if version != PROTOCOL_VERSION {
        return End::Fatal(format!(
            "init speaks version {PROTOCOL_VERSION} of the protocol, the host version {version}"
        ));
    }
    sandbox.feed();
    loop {
        match link::read_frame(&mut from, MAX_TO_INIT).await {
            Ok(Some(message)) => {
                if let Some(end) = obey(sandbox, message) {
                    return end;
                }
            }
            Ok(None) => return End::Closed,
            Err(_) => return End::Broken,
        }
    }
}

fn obey(sandbox: &Rc<Sandbox>, message: ToInit) -> Option<End> {
    match message {
        ToInit::Hello { .. } => return Some(End::Broken),
        ToInit::Start(start) => sandbox.start(start),
        ToInit::Signal { step, signal } => sandbox.signal(step, signal),
        ToInit::Kill { step } => sandbox.kill(step),
        ToInit::Ping { seq } => {
            sandbox.feed();
            sandbox.say(FromInit::Pong { seq });
        }
        ToInit::Shutdown => return Some(End::Shutdown),
        ToInit::Network { proxy } => sandbox.connect(proxy),
        ToInit::Secrets(secrets) => {
            if let Err(error) = secrets::lay_down(&secrets) {
                sandbox.fail(format!("it cannot take its secrets in: {error}"));
            }
        }
    }
    None
}

/// Says what there is to say, in order. [`FromInit::Fatal`] is the last word.
async fn speak(mut said: UnboundedReceiver<FromInit>, mut to: WriteHalf<Stream>) {
    while let Some(message) = said.recv().await {
        if link::write_frame(&mut to, &message).await.is_err() {
            return;
        }
        if matches!(message, FromInit::Fatal { .. }) {
            // The connection is closed right after, which carries it out.
            let _ = to.shutdown().await;
            return;
        }
    }
}
