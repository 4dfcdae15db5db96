//! From a range's answers to what a client is told.

use super::calls::Failure;
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
        Ok(Answer::Applied(Outcome::Upload(order))) => Ok(Reply::Upload(order)),
        Ok(Answer::Applied(Outcome::Rejected(Rejection::NoSuchBucket))) => Err(None),
        Ok(Answer::Applied(Outcome::Rejected(rejection))) => Err(Some(rejected(rejection))),
        Ok(_) => Err(Some(unexpected())),
        Err(failure) => Err(Some(failed(failure))),
    }
}

/// An answer of the right kind with contents that do not fit the question.
pub(super) fn unexpected() -> ApiError {
    ApiError::Internal("the range answered something else than was asked".to_owned())
}

fn failed(failure: Failure) -> ApiError {
    match failure {
        Failure::Full => ApiError::StorageFull("the metadata stores take no new data".to_owned()),
        Failure::Fenced => ApiError::Unavailable("the gateway's session was fenced".to_owned()),
    }
}

fn rejected(rejection: Rejection) -> ApiError {
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
        Rejection::Malformed => {
            ApiError::Internal("the range refused a field of the command".to_owned())
        }
    }
}
