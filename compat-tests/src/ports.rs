//! Loopback ports for servers that are told where to listen. Also a module of node's tests.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::process;
use std::sync::{Mutex, PoisonError};

/// Below those that systems give to outgoing connections and to port 0, so that nobody is given one
/// of these between its choice and the server's start.
const PORTS: Range<u32> = 20_000..30_000;

/// UDP sockets that claim the ports of the same numbers against other processes that choose here, and
/// against us, until this process ends.
static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A port that nobody listens on and that is given to nobody else while this process lives; a server
/// may be restarted on it.
///
/// # Panics
/// If there is none.
pub(crate) fn free_port() -> u16 {
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes of one run begin apart, so that few attempts meet.
    let first = process::id().wrapping_mul(17);
    for step in 0..PORTS.end - PORTS.start {
        let offset = first.wrapping_add(step) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + offset).expect("the range ends below 65,536");
        let Ok(claim) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            claims.push(claim);
            return port;
        }
    }
    panic!("no free port in {PORTS:?} of 127.0.0.1");
}
