//! Codec round trips and limits; behaviour is held by the golden scripts and the explorer.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::{DecodeError, Wire};
use crate::ids::{COUNTER_MAX, LogIndex, StoreId, Term};

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop_oneof![Just(EntryKind::Empty), Just(EntryKind::Command), Just(EntryKind::Membership)];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        membership().prop_map(|membership| membership.to_bytes().to_vec()),
    ];
    (0..=COUNTER_MAX, 0..=COUNTER_MAX, kind, payload).prop_map(|(index, term, kind, payload)| {
        Entry { index: LogIndex(index), term: Term(term), kind, payload: payload.into() }
    })
}

fn membership() -> impl Strategy<Value = Membership> {
    let ids = |ids: [u64; 3]| ids.map(StoreId).to_vec();
    prop_oneof![
        Just(Membership::default()),
        Just(Membership::of(ids([1, 2, 3]))),
        Just(Membership::new(ids([1, 2, 4]), ids([1, 2, 3]), vec![StoreId(9)]).unwrap()),
    ]
}

fn body() -> impl Strategy<Value = MessageBody> {
    let index = || (0..=COUNTER_MAX).prop_map(LogIndex);
    let term = || (0..=COUNTER_MAX).prop_map(Term);
    prop_oneof![
        (index(), term())
            .prop_map(|(last_index, last_term)| MessageBody::PreVote { last_index, last_term }),
        any::<bool>().prop_map(|granted| MessageBody::PreVoteReply { granted }),
        (index(), term(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| {
            MessageBody::Vote { last_index, last_term, transfer }
        }),
        any::<bool>().prop_map(|granted| MessageBody::VoteReply { granted }),
        (index(), term(), prop::collection::vec(entry(), 0..5), index()).prop_map(
            |(prev_index, prev_term, entries, commit)| MessageBody::Append {
                prev_index,
                prev_term,
                entries,
                commit
            }
        ),
        (index(), any::<u64>())
            .prop_map(|(matched, suspect)| MessageBody::AppendAccepted { matched, suspect }),
        (index(), index(), term(), any::<u64>()).prop_map(
            |(refused, hint_index, hint_term, suspect)| MessageBody::AppendRejected {
                refused,
                hint_index,
                hint_term,
                suspect
            }
        ),
        (index(), any::<u64>())
            .prop_map(|(commit, round)| MessageBody::Heartbeat { commit, round }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(round, suspect)| MessageBody::HeartbeatReply { round, suspect }),
        (any::<u64>(), index())
            .prop_map(|(suspect, index)| MessageBody::Restore { suspect, index }),
        Just(MessageBody::TimeoutNow),
        (index(), term(), membership(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
            |(last_index, last_term, membership, data)| MessageBody::Snapshot {
                last_index,
                last_term,
                membership,
                data: data.into()
            }
        ),
        (index(), any::<bool>(), any::<u64>()).prop_map(|(last_index, accepted, suspect)| {
            MessageBody::SnapshotReply { last_index, accepted, suspect }
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), 0..=COUNTER_MAX, body()).prop_map(|(from, to, term, body)| {
        Message { from: StoreId(from), to: StoreId(to), term: Term(term), body }
    })
}

proptest! {
    #[test]
    fn a_message_survives_encoding(message in message()) {
        prop_assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(
        message in message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message.to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _: Result<Message, DecodeError> = Message::from_bytes(&bytes.into());
    }

    #[test]
    fn a_damaged_message_does_not_panic_a_replica(messages in prop::collection::vec(message(), 1..20)) {
        let config = RaftConfig {
            id: StoreId(1),
            heartbeat: crate::time::Duration::from_millis(50),
            election: crate::time::Duration::from_millis(500),
            append_bytes_max: 1 << 20,
            appends_in_flight_max: 4,
            snapshot_lag: u64::MAX,
            entry_cache_bytes: 1 << 20,
            proposals_uncommitted_bytes_max: 1 << 20,
            seed: 1,
            mutants: Mutants::none(),
        };
        let voters = Membership::of(vec![StoreId(1), StoreId(2), StoreId(3)]);
        let memberships = vec![(LogIndex(0), voters)];
        let recovered = RecoveredLog { memberships, ..RecoveredLog::default() };
        let mut raft = Raft::new(config, recovered, crate::time::Instant::ZERO);
        let mut out = Output::new();
        for mut message in messages {
            message.to = StoreId(1);
            message.from = StoreId(2 + message.from.0 % 2);
            message.term = Term(message.term.0 % 4);
            raft.step(crate::time::Instant::from_millis(1), message, &mut out);
            raft.check();
        }
    }
}

#[test]
fn an_entry_over_the_limit_is_refused_before_it_is_allocated() {
    let mut out = crate::codec::Encoder::new();
    LogIndex(1).encode(&mut out);
    Term(1).encode(&mut out);
    EntryKind::Command.encode(&mut out);
    out.u32(u32::MAX);
    let bytes: Bytes = out.finish();
    assert!(matches!(Entry::from_bytes(&bytes), Err(DecodeError::Limit { .. })));
}
