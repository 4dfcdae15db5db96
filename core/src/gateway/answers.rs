//! From a range's answers to what a client is told.

use super::calls::Failure;
use crate::cluster::{NODE_TEXT_MAX, NODES_MAX, Node, SLOTS_MAX, UNPROVEN_MAX, WEIGHT_MAX};
use crate::directory::Directory;
use crate::ids::{StoreId, ZoneId};
use crate::level::{Level, Levels};
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

/// What came of what is said of a node.
pub(super) fn node_set(node: &Node, result: Result<Answer, Failure>) -> Result<Reply, ApiError> {
    let Node { id, zone, name, .. } = node;
    map_changed(result, |rejection| {
        Some(match rejection {
            Rejection::NoSuchZone => format!("the cluster map has no {zone}"),
            Rejection::NodeInUse => format!(
                "another node is called {name:?}, or the id {id} is that of a node that has left or \
                 stands in another zone; an id is used once"
            ),
            Rejection::TooManyNodes => {
                format!("the map names {NODES_MAX} nodes, and remembers those that have left")
            }
            Rejection::Malformed => format!(
                "a node has an id from 1, a name, and addresses of {NODE_TEXT_MAX} bytes at most"
            ),
            _ => return None,
        })
    })
}

/// The directory.
pub(super) fn directory(result: Result<Answer, Failure>) -> Result<Box<Directory>, ApiError> {
    match read(result)? {
        ReadReply::Directory(Some(directory)) => Ok(directory),
        ReadReply::Directory(None) => Err(ApiError::Unavailable(
            "the cluster has no map yet: its first leader is about to write it".to_owned(),
        )),
        _ => Err(unexpected()),
    }
}

/// What is asked for takes a higher level than the cluster's.
pub(super) fn below(at: Level, needs: Level, what: &str) -> ApiError {
    ApiError::InvalidArgument(format!(
        "the cluster is at {at}, and {what} take {needs}: let all nodes run a version that speaks it, \
         then raise the cluster's level"
    ))
}

/// Who is asked to raise the level does not speak it.
pub(super) fn unspoken(to: Level, speaks: Levels) -> ApiError {
    ApiError::InvalidArgument(format!(
        "this gateway speaks {speaks}, and not {to}: ask one that runs a newer version"
    ))
}

/// What came of raising the level.
pub(super) fn raised(to: Level, result: Result<Answer, Failure>) -> Result<Reply, ApiError> {
    map_changed(result, |rejection| {
        Some(match rejection {
            Rejection::LevelGoesDown { level } => {
                format!("the cluster is at {level}, and never goes down to {to}")
            }
            Rejection::LevelNotSpoken { store } => format!(
                "{store} has not told the leader that it speaks {to}: let it run a newer version, or wait \
                 until it is reached"
            ),
            Rejection::LevelNotSpokenBy { gateway } => format!(
                "{gateway} has a session and does not speak {to}: let it run a newer version; if it is gone, \
                 its session ends soon"
            ),
            _ => return None,
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
        | Rejection::NodeInUse
        | Rejection::TooManyNodes
        | Rejection::Unproven
        | Rejection::LevelGoesDown { .. }
        | Rejection::LevelNotSpoken { .. }
        | Rejection::LevelNotSpokenBy { .. }
        | Rejection::LevelForeign { .. } => {
            ApiError::Internal("the range refused a field of the command".to_owned())
        }
    }
}
