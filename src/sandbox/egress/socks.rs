//! SOCKS version 5 as far as a connection to a name: [RFC 1928](https://www.rfc-editor.org/rfc/rfc1928).

use super::client::Client;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const VERSION: u8 = 5;

const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// What a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Done = 0,
    NotAllowed = 2,
    NoSuchCommand = 7,
}

/// What a client wants; `None` where it wants what is not served, which it was told.
pub(super) async fn negotiate<S>(client: &mut Client<S>) -> io::Result<Option<(String, u16)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if client.read_u8().await? != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let count = usize::from(client.read_u8().await?);
    let mut methods = vec![0; count];
    client.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NO_METHOD]).await?;
        return Ok(None);
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let [version, command, reserved, kind] = request;
    if version != VERSION || reserved != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let host = match kind {
        1 => Ipv4Addr::from(client.read_u32().await?).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(client.read_u128().await?)),
        3 => {
            let mut name = vec![0; usize::from(client.read_u8().await?)];
            client.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let port = client.read_u16().await?;
    if command != CONNECT {
        // A port to be connected to, and datagrams: nothing here leads there.
        reply(client, Reply::NoSuchCommand).await?;
        return Ok(None);
    }
    Ok(Some((host, port)))
}

pub(super) async fn reply<S>(client: &mut Client<S>, reply: Reply) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Which address it goes out from is not a client's to know.
    client
        .write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0])
        .await?;
    client.flush().await
}
