//! The driver with machines that are scripts, and real disks.

use std::sync::{Arc, Mutex, mpsc as std_mpsc};

use bytes::Bytes;
use trine_core::disk::{DiskOp, SECTOR};
use trine_core::ids::{ClusterId, DiskToken, Incarnation, RequestId, TenantId};
use trine_core::level::Levels;
use trine_core::message::{Beginning, Envelope, Hello, Message, StoreMark};
use trine_core::request::{Reply, Request};
use trine_s3::front::Front;

use super::*;
use crate::runtime::Runtime;
use crate::runtime::tokio::TokioRuntime;

type React<E> = Box<dyn FnMut(E, &mut Effects) + Send>;

/// A machine that does what the test says and tells what happens to it.
struct Script<E> {
    react: React<E>,
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl<E: From<Common>> Machine for Script<E> {
    type Event = E;

    fn step(&mut self, _now: Now, event: E, fx: &mut Effects) {
        (self.react)(event, fx);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.deadline.lock().unwrap().map(|at| Deadline { at, reason: "test" })
    }

    fn status(&self) -> String {
        "scripted".to_owned()
    }
}

fn store(id: u64) -> Endpoint {
    Endpoint::Store(StoreId(id))
}

fn hello(from: Endpoint, to: Endpoint) -> Envelope {
    let message = Message::Hello(Hello {
        cluster: ClusterId(1),
        levels: Levels::OWN,
        level: None,
        life: StoreMark { incarnation: Incarnation(1), nonce: 0, synced: 0 },
        began: 0,
        doubted: Incarnation(0),
        lives: Vec::new(),
        heard: None,
        wanted: false,
        beginning: Beginning::Unknown,
    });
    Envelope { from, to, message }
}

/// What happened, as lines in order.
type Log = std_mpsc::Receiver<String>;

/// Three stores and a gateway that run on a thread, told apart by `react`.
struct Rig {
    runtime: TokioRuntime,
    handle: Handle<TokioRuntime, Script<StoreEvent>>,
    front: Front,
    log: Log,
    deadlines: Vec<Arc<Mutex<Option<Instant>>>>,
    end: tokio::task::JoinHandle<Result<(), DriverError>>,
    _directory: tempfile::TempDir,
}

impl Rig {
    /// `on_store(id, event, fx)` and `on_gateway(event, fx)` react, after the event was logged.
    fn start(
        on_store: impl Fn(u64, StoreEvent, &mut Effects) + Send + Sync + 'static,
        mut on_gateway: impl FnMut(GatewayEvent, &mut Effects) + Send + 'static,
    ) -> Self {
        let runtime = TokioRuntime::new();
        let directory = tempfile::tempdir().unwrap();
        let (sender, log) = std_mpsc::channel();
        let (completions, on_store) = (Completions::new(), Arc::new(on_store));
        let deadlines: Vec<_> = (0..4).map(|_| Arc::default()).collect();
        let stores = (1..=3)
            .map(|number: u64| {
                let id = StoreId(number);
                let path = directory.path().join(number.to_string());
                let disk = runtime.open_disk(&path, 1 << 20, completions.sink(id)).unwrap();
                let (sender, on_store) = (sender.clone(), on_store.clone());
                let react = Box::new(move |event: StoreEvent, fx: &mut Effects| {
                    let _ = sender.send(format!("{id} {}", brief(&format!("{event:?}"))));
                    on_store(number, event, fx);
                });
                let deadline = Arc::clone(&deadlines[usize::try_from(number).unwrap()]);
                StorePart { id, machine: Script { react, deadline }, disk }
            })
            .collect();
        let react = Box::new(move |event: GatewayEvent, fx: &mut Effects| {
            let _ = sender.send(format!("gateway {}", brief(&format!("{event:?}"))));
            on_gateway(event, fx);
        });
        let gateway = Script { react, deadline: Arc::clone(&deadlines[0]) };
        let (front, calls) = Front::new();
        let (driver, handle) =
            Driver::new(runtime.clone(), completions, stores, (GatewayId(1), gateway), calls, None);
        let end = tokio::spawn(driver.run());
        Self { runtime, handle, front, log, deadlines, end, _directory: directory }
    }

