//! From a range's answers to what a client is told.

use super::calls::Failure;
use crate::cluster::{SLOTS_MAX, UNPROVEN_MAX, WEIGHT_MAX};
use crate::ids::{StoreId, ZoneId};
use crate::message::Answer;
use crate::range::command::{Outcome, ReadReply, Rejection};
use crate::request::{ApiError, Reply};

/// What a read found.
pub(super) fn read(result: Result<Answer, Failure>) -> Result<ReadReply, ApiError> {
    match result {
        Ok(Answer::Read(reply)) => Ok(reply),
        Ok(_) => Err(unexpected()),
        Err(failure) => Err(failed(failure)),
    }
}

/// What came of a command. `Err(None)`: the range does not know the bucket id.
pub(super) fn command(result: Result<Answer, Failure>) -> Result<Reply, Option<ApiError>> {
    match result {
        Ok(Answer::Applied(Outcome::Done)) => Ok(Reply::Done),
        Ok(Answer::Applied(Outcome::Put { etag, checksum, .. })) => {
            Ok(Reply::Put { etag, checksum })
        }
        Ok(Answer::Applied(Outcome::Copied { etag, checksum, modified })) => {
            Ok(Reply::Copied { etag, checksum, modified })
        }
        Ok(Answer::Applied(Outcome::Upload(order))) => Ok(Reply::Upload(order)),
        Ok(Answer::Applied(Outcome::Rejected(Rejection::NoSuchBucket))) => Err(None),
        Ok(Answer::Applied(Outcome::Rejected(rejection))) => Err(Some(rejected(rejection))),
        Ok(_) => Err(Some(unexpected())),
        Err(failure) => Err(Some(failed(failure))),
    }
}

/// What came of the replacement of a store.
pub(super) fn replaced(
    old: StoreId,
    new: StoreId,
    result: Result<Answer, Failure>,
) -> Result<Reply, ApiError> {
    map_changed(result, |rejection| {
        Some(match rejection {
            Rejection::NoSuchStore => format!("{old} fills no slot of the cluster map"),
            Rejection::StoreRetired => format!(
                "{old} was replaced by another store than {new}, or {new} was itself replaced; an \
                 identity is used once"
            ),
            Rejection::StoreInUse => format!("{new} fills a slot of the cluster map already"),
            Rejection::Malformed => format!("{new} cannot be the identity of a store"),
            _ => return None,
        })
    })
}

/// What came of a new slot.
pub(super) fn added(
    zone: ZoneId,
    store: StoreId,
    result: Result<Answer, Failure>,
) -> Result<Reply, ApiError> {
    map_changed(result, |rejection| {
        Some(match rejection {
            Rejection::NoSuchZone => format!("the cluster map has no {zone}"),
            Rejection::StoreRetired => {
                format!("{store} was replaced; an identity is used once")
            }
            Rejection::StoreInUse => format!(
                "{store} fills a slot of the cluster map already, in another zone or with another \
                 weight"
            ),
            Rejection::TooManySlots => {
                format!("{zone} has {SLOTS_MAX} slots, and slots are never given up")
            }
            Rejection::Malformed => format!("{store} cannot be the identity of a store"),
            other => return moving(other),
        })
    })
}

/// What came of another weight.
pub(super) fn weighed(store: StoreId, result: Result<Answer, Failure>) -> Result<Reply, ApiError> {
    map_changed(result, |rejection| {
        Some(match rejection {
            Rejection::NoSuchStore => format!("{store} fills no slot of the cluster map"),
            Rejection::LastOfZone => {
                format!("no other store of its zone takes data that {store} could give up")
            }
            other => return moving(other),
        })
    })
}

/// Why data is not moved.
fn moving(rejection: &Rejection) -> Option<String> {
    match rejection {
        Rejection::BadWeight => Some(format!(
            "a weight is at most {WEIGHT_MAX}; a store that is added has at least 1, and 0 drains one"
        )),
        Rejection::Unproven => Some(format!(
            "{UNPROVEN_MAX} changes of the map are under way: a further one can begin when not all \
             of their data is still moving"
        )),
        _ => None,
    }
}

fn map_changed(
    result: Result<Answer, Failure>,
    why: impl Fn(&Rejection) -> Option<String>,
) -> Result<Reply, ApiError> {
    match result {
        Ok(Answer::Applied(Outcome::Done)) => Ok(Reply::Done),
        Ok(Answer::Applied(Outcome::Rejected(rejection))) => {
            Err(why(&rejection).map_or_else(|| rejected(rejection), ApiError::InvalidArgument))
        }
        Ok(_) => Err(unexpected()),
        Err(failure) => Err(failed(failure)),
    }
}

/// There is no room for the body, and too many wait for it already.
pub(super) fn crowded() -> ApiError {
    ApiError::SlowDown("too many bodies are in hand; nothing was done".to_owned())
}

/// An answer of the right kind with contents that do not fit the question.
pub(super) fn unexpected() -> ApiError {
    ApiError::Internal("the range answered something else than was asked".to_owned())
}

fn failed(failure: Failure) -> ApiError {
    match failure {
        Failure::Full { by } => ApiError::StorageFull(format!(
            "{by}, which leads the range, has no room left for new data, and no store of another \
             zone with room can lead in its place; nothing was done. Objects can be deleted"
        )),
        Failure::Fenced => ApiError::Unavailable("the gateway's session was fenced".to_owned()),
    }
}

/// Why a command changed nothing.
pub(super) fn rejected(rejection: Rejection) -> ApiError {
    match rejection {
        Rejection::NoSuchBucket => ApiError::NoSuchBucket,
        Rejection::NoSuchKey => ApiError::NoSuchKey,
        Rejection::NoSuchUpload => ApiError::NoSuchUpload,
        Rejection::BucketAlreadyOwnedByYou => ApiError::BucketAlreadyOwnedByYou,
        Rejection::BucketAlreadyExists => ApiError::BucketAlreadyExists,
        Rejection::BucketNotEmpty => ApiError::BucketNotEmpty,
        Rejection::PreconditionFailed => ApiError::PreconditionFailed,
        Rejection::InvalidPart { number } => ApiError::InvalidPart { number },
        Rejection::InvalidPartOrder => ApiError::InvalidPartOrder,
        Rejection::EntityTooSmall { number, length } => ApiError::EntityTooSmall { number, length },
        Rejection::Fenced => ApiError::Unavailable("the gateway's session was fenced".to_owned()),
        Rejection::StaleEpoch => ApiError::SlowDown(
            "the cluster map changed while the body came in; nothing was done".to_owned(),
        ),
        Rejection::Answered => ApiError::Internal(
            "the range says that the command was answered before; its outcome is lost".to_owned(),
        ),
        Rejection::Malformed
        | Rejection::OtherVersion
        | Rejection::NoSuchStore
        | Rejection::StoreRetired
        | Rejection::StoreInUse
        | Rejection::NoSuchZone
        | Rejection::BadWeight
        | Rejection::LastOfZone
        | Rejection::TooManySlots
        | Rejection::Unproven => {
            ApiError::Internal("the range refused a field of the command".to_owned())
        }
    }
}
