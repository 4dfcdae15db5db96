//! Adds a store to a zone, at a node that runs; and gives stores other shares of their zones' data.
//!
//! The new store passes the same states as one that takes another's place (see [`super::replace`]).

use std::sync::Arc;

use trine_core::cluster::WEIGHT_MAX;
use trine_core::ids::StoreId;

use super::directory::{self, AskError};
use super::replace::next_id;
use super::schema::{self, Add, Ask, Done};
use super::{ACT_MAX, Admin, Refused, Who, nodes};
use crate::config::{CAPACITY_MAX, CAPACITY_MIN};
use crate::data::{Added, KeptState, KeptStore, NodeDirectory};
use crate::runtime::Runtime;

impl<R: Runtime> Admin<R> {
    /// Find the new store's id, and have it made at its node.
    pub(super) async fn add(self: &Arc<Self>, ask: Add) -> Result<schema::Added, Refused> {
        let Who::Node { members, .. } = &self.who else {
            return Err(Refused::new(
                "an all-in-one process has one store in each zone: it is for trying out and for \
                 development. Run three `trine node` processes, which may share a machine",
            ));
        };
        may_be(&ask)?;
        let plan = members.plan();
        let spec = members.named(&ask.node).ok_or_else(|| nodes::unknown(&ask.node, members))?;
        let new = match ask.new {
            Some(new) => new,
            None => {
                let map = self.map().await.map_err(|error| {
                    Refused::new(format!(
                        "nothing is added: the cluster's map cannot be read: {error}"
                    ))
                })?;
                next_id(&map, plan, &self.reports().await?, spec.id)
            }
        };
        let ask = Add { new: Some(new), ..ask };
        if spec.id == plan.me {
            return self.add_here(&ask).await;
        }
        self.ask_peer(spec.id, &Ask::AddHere(ask), ACT_MAX).await
    }

    /// Make the new store here, and have it put into the map; or go on with that.
    pub(super) async fn add_here(&self, ask: &Add) -> Result<schema::Added, Refused> {
        let Who::Node { members, data, .. } = &self.who else {
            return Err(Refused::new("this process has all zones"));
        };
        may_be(ask)?;
        let new = ask.new.filter(|new| *new != 0).map(StoreId);
        let new = new.ok_or_else(|| Refused::new("the new store needs an id from 1"))?;
        let mut data = data.clone().lock_owned().await;
        let added = Added { weight: ask.weight, capacity: ask.capacity };
        let is_it =
            |store: &KeptStore| store.added() == Some(added) && store.state != KeptState::Replaced;
        // Asked again, it goes on from wherever it stands.
        if !data.store(new).is_some_and(is_it) {
            let path = self.new_path(&data, ask.path.as_ref())?;
            let begin = move |data: &mut NodeDirectory| data.begin_addition(new, path, added);
            let (kept, begun) = self.with_files(data, begin).await;
            begun.map_err(Refused::new)?;
            data = kept;
        }
        if data.store(new).is_some_and(|store| data.is_lost(store)) {
            return Err(Refused::new(format!(
                "the file of {new} was made and is gone: put it back, or add a store with another id"
            )));
        }
        self.go_on(data, new, None).await?;
        Ok(schema::Added { new: new.0, node: members.plan().own().name.clone() })
    }

    /// Give a store another share of its zone's data.
    pub(super) async fn weigh(&self, store: u64, weight: u32) -> Result<Done, Refused> {
        match directory::weigh(&self.front, StoreId(store), weight).await {
            Ok(()) if weight == 0 => Ok(Done {
                text: format!(
                    "store {store} takes nothing from now on; what it has moves to others"
                ),
            }),
            Ok(()) => Ok(Done { text: format!("store {store} has weight {weight} from now on") }),
            Err(AskError::Refused(error)) => {
                Err(Refused::new(format!("the weight of store {store} stays as it is: {error}")))
            }
            Err(AskError::Unknown(error)) => Err(Refused::new(format!(
                "the weight of store {store} may be changed or not: {error}. Give the same command \
                 again"
            ))),
        }
    }
}

/// Whether what is asked makes sense by itself.
fn may_be(ask: &Add) -> Result<(), Refused> {
    if ask.weight == 0 || ask.weight > WEIGHT_MAX {
        return Err(Refused::new(format!(
            "a store that is added has a weight from 1 to {WEIGHT_MAX}, not {}",
            ask.weight
        )));
    }
    match ask.capacity {
        Some(bytes) if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&bytes) => Err(Refused::new(
            format!("a store takes {CAPACITY_MIN} to {CAPACITY_MAX} bytes, not {bytes}"),
        )),
        _ => Ok(()),
    }
}
