//! What gets out of a sandbox: connections to the loopback, each of which becomes a stream to the host.
//!
//! ```text
//!   127.0.0.1:proxy      a client of a proxy ──────────────────┐
//!   127.0.0.1:53         a question for a name ─ Name ─▶ host  ├─▶ stream to the host, which decides
//!                          └ it has ports: an address 127.100.x.y, a listener for each port
//!   127.100.x.y:port     a client that knows no proxy ─ Named ─┘
//! ```
//!
//! Nothing is decided here, and nothing is known of what may be reached: names are asked of the host
//! each time, so that what is approved meanwhile works at once.

use crate::dns::{self, Answer, Kind, Question};
use crate::link;
use crate::serve::Sandbox;
use crate::streams::Stream;
use crate::wire::{MAX_FROM_INIT, MAX_OUTBOUND_STREAMS, NamePorts, Outbound};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_buf, split};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

const DNS_PORT: u16 = 53;

/// Names that have an address at one time, and listeners of all of them: each costs a descriptor.
const MAX_NAMES: usize = 1024;
const MAX_LISTENERS: usize = 1024;

/// Questions that are asked of the host at one time; the rest waits, and clients ask again.
const MAX_QUESTIONS: usize = 16;

/// Bytes in flight of one direction of a connection.
const BUFFER: usize = 16 * 1024;

/// How long the host may take to judge a name, and a client to ask over TCP.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may go on sending when the host has said its last word.
const LEAVING: Duration = Duration::from_secs(5);

/// Before it is tried again where no descriptor is left.
const BREATH: Duration = Duration::from_millis(50);

/// `None` where there is no stream to be had.
pub type Reply = oneshot::Sender<Option<Stream>>;

/// Opens streams to the host.
pub struct Opener(mpsc::Sender<Reply>);

impl Opener {
    pub fn new(wanted: mpsc::Sender<Reply>) -> Self {
        Self(wanted)
    }

    pub async fn open(&self) -> Option<Stream> {
        let (reply, opened) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        opened.await.ok()?
    }
}

/// The ways out.
pub struct Egress {
    opener: Opener,
    names: RefCell<BTreeMap<String, Named>>,
    listeners: RefCell<usize>,
    connections: Semaphore,
    questions: Semaphore,
}

/// A name with an address of its own, for the sandbox's life: clients keep addresses.
struct Named {
    address: Ipv4Addr,
    ports: Vec<u16>,
}

impl Egress {
    /// Listens; from here on names and connections are passed on.
    ///
    /// # Errors
    /// When it cannot listen: a low port may need the engine's permission.
    pub fn start(sandbox: &Rc<Sandbox>, proxy: u16) -> io::Result<()> {
        let egress = Rc::new(Self {
            opener: sandbox.opener(),
            names: RefCell::default(),
            listeners: RefCell::new(0),
            connections: Semaphore::new(MAX_OUTBOUND_STREAMS - 2 * MAX_QUESTIONS),
            questions: Semaphore::new(MAX_QUESTIONS),
        });
        let clients = listen(Ipv4Addr::LOCALHOST, proxy)?;
        let queries = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?;
        queries.set_nonblocking(true)?;
        let queries = UdpSocket::from_std(queries)?;
        let long_queries = listen(Ipv4Addr::LOCALHOST, DNS_PORT)?;
        spawn_local(Rc::clone(&egress).accept(clients, || Outbound::Proxy));
        spawn_local(Rc::clone(&egress).hear_queries(queries));
        spawn_local(egress.accept_queries(long_queries));
        Ok(())
    }

