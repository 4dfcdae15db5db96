//! The cluster's map, and changes to it, by way of the gateway.

use std::collections::BTreeMap;

use trine_core::cluster::{ClusterMap, Layout, Node, ZoneMap};
use trine_core::ids::{StoreId, ZoneId};
use trine_core::level::Level;
use trine_core::request::{ApiError, Reply, Request};
use trine_s3::front::{Front, FrontReply};

use super::schema::{FormerLayout, MapStatus};

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
    Ok(of_map(&newest(front).await?))
}

/// The nodes that came, moved or left, by the newest map.
///
/// # Errors
/// Why nobody can tell.
pub(super) async fn nodes(front: &Front) -> Result<Vec<Node>, String> {
    Ok(newest(front).await?.nodes)
}

async fn newest(front: &Front) -> Result<ClusterMap, String> {
    match ask(front, Request::Directory).await {
        Ok(Reply::Directory(directory)) => Ok(directory.map),
        Ok(other) => Err(format!("the gateway answered something else: {other:?}")),
        Err(AskError::Refused(text) | AskError::Unknown(text)) => Err(text),
    }
}

/// Say what a node is from now on, or find that this is known.
///
/// # Errors
/// [`AskError`].
pub(super) async fn set_node(front: &Front, node: Node) -> Result<(), AskError> {
    done(ask(front, Request::SetNode { node }).await?)
}

/// Raise the cluster's level, or find that it is raised.
///
/// # Errors
/// [`AskError`].
pub(super) async fn raise(front: &Front, to: Level) -> Result<(), AskError> {
    done(ask(front, Request::RaiseLevel { to }).await?)
}

/// Give the place of `old` to `new`, or find that it has it.
///
/// # Errors
/// [`AskError`].
pub(super) async fn replace(front: &Front, old: StoreId, new: StoreId) -> Result<(), AskError> {
    done(ask(front, Request::ReplaceStore { old, new }).await?)
}

/// Give a store a place of its own, or find that it has it.
///
/// # Errors
/// [`AskError`].
pub(super) async fn add(
    front: &Front,
    zone: ZoneId,
    store: StoreId,
    weight: u32,
) -> Result<(), AskError> {
    done(ask(front, Request::AddStore { zone, store, weight }).await?)
}

/// Give a store this share, or find that it has it.
///
/// # Errors
/// [`AskError`].
pub(super) async fn weigh(front: &Front, store: StoreId, weight: u32) -> Result<(), AskError> {
    done(ask(front, Request::SetWeight { store, weight }).await?)
}

fn done(reply: Reply) -> Result<(), AskError> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(AskError::Unknown(format!("the gateway answered something else: {other:?}"))),
    }
}

/// A map, for JSON.
pub(super) fn of_map(map: &ClusterMap) -> MapStatus {
    let zone = |zone: &ZoneMap| {
        let stores = zone.slots.iter().map(|slot| slot.store.0).collect();
        (zone.zone.letter().to_string(), stores)
    };
    MapStatus {
        epoch: map.epoch.0,
        level: Some(map.level.0),
        zones: map.zones.iter().map(zone).collect::<BTreeMap<_, _>>(),
        voters: map.voters.iter().map(|store| store.0).collect(),
        retired: map.retired.iter().map(|store| store.0).collect(),
        weights: map.zones.iter().flat_map(weights).collect(),
        former: map.unproven.iter().map(former).collect(),
    }
}

fn weights(zone: &ZoneMap) -> impl Iterator<Item = (u64, u32)> {
    zone.slots.iter().map(|slot| (slot.store.0, slot.weight))
}

fn former(layout: &Layout) -> FormerLayout {
    let Layout { epoch, zone } = layout;
    FormerLayout {
        epoch: epoch.0,
        zone: zone.zone.letter().to_string(),
        weights: weights(zone).collect(),
    }
}
