//! Peers that do not belong here, and peers that break the rules, made by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trine_core::rng::Rng;
use trine_core::wire;

use super::*;
use crate::transport::class::Class;
use crate::transport::hello::{Greeting, LinkHello, PREFIX_BYTES, Reason};

/// A fair hello of node 1 to node 2.
fn fair(class: Class, number: u64) -> LinkHello {
    LinkHello {
        protocol: LINK_PROTOCOL,
        cluster: CLUSTER,
        from: NodeId(1),
        to: NodeId(2),
        class,
        life: 11,
        number,
        endpoints: vec![store(1)],
    }
}

async fn hear(stream: &mut TcpStream) -> Greeting {
    let mut prefix = vec![0; PREFIX_BYTES];
    soon(stream.read_exact(&mut prefix)).await.unwrap();
    let prefix = Bytes::from(prefix);
    let mut body = vec![0; Greeting::body_len(&prefix).unwrap()];
    soon(stream.read_exact(&mut body)).await.unwrap();
    Greeting::decode(&prefix, &Bytes::from(body)).unwrap()
}

async fn say(stream: &mut TcpStream, greeting: Greeting) {
    stream.write_all(&greeting.encode()).await.unwrap();
}

/// What node 2 answers to this hello.
async fn answer_to(address: SocketAddr, hello: LinkHello) -> (Greeting, TcpStream) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, Greeting::Hello(hello)).await;
    (hear(&mut stream).await, stream)
}

async fn refused(address: SocketAddr, hello: LinkHello) -> (Reason, String) {
    match answer_to(address, hello).await.0 {
        Greeting::Refusal(refusal) => (refusal.reason, refusal.text),
        Greeting::Hello(hello) => panic!("taken: {hello:?}"),
    }
}

/// Both connections of a link, made by hand.
async fn link_by_hand(address: SocketAddr, number: u64) -> (TcpStream, TcpStream) {
    let (greeting, control) = answer_to(address, fair(Class::Control, number)).await;
    assert!(matches!(greeting, Greeting::Hello(_)), "{greeting:?}");
    let (greeting, bulk) = answer_to(address, fair(Class::Bulk, number)).await;
    assert!(matches!(greeting, Greeting::Hello(_)), "{greeting:?}");
    (control, bulk)
}

fn frame(envelope: &Envelope) -> Vec<u8> {
    let frame = wire::encode(envelope);
    [frame.head, frame.bulk].concat()
}