    /// Passes each connection on, until the sandbox ends.
    async fn accept(self: Rc<Self>, listener: TcpListener, head: impl Fn() -> Outbound) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                sleep(BREATH).await;
                continue;
            };
            let egress = Rc::clone(&self);
            let head = head();
            // One too many is closed at once rather than left to wait for the others.
            spawn_local(async move {
                if let Ok(permit) = egress.connections.try_acquire() {
                    egress.pass_on(client, &head, permit).await;
                }
            });
        }
    }

    async fn pass_on(&self, mut client: TcpStream, head: &Outbound, _permit: SemaphorePermit<'_>) {
        let Some(stream) = self.open(head).await else {
            return;
        };
        // Small messages are the rule at the beginning of a connection.
        let _ = client.set_nodelay(true);
        let (mut from_client, mut to_client) = client.split();
        let (mut from_host, mut to_host) = split(stream);
        let up = flow(&mut from_client, &mut to_host);
        let down = flow(&mut from_host, &mut to_client);
        tokio::pin!(up, down);
        // Either side may break off; the other is told by the end of its own connection.
        tokio::select! {
            sent = &mut up => if sent.is_ok() {
                let _ = down.await;
            },
            heard = &mut down => if heard.is_ok() {
                // A stream that the host has closed takes no more than its window, and says nothing of
                // it: a client in the middle of an upload would wait for ever.
                let _ = timeout(LEAVING, up).await;
            },
        }
    }

    async fn open(&self, head: &Outbound) -> Option<Stream> {
        let mut stream = self.opener.open().await?;
        link::write_frame(&mut stream, head).await.ok()?;
        Some(stream)
    }

    async fn hear_queries(self: Rc<Self>, socket: UdpSocket) {
        let socket = Rc::new(socket);
        let mut buffer = [0; dns::MAX_MESSAGE];
        loop {
            // Before it is read: what is not read the kernel keeps, or drops.
            let Ok(permit) = self.questions.acquire().await else {
                return;
            };
            permit.forget();
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    let (egress, socket) = (Rc::clone(&self), Rc::clone(&socket));
                    let message = buffer[..length].to_vec();
                    spawn_local(async move {
                        egress.reply(&socket, &message, from).await;
                        egress.questions.add_permits(1);
                    });
                }
                Err(_) => {
                    self.questions.add_permits(1);
                    sleep(BREATH).await;
                }
            }
        }
    }

    async fn reply(self: &Rc<Self>, socket: &UdpSocket, message: &[u8], from: SocketAddr) {
        if let Some(question) = dns::parse(message) {
            let answer = self.resolve(&question).await;
            let answer = dns::answer(message, &question, answer);
            // Who asked may be gone.
            let _ = socket.send_to(&answer, from).await;
        }
    }

    async fn accept_queries(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                sleep(BREATH).await;
                continue;
            };
            let egress = Rc::clone(&self);
            spawn_local(async move {
                if let Ok(_permit) = egress.questions.try_acquire() {
                    let _ = timeout(PATIENCE, egress.converse(client)).await;
                }
            });
        }
    }

    /// Messages with their length in front.
    async fn converse(self: &Rc<Self>, mut client: TcpStream) -> io::Result<()> {
        loop {
            let length = usize::from(client.read_u16().await?);
            if length > dns::MAX_MESSAGE {
                return Ok(());
            }
            let mut message = vec![0; length];
            client.read_exact(&mut message).await?;
            let Some(question) = dns::parse(&message) else {
                return Ok(());
            };
            let answer = self.resolve(&question).await;
            let answer = dns::answer(&message, &question, answer);
            let length = (answer.len() as u16).to_be_bytes();
            client.write_all(&[&length[..], &answer].concat()).await?;
        }
    }

    async fn resolve(self: &Rc<Self>, question: &Question) -> Answer {
        let name = question.name.as_str();
        if name == "localhost" || name.ends_with(".localhost") {
            return match question.kind {
                Kind::A => Answer::Address(Ipv4Addr::LOCALHOST),
                Kind::Other => Answer::Nothing,
            };
        }
        // Whose address something is, is nobody's to ask: every address here is the loopback's.
        if name.is_empty() || name.ends_with(".arpa") {
            return Answer::NoSuchName;
        }
        match timeout(PATIENCE, self.ask(name)).await.ok().flatten() {
            None => Answer::Failed,
            Some(ports) if ports.is_empty() => Answer::NoSuchName,
            Some(ports) => match (self.address(name, &ports), question.kind) {
                (Ok(address), Kind::A) => Answer::Address(address),
                (Ok(_), Kind::Other) => Answer::Nothing,
                (Err(_), _) => Answer::Failed,
            },
        }
    }

    /// What the host says of a name.
    async fn ask(&self, name: &str) -> Option<Vec<u16>> {
        let head = Outbound::Name {
            name: name.to_owned(),
        };
        let mut stream = self.open(&head).await?;
        let answer = link::read_frame(&mut stream, MAX_FROM_INIT).await;
        let NamePorts(ports) = answer.ok()??;
        Some(ports)
    }

    /// The address of a name, with a listener on each of its ports.
    fn address(self: &Rc<Self>, name: &str, ports: &[u16]) -> io::Result<Ipv4Addr> {
        let mut names = self.names.borrow_mut();
        let count = names.len();
        if !names.contains_key(name) {
            if count >= MAX_NAMES {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let address = nth_address(count);
            let ports = Vec::new();
            names.insert(name.to_owned(), Named { address, ports });
        }
        let named = names.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        for &port in ports {
            if named.ports.contains(&port) {
                continue;
            }
            let mut listeners = self.listeners.borrow_mut();
            if *listeners >= MAX_LISTENERS {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let listener = listen(named.address, port)?;
            *listeners += 1;
            named.ports.push(port);
            let name = name.to_owned();
            spawn_local(Rc::clone(self).accept(listener, move || Outbound::Named {
                name: name.clone(),
                port,
            }));
        }
        Ok(named.address)
    }
}

/// One direction, to its end.
async fn flow(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(BUFFER, from), to).await?;
    to.shutdown().await
}

/// 127.100.0.1 and on: outside of what engines and programs use of the loopback.
fn nth_address(n: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(n + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(127, 100, high, low)
}

fn listen(address: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((address, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
