//! Conditions of reads: RFC 9110, section 13.2.2, in its order.

use crate::object::ObjectRecord;
use crate::request::{ApiError, ReadConditions};
use crate::time::WallTime;

/// Whether a read of `record` goes on.
///
/// # Errors
/// [`ApiError::PreconditionFailed`] or [`ApiError::NotModified`].
pub(super) fn evaluate(conditions: &ReadConditions, record: &ObjectRecord) -> Result<(), ApiError> {
    let modified = whole_seconds(record.modified);
    if let Some(tags) = &conditions.if_match {
        if !tags.matches(&record.etag) {
            return Err(ApiError::PreconditionFailed);
        }
    } else if conditions.if_unmodified_since.is_some_and(|time| modified > whole_seconds(time)) {
        return Err(ApiError::PreconditionFailed);
    }
    let is_unchanged = match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) => tags.matches(&record.etag),
        (None, Some(time)) => modified <= whole_seconds(time),
        (None, None) => false,
    };
    if is_unchanged {
        return Err(ApiError::NotModified { etag: record.etag, modified: record.modified });
    }
    Ok(())
}

/// HTTP dates have no fractions.
fn whole_seconds(time: WallTime) -> u64 {
    time.as_millis() / 1000
}
