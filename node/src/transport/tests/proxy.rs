//! A TCP proxy that does to its connections what bad networks do.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;

/// What the proxy does with bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Pass them on.
    Open,
    /// Read them and let them vanish.
    Lost,
    /// Do not even read them: the sender's buffers fill.
    Held,
}

/// What the proxy does. Connections made while a way is not open are accepted, and lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) there: Way,
    pub(super) back: Way,
    /// Each change of it resets all connections.
    pub(super) resets: u64,
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Connections that were accepted so far.
    pub(super) accepted: Arc<Mutex<u64>>,
}

impl Proxy {
    /// A proxy that leads to `target`.
    pub(super) async fn to(target: SocketAddr) -> Self {
        // With it, closing is a reset.
        #[allow(deprecated, reason = "it warns of blocking, which zero does not do")]
        let prepare = |stream: &TcpStream| stream.set_linger(Some(StdDuration::ZERO)).unwrap();
        Self::on(TokioRuntime::new(), target, prepare).await
    }

    /// The same on another runtime, where all streams are prepared.
    pub(super) async fn on<R: Runtime>(
        runtime: R,
        target: SocketAddr,
        prepare: impl Fn(&R::Stream) + Copy + Send + Sync + 'static,
    ) -> Self {
        let mut listener = runtime.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let clear = Weather { there: Way::Open, back: Way::Open, resets: 0 };
        let (weather, watched) = watch::channel(clear);
        let accepted = Arc::new(Mutex::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let (runtime, watched) = (runtime.clone(), watched.clone());
                tokio::spawn(async move {
                    let Ok(far) = runtime.connect(target).await else { return };
                    prepare(&near);
                    prepare(&far);
                    connection(near, far, watched).await;
                });
            }
        });
        Self { address, weather, accepted }
    }

    pub(super) fn set(&self, there: Way, back: Way) {
        self.weather.send_modify(|weather| (weather.there, weather.back) = (there, back));
    }

    /// Reset all connections.
    pub(super) fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }
}

async fn connection<S: AsyncRead + AsyncWrite>(
    near: S,
    far: S,
    mut weather: watch::Receiver<Weather>,
) {
    let resets = weather.borrow().resets;
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let there = pass(&mut near_in, &mut far_out, weather.clone(), |weather| weather.there);
    let back = pass(&mut far_in, &mut near_out, weather.clone(), |weather| weather.back);
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = weather.wait_for(|weather| weather.resets != resets) => {}
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut weather: watch::Receiver<Weather>,
    way: impl Fn(&Weather) -> Way,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        if weather.wait_for(|weather| way(weather) != Way::Held).await.is_err() {
            return;
        }
        let count = from.read(&mut bytes).await.unwrap_or(0);
        let open = way(&weather.borrow()) == Way::Open;
        if count == 0 {
            if open {
                return;
            }
            // The end of the stream vanishes, too.
            std::future::pending::<()>().await;
        }
        if open && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
