//! Stops and starts all stores of a zone. Processes, gateways and admin sockets go on.

use std::sync::Arc;

use trine_core::ids::{StoreId, ZoneId};

use super::schema::{Ask, ClusterStatus, Done};
use super::{ACT_MAX, Admin, Refused, Who, about_to_end};
use crate::config;
use crate::runtime::Runtime;
use crate::transport::NodeId;

impl<R: Runtime> Admin<R> {
    /// Stop a zone, unless that would take the quorum.
    pub(super) async fn zone_stop(
        self: &Arc<Self>,
        zone: &str,
        force: bool,
    ) -> Result<Done, Refused> {
        let zone = parse_zone(zone)?;
        if !force {
            may_stop(&self.status().await?, zone)?;
        }
        self.zone_set(zone, false).await?;
        let text = format!("zone {} is stopped", zone.letter());
        tracing::warn!("{text}, as `trine admin` asked");
        Ok(Done { text })
    }

    /// Start a zone.
    pub(super) async fn zone_start(self: &Arc<Self>, zone: &str) -> Result<Done, Refused> {
        let zone = parse_zone(zone)?;
        self.zone_set(zone, true).await?;
        let text = format!("zone {} is started, and is given what it missed", zone.letter());
        Ok(Done { text })
    }

    /// Stop or start the stores of a zone at all its nodes.
    async fn zone_set(self: &Arc<Self>, zone: ZoneId, start: bool) -> Result<(), Refused> {
        let Who::Node { members, .. } = &self.who else {
            return self.set_stores(zone, start).await;
        };
        let (plan, all) = (members.plan(), members.nodes());
        let nodes: Vec<NodeId> =
            all.values().filter(|node| node.zone == zone).map(|node| node.id).collect();
        let mut failures = Vec::new();
        let name = |id: NodeId| all.get(&id).map_or("", |node| node.name.as_str());
        if nodes.contains(&plan.me)
            && let Err(error) = self.set_stores(zone, start).await
        {
            failures.push(format!("node {}: {error}", name(plan.me)));
        }
        let others: Vec<NodeId> = nodes.into_iter().filter(|id| *id != plan.me).collect();
        let answers = self.ask_all::<Done>(&others, &Ask::Stores { start }, ACT_MAX).await;
        for (id, answer) in answers {
            if let Err(error) = answer {
                failures.push(format!("node {}: {error}", name(id)));
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        let what = if start { "start" } else { "stop" };
        Err(Refused::new(format!(
            "not all of zone {} could be told to {what}; the same command may be given again: {}",
            zone.letter(),
            failures.join("; ")
        )))
    }

    /// Stop or start all stores here, as another node asks.
    pub(super) async fn own_stores(&self, start: bool) -> Result<Done, Refused> {
        let Who::Node { members, .. } = &self.who else {
            return Err(Refused::new("this process has all zones"));
        };
        self.set_stores(members.plan().own().zone, start).await?;
        Ok(Done { text: "done".to_owned() })
    }

    async fn set_stores(&self, zone: ZoneId, start: bool) -> Result<(), Refused> {
        let places = self.hosting.places();
        let here = places.iter().filter(|(_, place)| place.zone == zone);
        let ids: Vec<StoreId> = here.map(|(id, _)| *id).collect();
        let mut failures = Vec::new();
        for id in ids {
            let result = if start {
                self.hosting.start(&self.handle, id).await
            } else {
                self.hosting.stop(&self.handle, id).await
            };
            if let Err(error) = result {
                failures.push(error.to_string());
            }
        }
        if self.handle.status().await.is_none() {
            return Err(about_to_end());
        }
        if failures.is_empty() { Ok(()) } else { Err(Refused::new(failures.join("; "))) }
    }
}

/// `a`, `b` or `c`.
pub(super) fn parse_zone(text: &str) -> Result<ZoneId, Refused> {
    config::parse_zone(text)
        .ok_or_else(|| Refused::new(format!("there is no zone {text:?}: there are a, b and c")))
}

/// Whether the other two zones can carry the cluster.
fn may_stop(status: &ClusterStatus, zone: ZoneId) -> Result<(), Refused> {
    let letter = zone.letter().to_string();
    let mut others = status.zones.iter().filter(|other| other.zone != letter);
    if let Some(other) = others.find(|other| !other.serving) {
        return Err(Refused::new(format!(
            "zone {letter} is not stopped: of zone {}, only {} of {} stores serve. Two whole zones \
             are needed; without them NOTHING can be read or written. Bring zone {} back first \
             (`trine admin status` says what it lacks), or insist with --force",
            other.zone, other.stores_serving, other.stores, other.zone
        )));
    }
    let voters = status.ranges.iter().flat_map(|range| &range.replicas);
    for replica in voters.filter(|replica| replica.suspect) {
        let store = status.stores.iter().find(|store| store.id == replica.store);
        if store.is_some_and(|store| store.zone != letter) {
            return Err(Refused::new(format!(
                "zone {letter} is not stopped: store-{} distrusts its log, and cannot carry the \
                 cluster with one other zone until all have vouched for it. Try again in a moment, \
                 or insist with --force",
                replica.store
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::schema::{ReplicaStatus, StoreStatus, ZoneStatus};
    use super::*;

    fn status(serving: [bool; 3]) -> ClusterStatus {
        let zone = |(letter, serving): (&str, bool)| ZoneStatus {
            zone: letter.to_owned(),
            serving,
            stores_serving: u64::from(serving),
            stores: 1,
        };
        let zones = ["a", "b", "c"].into_iter().zip(serving).map(zone).collect();
        ClusterStatus { zones, ..ClusterStatus::default() }
    }

    #[test]
    fn one_zone_may_be_stopped_and_a_second_may_not() {
        assert!(may_stop(&status([true; 3]), ZoneId(1)).is_ok());
        assert!(may_stop(&status([true, false, true]), ZoneId(1)).is_ok(), "it is that zone");
        let error = may_stop(&status([false, true, true]), ZoneId(1)).unwrap_err().to_string();
        assert!(error.contains("of zone a, only 0 of 1"), "{error}");
        assert!(error.contains("--force"), "{error}");
    }

    #[test]
    fn a_replica_that_distrusts_its_log_carries_nothing() {
        let mut status = status([true; 3]);
        status.stores = vec![StoreStatus { id: 3, zone: "c".to_owned(), ..StoreStatus::default() }];
        let replica = ReplicaStatus { store: 3, suspect: true, ..ReplicaStatus::default() };
        status.ranges = vec![super::super::schema::RangeStatus {
            replicas: vec![replica],
            ..Default::default()
        }];
        assert!(may_stop(&status, ZoneId(0)).is_err());
        assert!(may_stop(&status, ZoneId(2)).is_ok(), "it is the one that is stopped");
    }

    #[test]
    fn unknown_zones_are_named() {
        for text in ["", "d", "A", "zone-a"] {
            let error = parse_zone(text).unwrap_err().to_string();
            assert!(error.contains("there are a, b and c"), "{error}");
        }
    }
}