async fn high() -> Node {
    let high = Node::start(2, vec![], SLOW).await;
    high.host(&[store(2)]);
    high
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hello_that_does_not_fit_is_refused_with_its_reason() {
    let mut high = high().await;
    let control = |change: fn(&mut LinkHello)| {
        let mut hello = fair(Class::Control, 1);
        change(&mut hello);
        hello
    };
    let cases = [
        (control(|it| it.cluster = ClusterId(78)), Reason::Cluster, "another cluster"),
        (control(|it| it.protocol = 9), Reason::Protocol, "protocol 9"),
        (control(|it| it.to = NodeId(3)), Reason::NotThisNode, "looks for node-3"),
        (control(|it| it.from = NodeId(2)), Reason::Stranger, "unique"),
        (control(|it| it.from = NodeId(7)), Reason::Stranger, "knows no node-7"),
        (fair(Class::Bulk, 1), Reason::Stale, "given up"),
    ];
    for (hello, reason, words) in cases {
        let (found, text) = refused(high.address, hello).await;
        assert_eq!(found, reason);
        assert!(text.contains(words), "{text}");
    }
    // None of them got as far as a link, and a good one still does.
    assert_eq!(high.link().ups, 0);
    let _link = link_by_hand(high.address, 2).await;
    assert_eq!(high.next().await, "up store-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_larger_id_may_not_dial() {
    let peers = vec![(2, "127.0.0.1:1".parse().unwrap())];
    let low = Node::start(1, peers, SLOW).await;
    let hello = LinkHello { from: NodeId(2), to: NodeId(1), ..fair(Class::Control, 1) };
    let (reason, text) = refused(low.address, hello).await;
    assert_eq!(reason, Reason::Stranger);
    assert!(text.contains("smaller id"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialled_node_that_does_not_fit_is_told_why_and_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let low = Node::start(1, vec![(2, address)], SLOW).await;
    for (from, cluster, reason) in
        [(2, ClusterId(78), Reason::Cluster), (3, CLUSTER, Reason::Stranger)]
    {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        let Greeting::Hello(hello) = hear(&mut stream).await else { panic!("it greets") };
        assert_eq!((hello.from, hello.to), (NodeId(1), NodeId(2)));
        let reply = LinkHello {
            from: NodeId(from),
            to: NodeId(1),
            cluster,
            life: 5,
            endpoints: vec![],
            ..hello
        };
        say(&mut stream, Greeting::Hello(reply)).await;
        let Greeting::Refusal(refusal) = hear(&mut stream).await else { panic!("it refuses") };
        assert_eq!(refusal.reason, reason, "{refusal}");
    }
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let told = || low.link().reason.is_some_and(|reason| reason.contains("no greeting"));
    until("the reason is told", told).await;
    assert!(!low.link().up);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_given_up_does_not_end_the_link_that_holds() {
    let mut high = high().await;
    let mut link = link_by_hand(high.address, 5).await;
    assert_eq!(high.next().await, "up store-1");
    let (reason, _) = refused(high.address, fair(Class::Control, 4)).await;
    assert_eq!(reason, Reason::Stale);
    link.0.write_all(&frame(&heartbeat(1, 2, 1))).await.unwrap();
    assert_eq!(high.next().await, "store-1 to store-2: Consensus 1");
    // A later one does: its dialler has given the link up.
    let _later = link_by_hand(high.address, 6).await;
    assert_eq!(high.next().await, "down store-1");
    assert_eq!(high.next().await, "up store-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_before_both_connections_have_greeted() {
    let mut high = high().await;
    let (_, mut control) = answer_to(high.address, fair(Class::Control, 1)).await;
    control.write_all(&frame(&heartbeat(1, 2, 1))).await.unwrap();
    tokio::task::yield_now().await;
    assert!(high.port.try_next().is_none());
    let (_, _bulk) = answer_to(high.address, fair(Class::Bulk, 1)).await;
    assert_eq!(high.next().await, "up store-1");
    assert_eq!(high.next().await, "store-1 to store-2: Consensus 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_somebody_else_ends_the_link() {
    let mut high = high().await;
    let (mut control, _bulk) = link_by_hand(high.address, 1).await;
    assert_eq!(high.next().await, "up store-1");
    control.write_all(&frame(&heartbeat(3, 2, 1))).await.unwrap();
    assert_eq!(high.next().await, "down store-1");
    assert!(high.link().reason.is_some_and(|reason| reason.contains("does not host")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_talk_nonsense_end_and_harm_nobody() {
    let mut high = high().await;
    let mut rng = Rng::new(4711);
    for round in 0..200 {
        let mut stream = TcpStream::connect(high.address).await.unwrap();
        let mut bytes = Greeting::Hello(fair(Class::Control, 1)).encode().to_vec();
        if round % 2 == 0 {
            bytes.iter_mut().for_each(|byte| *byte = rng.next_u64().to_le_bytes()[0]);
        } else {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << rng.below(8);
        }
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It may end with a reset: what it did not read is thrown away.
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
    assert_eq!(high.link().ups, 0);
    let _link = link_by_hand(high.address, 2).await;
    assert_eq!(high.next().await, "up store-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_frames_end_their_link_or_pass_as_frames_and_never_more() {
    let mut high = high().await;
    let mut rng = Rng::new(1234);
    let mut ended = 0;
    for number in 1..=200 {
        let (mut control, mut bulk) = link_by_hand(high.address, number).await;
        assert_eq!(high.next().await, "up store-1");
        let on_bulk = rng.chance(1, 2);
        let message = if on_bulk { chunk(1, 2, 1, 100) } else { heartbeat(1, 2, 1) };
        let mut bytes = frame(&message);
        for _ in 0..=rng.below(3) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << rng.below(8);
        }
        let stream = if on_bulk { &mut bulk } else { &mut control };
        stream.write_all(&bytes).await.unwrap();
        // Not a reset, which would throw away what is not read yet. The node may have ended it.
        let _ = stream.shutdown().await;
        while high.next().await != "down store-1" {}
        let reason = high.link().reason.unwrap();
        ended += u32::from(reason.contains("no frame"));
    }
    // The others ended in the middle of a frame, or only bulk was changed, which has checksums of
    // its own.
    assert!(ended > 20, "{ended} of 200");
}
