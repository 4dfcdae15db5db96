//! A TCP proxy between two processes that can be told to swallow everything or to reset.
//!
//! It stands for the network between two datacenters: what it swallows is not lost but late, as TCP
//! sends it again when the network is back; nobody hears of a close meanwhile. New connections are
//! taken by the kernel and then hang, as behind a firewall that drops packets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// How often a proxy looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);
/// How long a connection to the target may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// What a proxy does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Pass it on.
    Forward,
    /// Hold it back, in silence.
    Swallow,
    /// Close every connection, and each new one at once.
    Reset,
}

/// A listening proxy. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    /// A proxy on a free loopback port, in front of `target`, which need not listen yet.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mode = Arc::new(AtomicU8::new(Mode::Forward as u8));
        let shared = mode.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mode = shared.clone();
                thread::spawn(move || {
                    // An error ends this connection and nothing else.
                    let _ = connection(&stream, target, &mode);
                });
            }
        });
        Ok(Self { address, mode })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on do this.
    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

fn connection(near: &TcpStream, target: SocketAddr, mode: &Arc<AtomicU8>) -> io::Result<()> {
    pass(mode)?;
    let far = TcpStream::connect_timeout(&target, CONNECT_MAX)?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
    }
    let back = {
        let (near, far, mode) = (near.try_clone()?, far.try_clone()?, mode.clone());
        thread::spawn(move || copy(&far, &near, &mode))
    };
    copy(near, &far, mode);
    // The other direction ends by the shutdown, if it has not ended before.
    let _ = back.join();
    Ok(())
}

/// Copy until one end closes; then close the other.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mode: &AtomicU8) {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(len) => len,
            Err(error)
                if is_timeout(&error) && mode.load(Ordering::SeqCst) != Mode::Reset as u8 =>
            {
                continue;
            }
            Err(_) => 0,
        };
        let passed = pass(mode);
        if len == 0 || passed.is_err() || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // It is closed already, then.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Wait until bytes may pass.
fn pass(mode: &AtomicU8) -> io::Result<()> {
    loop {
        match mode.load(Ordering::SeqCst) {
            mode if mode == Mode::Forward as u8 => return Ok(()),
            mode if mode == Mode::Reset as u8 => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => thread::sleep(LOOK),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forwards_swallows_delivers_late_and_resets() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(echo.local_addr().unwrap()).unwrap();
        thread::spawn(move || {
            for stream in echo.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let mut byte = [0];
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"a");

        proxy.set(Mode::Swallow);
        stream.write_all(b"b").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(is_timeout(&stream.read_exact(&mut byte).unwrap_err()), "nothing comes through");
        proxy.set(Mode::Forward);
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b", "what was held back comes late");

        proxy.set(Mode::Reset);
        assert!(stream.read_exact(&mut byte).is_err(), "the connection ends");
    }
}
