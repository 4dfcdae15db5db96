//! Bodies whose bytes are counted while anybody holds them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

/// Bytes that are held by anybody, now and at most.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<[AtomicUsize; 2]>);

impl Gauge {
    /// The most bytes that were held at one time.
    pub fn peak(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }

    fn weigh(&self, bytes: Vec<u8>) -> Bytes {
        let now = self.0[0].fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        self.0[1].fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Weighed { bytes, gauge: self.clone() })
    }
}

struct Weighed {
    bytes: Vec<u8>,
    gauge: Gauge,
}

impl AsRef<[u8]> for Weighed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        self.gauge.0[0].fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

/// A body of these pieces, each of which is there when it is asked for.
#[derive(Debug)]
pub struct Pieces {
    rest: VecDeque<Vec<u8>>,
    gauge: Gauge,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = Vec<u8>>, gauge: &Gauge) -> Self {
        Self { rest: pieces.into_iter().collect(), gauge: gauge.clone() }
    }

    /// `bytes` in pieces of `size`.
    pub fn of(bytes: &[u8], size: usize, gauge: &Gauge) -> Self {
        Self::new(bytes.chunks(size).map(<[u8]>::to_vec), gauge)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.rest.pop_front();
        let gauge = self.gauge.clone();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(gauge.weigh(piece)))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.rest.iter().map(|piece| piece.len() as u64).sum())
    }
}
