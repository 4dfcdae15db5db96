//! How links come about: the node with the smaller id dials, both connections, one after the other.
//!
//! ```text
//!  dialler                              acceptor
//!     │── control: hello(life, number) ───▶│  admits it: an earlier link of this peer is over
//!     │◀── hello(life) ────────────────────│
//!     │── bulk: hello(life, number) ──────▶│  joins it to the control connection of that number
//!     │◀── hello(life) ────────────────────│
//!   link stands                         link stands
//! ```
//!
//! With one dialler for each pair there is never a second link to choose from, and the number tells
//! an attempt that was given up from the one that holds, in whatever order they are accepted.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use trine_core::codec::DecodeError;

use super::NodeId;
use super::class::Class;
use super::hello::{Greeting, LinkHello, PREFIX_BYTES, Reason, Refusal};
use super::link::{Connection, Link};
use super::table::Shared;
use crate::runtime::{Runtime, accept_within};

/// A link that stood this long was a good one: the next attempt follows at once.
const STEADY: Duration = Duration::from_secs(1);
/// Accepted connections that have not said hello yet; more wait in the kernel's backlog.
const HANDSHAKES_MAX: usize = 64;
/// Bytes of a refused connection that are read, and thrown away, so that the peer hears why.
const REFUSED_BYTES_MAX: usize = 64 << 10;
/// Pause after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no link.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    /// Not all of it happened in this time.
    Slow(Duration),
    /// What came is no greeting.
    Garbage(DecodeError),
    /// The peer says no.
    Refused(Refusal),
    /// We say no.
    Refusing(Refusal),
    /// The peer was started anew in the midst of it, or the transport stops.
    Overtaken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Slow(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Garbage(error) => write!(f, "what it says is no greeting of Trine: {error}"),
            Self::Refused(refusal) => write!(f, "it refuses: {refusal}"),
            Self::Refusing(refusal) => write!(f, "refused: {refusal}"),
            Self::Overtaken => f.write_str("overtaken by another attempt"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Keep a link to this node, until the transport stops or that is no peer any more.
pub(crate) async fn dial<R: Runtime>(shared: Arc<Shared<R>>, node: NodeId) {
    let (runtime, timing) = (&shared.runtime, shared.config.timing);
    let mut pause = Duration::ZERO;
    let mut number = 0;
    while let Some(address) = shared.to_dial(node) {
        let subject = format!("link to {node} at {address}");
        number += 1;
        let attempt = async {
            runtime.sleep_until(runtime.now() + jittered(runtime, pause)).await;
            within(runtime, timing.dial, attempt(&shared, node, address, number)).await
        };
        let outcome = tokio::select! {
            biased;
            () = shared.stopped() => return,
            outcome = attempt => outcome,
        };
        let steady = match outcome {
            Ok(link) => {
                shared.notices.settled(&subject);
                let stood_from = runtime.now();
                link.over().await;
                runtime.now().since(stood_from) >= STEADY
            }
            Err(failure) => {
                let text = failure.to_string();
                shared.not_linked(node, text.clone());
                shared.notices.warn(runtime, subject.clone(), text);
                false
            }
        };
        pause = if steady {
            Duration::ZERO
        } else {
            (pause * 2).clamp(timing.backoff_min, timing.backoff_max)
        };
    }
}

/// Between half and all of a pause, so that nodes that lost each other together do not meet at each
/// attempt.
fn jittered(runtime: &impl Runtime, pause: Duration) -> Duration {
    let mut random = [0];
    // Without randomness the pause has no jitter, that is all.
    let _ = runtime.random(&mut random);
    pause - pause / 2 * u32::from(random[0]) / 256
}

async fn attempt<R: Runtime>(
    shared: &Arc<Shared<R>>,
    node: NodeId,
    address: SocketAddr,
    number: u64,
) -> Result<Arc<Link>, Failure> {
    let (control, life) = connect(shared, node, address, Class::Control, number).await?;
    let (bulk, life_of_bulk) = connect(shared, node, address, Class::Bulk, number).await?;
    if life != life_of_bulk {
        return Err(Failure::Overtaken);
    }
    shared.link_up(node, life, None, control, bulk).ok_or(Failure::Overtaken)
}

async fn connect<R: Runtime>(
    shared: &Arc<Shared<R>>,
    node: NodeId,
    address: SocketAddr,
    class: Class,
    number: u64,
) -> Result<(Connection<R::Stream>, u64), Failure> {
    let mut stream = shared.runtime.connect(address).await?;
    let hello = shared.hello(node, class, number);
    let ours = hello.endpoints.clone();
    say(&mut stream, Greeting::Hello(hello)).await?;
    let theirs = match hear(&mut stream).await? {
        Greeting::Hello(hello) => hello,
        Greeting::Refusal(refusal) => return Err(Failure::Refused(refusal)),
    };
    let checked = shared.check(&theirs).and_then(|()| {
        if theirs.from == node && (theirs.class, theirs.number) == (class, number) {
            return Ok(());
        }
        let (own, other) = (shared.config.node, theirs.from);
        let text = format!("{own} looks for {node} and has found {other}");
        Err(Refusal::new(Reason::NotThisNode, text))
    });
    if let Err(refusal) = checked {
        // The other end may not listen any more; we are done with it.
        let _ = say(&mut stream, Greeting::Refusal(refusal.clone())).await;
        return Err(Failure::Refusing(refusal));
    }
    let endpoints = theirs.endpoints.into_iter().collect();
    Ok((Connection { stream, theirs: endpoints, ours }, theirs.life))
}

/// Take connections, until the transport stops.
pub(crate) async fn accept<R: Runtime>(shared: Arc<Shared<R>>, mut listener: R::Listener) {
    let runtime = &shared.runtime;
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some((accepted, place)) =
        accept_within(&mut listener, &places, shared.stopped()).await
    {
        match accepted {
            Ok((stream, address)) => {
                let shared = shared.clone();
                runtime.clone().spawn("link handshake", async move {
                    let outcome = tokio::select! {
                        biased;
                        () = shared.stopped() => return,
                        outcome = answer(&shared, stream) => outcome,
                    };
                    drop(place);
                    if let Err(failure) = outcome {
                        // Only the address without its port, which is new each time.
                        let subject = format!("peer connection from {}", address.ip());
                        shared.notices.warn(&shared.runtime, subject, failure.to_string());
                    }
                });
            }
            Err(error) => {
                let text = format!("cannot accept: {error}");
                shared.notices.warn(runtime, "peer connections".to_owned(), text);
                runtime.sleep_until(runtime.now() + ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Hear who dials, and see its connection into a link.
async fn answer<R: Runtime>(shared: &Arc<Shared<R>>, mut stream: R::Stream) -> Result<(), Failure> {
    let (runtime, limit) = (&shared.runtime, shared.config.timing.dial);
    let hello = match within(runtime, limit, hear(&mut stream)).await {
        Ok(Greeting::Hello(hello)) => hello,
        Ok(Greeting::Refusal(refusal)) => return Err(Failure::Refused(refusal)),
        Err(Failure::Garbage(error)) => {
            let text = format!("{}: {error}", shared.config.node);
            return refuse(shared, stream, Refusal::new(Reason::Malformed, text)).await;
        }
        Err(failure) => return Err(failure),
    };
    if let Err(refusal) = shared.check(&hello).and_then(|()| may_dial(&hello)) {
        return refuse(shared, stream, refusal).await;
    }
    let reply = shared.hello(hello.from, hello.class, hello.number);
    let (ours, reply) = (reply.endpoints.clone(), Greeting::Hello(reply));
    let (node, life, number) = (hello.from, hello.life, hello.number);
    let theirs = hello.endpoints.iter().copied().collect();
    match hello.class {
        Class::Control => match shared.admit_control(&hello) {
            Ok(bulk) => {
                within(runtime, limit, say(&mut stream, reply)).await?;
                let bulk =
                    within(runtime, limit, async { bulk.await.map_err(|_| Failure::Overtaken) });
                let bulk = bulk.await?;
                let control = Connection { stream, theirs, ours };
                // If it is overtaken, another attempt goes on in its place.
                shared.link_up(node, life, Some(number), control, bulk);
                Ok(())
            }
            Err(refusal) => refuse(shared, stream, refusal).await,
        },
        Class::Bulk => match shared.admit_bulk(&hello) {
            Ok(join) => {
                within(runtime, limit, say(&mut stream, reply)).await?;
                join.send(Connection { stream, theirs, ours }).map_err(|_| Failure::Overtaken)
            }
            Err(refusal) => refuse(shared, stream, refusal).await,
        },
    }
}

fn may_dial(hello: &LinkHello) -> Result<(), Refusal> {
    if hello.from < hello.to {
        return Ok(());
    }
    let text = format!("of {} and {} the one with the smaller id dials", hello.from, hello.to);
    Err(Refusal::new(Reason::Stranger, text))
}

async fn refuse<R: Runtime>(
    shared: &Arc<Shared<R>>,
    mut stream: R::Stream,
    refusal: Refusal,
) -> Result<(), Failure> {
    let greeting = Greeting::Refusal(refusal.clone());
    let telling = async {
        say(&mut stream, greeting).await?;
        // What was sent is thrown away if the socket is closed with bytes unread.
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        let mut left = REFUSED_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut unread).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    };
    // That it did not hear us out is its own loss.
    let _ = within(&shared.runtime, shared.config.timing.dial, telling).await;
    // An attempt that was given up is nobody's mistake.
    if refusal.reason == Reason::Stale { Ok(()) } else { Err(Failure::Refusing(refusal)) }
}

async fn say<S: AsyncWriteExt + Unpin>(stream: &mut S, greeting: Greeting) -> Result<(), Failure> {
    stream.write_all(&greeting.encode()).await?;
    Ok(stream.flush().await?)
}

async fn hear<S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<Greeting, Failure> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let prefix = Bytes::copy_from_slice(&prefix);
    let mut body = vec![0; Greeting::body_len(&prefix).map_err(Failure::Garbage)?];
    stream.read_exact(&mut body).await?;
    Greeting::decode(&prefix, &Bytes::from(body)).map_err(Failure::Garbage)
}

async fn within<R: Runtime, T>(
    runtime: &R,
    limit: Duration,
    doing: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        result = doing => result,
        () = runtime.sleep_until(runtime.now() + limit) => Err(Failure::Slow(limit)),
    }
}
