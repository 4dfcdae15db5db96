//! Calls between nodes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_and_its_failures_are_told_apart() {
    let (mut low, mut high) = pair().await;
    let caller = low.port.caller();
    let call = |body: &'static [u8], limit| {
        let caller = caller.clone();
        let body = Bytes::from_static(body);
        tokio::spawn(async move { caller.call(NodeId(2), body, limit).await })
    };
    low.next().await;
    high.next().await;
    let first = call(b"status?", PATIENCE);
    let asked = soon(high.calls.recv()).await.unwrap();
    assert_eq!((asked.from, &asked.body[..]), (NodeId(1), &b"status?"[..]));
    asked.reply.send(Bytes::from_static(b"fine")).unwrap();
    assert_eq!(soon(first).await.unwrap(), Ok(Bytes::from_static(b"fine")));

    let dropped = call(b"never mind", PATIENCE);
    drop(soon(high.calls.recv()).await.unwrap());
    assert_eq!(soon(dropped).await.unwrap(), Err(PeerCallError::Refused(NodeId(2))));

    let short = StdDuration::from_millis(1);
    let slow = call(b"slow", short);
    let kept = soon(high.calls.recv()).await;
    assert_eq!(soon(slow).await.unwrap(), Err(PeerCallError::Timeout(NodeId(2), short)));
    drop(kept);

    let large = Bytes::from(vec![0; PEER_CALL_BYTES_MAX + 1]);
    let error = caller.call(NodeId(2), large, PATIENCE).await.unwrap_err();
    assert!(matches!(error, PeerCallError::TooLarge { .. }));
    let error = caller.call(NodeId(9), Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error, PeerCallError::UnknownPeer(NodeId(9)));

    let lost = call(b"are you", PATIENCE);
    let asked = soon(high.calls.recv()).await.unwrap();
    drop(high);
    assert_eq!(soon(lost).await.unwrap(), Err(PeerCallError::LinkLost(NodeId(2))));
    drop(asked);
    assert_eq!(low.next().await, "down store-2");
    let error = caller.call(NodeId(2), Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error, PeerCallError::NotConnected(NodeId(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_largest_size_go_both_ways() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    let caller = high.port.caller();
    let body = Bytes::from(vec![3; PEER_CALL_BYTES_MAX]);
    let asking = tokio::spawn(async move { caller.call(NodeId(1), body, PATIENCE).await });
    let asked = soon(low.calls.recv()).await.unwrap();
    assert_eq!(asked.body.len(), PEER_CALL_BYTES_MAX);
    asked.reply.send(asked.body).unwrap();
    assert_eq!(soon(asking).await.unwrap().map(|body| body.len()), Ok(PEER_CALL_BYTES_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_takes_calls_they_are_refused_and_where_too_many_wait_they_are_told_so() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    let caller = low.port.caller();
    // One more than may wait at either end; nobody takes them.
    let waiting: Vec<_> = (0..CALLS_INBOUND_MAX + 1)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call(NodeId(2), Bytes::new(), PATIENCE).await })
        })
        .collect();
    // Which of them is too many is chance; that one is, is not.
    until("one is overloaded", || waiting.iter().any(|call| call.is_finished())).await;
    assert!(waiting.iter().filter(|call| !call.is_finished()).count() >= CALLS_INBOUND_MAX - 1);
    high.calls.close();
    while high.calls.recv().await.is_some() {}
    for call in waiting {
        let error = soon(call).await.unwrap().unwrap_err();
        let expected = [PeerCallError::Refused(NodeId(2)), PeerCallError::Overloaded(NodeId(2))];
        assert!(expected.contains(&error), "{error}");
    }
}
