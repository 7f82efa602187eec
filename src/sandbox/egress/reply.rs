//! How a client is told that it gets nothing: in the words of what it speaks.

use super::client::Client;
use super::error::Broken;
use super::socks;
use crate::context::sanitise::visible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A client that reads nothing is not waited for.
const TELLING: Duration = Duration::from_secs(5);

/// What a client speaks, as far as it has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// Nothing was said to it, and nothing can be.
    Nothing,
    Http,
    Socks,
    Tls,
}

pub(super) async fn tell<S>(client: &mut Client<S>, speech: Speech, broken: &Broken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let telling = async {
        let _ = match speech {
            Speech::Nothing => Ok(()),
            Speech::Http => client.write_all(http(broken).as_bytes()).await,
            Speech::Socks => socks::reply(client, socks::Reply::NotAllowed).await,
            // Fatal: access denied.
            Speech::Tls => client.write_all(&[21, 3, 1, 0, 2, 2, 49]).await,
        };
        let _ = client.shutdown().await;
    };
    // It is gone, or does not listen: it was refused all the same.
    let _ = timeout(TELLING, telling).await;
}

/// The reason stands in the status line too: of a refused CONNECT clients show nothing else.
fn http(broken: &Broken) -> String {
    let why = visible(&broken.to_string());
    let ascii: String = why
        .chars()
        .filter(|c| c.is_ascii() && !c.is_ascii_control())
        .collect();
    let code = broken.status().split(' ').next().unwrap_or("502");
    format!(
        "HTTP/1.1 {code} {ascii}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1
    )
}
