//! One HTTP/1.1 connection, driven by the task that uses it: no task of its own, no wake-ups across
//! threads.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::answer::Failure;
use super::payload::Payload;
use super::tls::ClientTls;

type Driver = http1::Connection<TokioIo<Box<dyn Duplex>>, Payload>;

/// A socket, or TLS over one.
trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for S {}

/// A connection that requests go over one after another.
pub(crate) struct Connection {
    sender: SendRequest<Payload>,
    driver: Pin<Box<Driver>>,
    /// Until the driver has ended.
    open: bool,
}

impl Connection {
    /// # Errors
    /// [`Failure::Connect`], [`Failure::Tls`].
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Option<&ClientTls>,
    ) -> Result<Self, Failure> {
        let connected = TcpStream::connect(address).await;
        let stream = connected.map_err(|error| Failure::Connect(error.kind()))?;
        // Small requests go out at once. A socket that cannot do that still works.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Duplex> = match tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(stream).await?),
        };
        let handshake = http1::Builder::new().max_buf_size(1 << 20).handshake(TokioIo::new(stream));
        let (sender, driver) = handshake.await.map_err(|error| broken(&error))?;
        Ok(Self { sender, driver: Box::pin(driver), open: true })
    }

    /// Whether another request can go over it; notices that the other side has closed it.
    pub(crate) async fn is_ready(&mut self) -> bool {
        if !self.open {
            return false;
        }
        let Self { sender, driver, open } = self;
        drive(driver, open, sender.ready()).await.is_ok()
    }

    /// Send a request, and let `read` read the answer to its end.
    ///
    /// # Errors
    /// [`Failure::Broken`], and what `read` says.
    pub(crate) async fn exchange<T, R>(
        &mut self,
        request: Request<Payload>,
        read: impl FnOnce(Response<Incoming>) -> R,
    ) -> Result<T, Failure>
    where
        R: Future<Output = Result<T, Failure>>,
    {
        let Self { sender, driver, open } = self;
        let work = async move {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            read(response).await
        };
        drive(driver, open, work).await
    }
}

/// Poll `work`, and the connection that it waits for.
async fn drive<T>(
    driver: &mut Pin<Box<Driver>>,
    open: &mut bool,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if *open && driver.as_mut().poll(context).is_ready() {
            *open = false;
        }
        // What the driver has just read need not wait for another turn.
        work.as_mut().poll(context)
    })
    .await
}

/// What is counted of an error of hyper's: few words, without what differs from time to time.
pub(crate) fn broken(error: &hyper::Error) -> Failure {
    let what = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "closed before the answer's end"
    } else if error.is_parse() {
        "the answer is no HTTP"
    } else {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                return Failure::Broken(error.kind().to_string());
            }
            cause = error.source();
        }
        "broke off"
    };
    Failure::Broken(what.to_owned())
}
