//! The cluster's map, and changes to it, by way of the gateway.

use std::collections::BTreeMap;

use trine_core::cluster::ClusterMap;
use trine_core::ids::StoreId;
use trine_core::request::{ApiError, Reply, Request};
use trine_s3::front::{Front, FrontReply};

use super::schema::MapStatus;

/// Why a request of an operator was not answered as it should be.
#[derive(Debug)]
pub(super) enum AskError {
    /// It was refused for what it says; asked again, it would be again.
    Refused(String),
    /// It may have been carried out or not.
    Unknown(String),
}

/// Ask the gateway. It gives a request up by itself after a time.
///
/// # Errors
/// [`AskError`].
pub(super) async fn ask(front: &Front, request: Request) -> Result<Reply, AskError> {
    let ends = || AskError::Unknown("this process is about to end".to_owned());
    let mut exchange = front.open(request).map_err(|_| ends())?;
    loop {
        match exchange.next().await {
            Some(FrontReply::Reply(reply)) => {
                exchange.ended();
                return reply.map_err(|error| match error {
                    ApiError::InvalidArgument(text) => AskError::Refused(text),
                    error => AskError::Unknown(error.to_string()),
                });
            }
            Some(FrontReply::BodyFailed(text) | FrontReply::Disconnect(text)) => {
                exchange.ended();
                return Err(AskError::Unknown(text));
            }
            // Of bodies and copies; operators ask for neither.
            Some(
                FrontReply::NeedBody(_)
                | FrontReply::Body(_)
                | FrontReply::BodyEnd
                | FrontReply::Copying(_),
            ) => {}
            None => return Err(ends()),
        }
    }
}

/// The newest map.
///
/// # Errors
/// Why nobody can tell.
pub(super) async fn read(front: &Front) -> Result<MapStatus, String> {
    match ask(front, Request::Directory).await {
        Ok(Reply::Directory(directory)) => Ok(of_map(&directory.map)),
        Ok(other) => Err(format!("the gateway answered something else: {other:?}")),
        Err(AskError::Refused(text) | AskError::Unknown(text)) => Err(text),
    }
}

/// Give the place of `old` to `new`, or find that it has it.
///
/// # Errors
/// [`AskError`].
pub(super) async fn replace(front: &Front, old: StoreId, new: StoreId) -> Result<(), AskError> {
    match ask(front, Request::ReplaceStore { old, new }).await? {
        Reply::Done => Ok(()),
        other => Err(AskError::Unknown(format!("the gateway answered something else: {other:?}"))),
    }
}

/// A map, for JSON.
pub(super) fn of_map(map: &ClusterMap) -> MapStatus {
    let zone = |zone: &trine_core::cluster::ZoneMap| {
        let stores = zone.slots.iter().map(|slot| slot.store.0).collect();
        (zone.zone.letter().to_string(), stores)
    };
    MapStatus {
        epoch: map.epoch.0,
        zones: map.zones.iter().map(zone).collect::<BTreeMap<_, _>>(),
        voters: map.voters.iter().map(|store| store.0).collect(),
        retired: map.retired.iter().map(|store| store.0).collect(),
    }
}
