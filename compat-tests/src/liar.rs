//! A TCP proxy that lies about what a server answers: it turns bits of bodies, or changes words, so that
//! whoever compares bytes or metadata must notice. A suite whose checks cannot fail would pass behind it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// One bit is turned each time that so many bytes of objects have come over a connection.
const EVERY_BYTES: u64 = 200_000;

/// What is changed in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A bit, now and then.
    Bits,
    /// Metadata that scenarios give their objects: a colour, a content type, a time of modification.
    Words,
}

/// What becomes of words: as long as they were, so that no length changes.
const WORDS: [(&[u8], &[u8]); 4] = [
    (b"blue", b"grey"),
    (b"text/x-size", b"text/x-sise"),
    (b"x-trine", b"x-trina"),
    (b"1000000000", b"1000000009"),
];

/// A listening proxy. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Liar {
    address: SocketAddr,
    lies: Arc<AtomicU64>,
}

impl Liar {
    /// A proxy on a free loopback port, in front of `target`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(target: SocketAddr, lie: Lie) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let lies = Arc::new(AtomicU64::new(0));
        let counted = lies.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let counted = counted.clone();
                thread::spawn(move || {
                    // An error ends this connection and nothing else.
                    let _ = connection(&near, target, lie, &counted);
                });
            }
        });
        Ok(Self { address, lies })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bits or words it has changed.
    pub fn lies(&self) -> u64 {
        self.lies.load(Ordering::SeqCst)
    }
}

fn connection(
    near: &TcpStream,
    target: SocketAddr,
    lie: Lie,
    lies: &Arc<AtomicU64>,
) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
    }
    let asked = (near.try_clone()?, far.try_clone()?);
    let there = thread::spawn(move || copy(&asked.0, &asked.1, |_| ()));
    let mut answers = Answers::default();
    copy(&far, near, |bytes| {
        let told = match lie {
            Lie::Bits => turn(bytes, &mut answers),
            Lie::Words => replace(bytes),
        };
        lies.fetch_add(told, Ordering::SeqCst);
    });
    // It ends by the shutdown, if it has not ended before.
    let _ = there.join();
    Ok(())
}

/// Where a connection is in its answers.
#[derive(Debug, Default)]
struct Answers {
    passed_bytes: u64,
    /// This one is a document, such as a listing, and let through: objects are what is lied about.
    document: bool,
}

/// Turn one bit if another [`EVERY_BYTES`] have passed; returns how many were turned.
fn turn(bytes: &mut [u8], answers: &mut Answers) -> u64 {
    if bytes.starts_with(b"HTTP/1.1") {
        let kind = b"application/xml";
        answers.document = bytes.windows(kind.len()).any(|part| part == kind);
        return 0;
    }
    if answers.document {
        return 0;
    }
    let before = answers.passed_bytes / EVERY_BYTES;
    answers.passed_bytes += bytes.len() as u64;
    if answers.passed_bytes / EVERY_BYTES == before {
        return 0;
    }
    // In the middle of what came at once: far from where a head could be.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    1
}

/// Replace each of [`WORDS`] in the head of an answer; returns how many there were. One that two reads
/// share is left alone.
fn replace(bytes: &mut [u8]) -> u64 {
    if !bytes.starts_with(b"HTTP/1.1") {
        return 0;
    }
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap_or(bytes.len());
    let bytes = &mut bytes[..end];
    let mut count = 0;
    for (word, other) in WORDS {
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(word.len()).position(|part| part == word) {
            at += found;
            bytes[at..at + word.len()].copy_from_slice(other);
            count += 1;
        }
    }
    count
}

/// Copy until one end closes, through `change`; then close the other.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len) = from.read(&mut buffer) {
        change(&mut buffer[..len]);
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // It is closed already, then.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_turns_bits_of_long_answers_and_none_of_what_is_asked() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let liar = Liar::start(server.local_addr().unwrap(), Lie::Bits).unwrap();
        let told = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut asked = vec![0; 500_000];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&vec![7; 1_000_000]).unwrap();
            asked
        });
        let mut stream = TcpStream::connect(liar.address()).unwrap();
        stream.write_all(&vec![5; 500_000]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(told.join().unwrap().iter().all(|byte| *byte == 5));
        let turned = answer.iter().filter(|byte| **byte != 7).count();
        assert_eq!((answer.len(), turned as u64), (1_000_000, liar.lies()));
        assert!(turned > 0);
    }

    #[test]
    fn it_changes_words_of_heads() {
        let mut told = b"HTTP/1.1 200 OK\r\na: blueblue\r\nb: text/x-size\r\n\r\nblue".to_vec();
        assert_eq!(replace(&mut told), 3);
        assert_eq!(told, b"HTTP/1.1 200 OK\r\na: greygrey\r\nb: text/x-sise\r\n\r\nblue");
        assert_eq!(replace(&mut b"blue".to_vec()), 0);
    }
}