    /// Drain now, and wait for the end.
    async fn finish(self) -> (Result<(), DriverError>, Vec<String>) {
        self.handle.drain(self.runtime.now());
        let end = self.end.await.unwrap();
        (end, self.log.try_iter().collect())
    }
}

/// The name of an event, with the peer of `LinkUp` and `LinkDown`.
fn brief(debug: &str) -> String {
    let end = debug.find([' ', '{']).unwrap_or(debug.len());
    debug[..end].to_owned()
}

fn nothing(_: u64, _: StoreEvent, _: &mut Effects) {}

#[tokio::test]
async fn everyone_starts_before_links_stand_and_messages_come() {
    let rig = Rig::start(
        |id, event, fx| {
            if matches!(event, StoreEvent::Start) && id == 1 {
                fx.send(hello(store(1), store(2)));
            }
        },
        |_, _| {},
    );
    rig.handle.status().await.unwrap();
    let (end, log) = rig.finish().await;
    assert_eq!(end, Ok(()));
    let expected = [
        "store-1 Start",
        "store-2 Start",
        "store-3 Start",
        "gateway Start",
        "store-1 LinkUp(store-2)",
        "store-1 LinkUp(store-3)",
        "store-1 LinkUp(gw-1)",
        "store-2 LinkUp(store-1)",
    ];
    assert_eq!(log[..8], expected);
    assert_eq!(log.len(), 4 + 12 + 1);
    assert_eq!(log[16], "store-2 Message(Envelope");
}

#[tokio::test]
async fn disk_effects_come_back_to_their_store_only() {
    let (sender, results) = std_mpsc::channel();
    let rig = Rig::start(
        move |id, event, fx| match event {
            StoreEvent::Start => {
                let parts = vec![Bytes::from(vec![u8::try_from(id).unwrap(); 4096])];
                fx.disk(DiskToken(id), DiskOp::Write { offset: 0, parts });
            }
            StoreEvent::Disk { token, .. } if token.0 < 10 => {
                fx.disk(DiskToken(10 + id), DiskOp::Read { offset: 0, len: SECTOR });
            }
            StoreEvent::Disk { token, result } => sender.send((id, token, result)).unwrap(),
            _ => {}
        },
        |_, _| {},
    );
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match results.try_recv() {
            Ok(one) => seen.push(one),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    seen.sort_by_key(|(id, ..)| *id);
    for (number, (id, token, result)) in (1..).zip(seen) {
        assert_eq!((id, token), (number, DiskToken(10 + number)));
        let bytes = Bytes::from(vec![u8::try_from(number).unwrap(); 4096]);
        assert_eq!(result, Ok(trine_core::disk::DiskOutput::Read(bytes)));
    }
    assert_eq!(rig.finish().await.0, Ok(()));
}

#[tokio::test]
async fn a_deadline_is_delivered_when_its_time_has_come() {
    let rig = Rig::start(nothing, |_, _| {});
    rig.handle.status().await.unwrap();
    let at = rig.runtime.now() + Duration::from_millis(20);
    *rig.deadlines[2].lock().unwrap() = Some(at);
    // The driver looks at deadlines when it wakes.
    rig.handle.status().await.unwrap();
    let first = loop {
        match rig.log.try_iter().find(|line| line.contains("Deadline")) {
            Some(line) => break line,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    assert!(rig.runtime.now() >= at, "too early");
    assert_eq!(first, "store-2 Deadline");
    *rig.deadlines[2].lock().unwrap() = None;
    let (_, log) = rig.finish().await;
    assert!(!log.iter().any(|line| line == "store-1 Deadline"));
}

#[tokio::test]
async fn a_halted_store_is_taken_out_and_its_peers_see_the_link_go_down() {
    let rig = Rig::start(
        |id, event, fx| {
            if matches!(event, StoreEvent::Start) && id == 2 {
                fx.push(Effect::Halt { reason: "test".to_owned() });
            }
            if matches!(event, StoreEvent::LinkDown(_)) {
                fx.send(hello(store(id), store(2)));
            }
        },
        |_, _| {},
    );
    let halted = StoreLife::Halted("test".to_owned());
    while rig.handle.status().await.unwrap().stores[1].life != halted {}
    let (end, log) = rig.finish().await;
    assert_eq!(end, Ok(()), "two stores go on");
    for line in ["store-1 LinkDown(store-2)", "store-3 LinkDown(store-2)"] {
        assert!(log.iter().any(|one| one == line), "{line} is missing in {log:?}");
    }
    assert!(log.iter().any(|line| line == "gateway LinkDown(store-2)"));
    let of_halted: Vec<_> = log.iter().filter(|line| line.starts_with("store-2")).collect();
    assert_eq!(of_halted, ["store-2 Start"], "it is not stepped again");
}

#[tokio::test]
async fn the_driver_ends_with_the_reason_when_all_stores_have_halted() {
    let rig = Rig::start(
        |id, event, fx| {
            if matches!(event, StoreEvent::Start) {
                fx.push(Effect::Halt { reason: format!("store {id}: format version 9") });
            }
        },
        |_, _| {},
    );
    let error = rig.end.await.unwrap().unwrap_err();
    assert_eq!(error, DriverError::NoStores("store 3: format version 9".to_owned()));
}

#[tokio::test]
async fn a_request_gets_its_replies_in_order_and_ends_with_its_last() {
    let rig = Rig::start(nothing, |event, fx| {
        if let GatewayEvent::Request { id, .. } = event {
            fx.push(Effect::NeedBody { id, bytes: 7 });
            fx.reply(id, Ok(Reply::Done));
            // Nothing may come after the reply; if it does, nobody sees it.
            fx.push(Effect::NeedBody { id, bytes: 8 });
        }
    });
    let mut exchange = rig.front.open(Request::ListBuckets { tenant: TenantId(0) }).unwrap();
    assert!(matches!(exchange.next().await, Some(FrontReply::NeedBody(7))));
    assert!(matches!(exchange.next().await, Some(FrontReply::Reply(Ok(Reply::Done)))));
    assert!(exchange.next().await.is_none());
    exchange.ended();
    drop(exchange);
    assert_eq!(rig.handle.status().await.unwrap().requests, 0);
    let (_, log) = rig.finish().await;
    assert!(!log.iter().any(|line| line.contains("Cancel")));
}

#[tokio::test]
async fn a_handler_that_goes_away_cancels_its_request() {
    let rig = Rig::start(nothing, |_, _| {});
    let exchange = rig.front.open(Request::ListBuckets { tenant: TenantId(0) }).unwrap();
    while rig.handle.status().await.unwrap().requests == 0 {}
    drop(exchange);
    while rig.handle.status().await.unwrap().requests == 1 {}
    let (_, log) = rig.finish().await;
    assert!(log.iter().any(|line| line == "gateway Cancel"));
}

#[tokio::test]
async fn a_drain_lets_open_requests_finish_and_takes_no_new_ones() {
    let first: Arc<Mutex<Option<RequestId>>> = Arc::default();
    let rig = Rig::start(nothing, move |event, fx| match event {
        GatewayEvent::Request { id, .. } => *first.lock().unwrap() = Some(id),
        GatewayEvent::BodyEnd { id, .. } => fx.reply(id, Ok(Reply::Done)),
        _ => {}
    });
    let list = || Request::ListBuckets { tenant: TenantId(0) };
    let mut open = rig.front.open(list()).unwrap();
    while rig.handle.status().await.unwrap().requests == 0 {}
    rig.handle.drain(rig.runtime.now() + Duration::from_secs(60));
    let mut late = rig.front.open(list()).unwrap();
    assert!(late.next().await.is_none(), "a new request is turned away");
    open.body_end(trine_core::request::BodyDigest::default());
    assert!(matches!(open.next().await, Some(FrontReply::Reply(Ok(Reply::Done)))));
    assert_eq!(rig.end.await.unwrap(), Ok(()));
    assert!(rig.front.open(list()).is_err(), "the driver is gone");
}

#[tokio::test]
async fn a_drain_gives_up_open_requests_when_its_time_is_over() {
    let rig = Rig::start(nothing, |_, _| {});
    let mut open = rig.front.open(Request::ListBuckets { tenant: TenantId(0) }).unwrap();
    while rig.handle.status().await.unwrap().requests == 0 {}
    rig.handle.drain(rig.runtime.now() + Duration::from_millis(20));
    assert_eq!(rig.end.await.unwrap(), Ok(()));
    assert!(open.next().await.is_none());
}

#[tokio::test]
async fn a_drain_waits_for_the_disks_and_starts_nothing_new_on_them() {
    // Each completion starts the next sync: left alone, the disks are never quiet.
    let rig = Rig::start(
        |_, event, fx| match event {
            StoreEvent::Start => fx.disk(DiskToken(0), DiskOp::Sync),
            StoreEvent::Disk { token, .. } => fx.disk(DiskToken(token.0 + 1), DiskOp::Sync),
            _ => {}
        },
        |_, _| {},
    );
    rig.handle.status().await.unwrap();
    let before = rig.runtime.now();
    let runtime = rig.runtime.clone();
    assert_eq!(rig.finish().await.0, Ok(()));
    assert!(runtime.now().since(before) < QUIET_MAX);
}
