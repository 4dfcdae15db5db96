//! Puts a new store in the place of a lost one.
//!
//! ```text
//! chosen ──▶ being made ──▶ to be placed ──▶ made
//!  id and     its file       the cluster's    it runs, and is given
//!  node       is made        map takes it     what it should have
//! ```
//!
//! Each state is durable in the node's `node.toml` before the next step, and each step can be done
//! twice. So the same command goes on where a crash came, and so does the node by itself when it is
//! started again. The cluster's map decides: until it has the new store, that store does not run, and
//! once it has it, the old one never comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use trine_core::ids::StoreId;

use super::directory::{self, AskError};
use super::nodes::ids_end;
use super::schema::{Ask, MapStatus, NodeReport, Replace, Replaced, Replacing, StoreLife};
use super::{ACT_MAX, Admin, Refused, Who};
use crate::config::{self, CAPACITY_MAX, CAPACITY_MIN, NodePlan, NodeSpec, is_own_file, resolved};
use crate::data::{KeptState, KeptStore, NodeDirectory};
use crate::hosting::{Absent, Place};
use crate::members::Nodes;
use crate::runtime::Runtime;
use crate::transport::{NodeId, STORES_MAX};

/// How long a replacement waits for nodes that do not answer.
const ANSWERS_MAX: Duration = Duration::from_secs(3);
/// How often it asks them.
const ANSWERS_PAUSE: Duration = Duration::from_millis(100);

/// Between two attempts to go on after a start, while no quorum answers. It doubles each time.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Ids of new stores are so far apart at each node, or further if there are more nodes.
pub(super) const NODE_NUMBERS_MIN: u64 = 1000;

impl<R: Runtime> Admin<R> {
    /// Find the node for it and the new store's id, and have it made there.
    pub(super) async fn replace(self: &Arc<Self>, ask: Replace) -> Result<Replaced, Refused> {
        let Who::Node { members, .. } = &self.who else {
            return Err(Refused::new(
                "stores of an all-in-one process are not replaced one by one: it is for trying out \
                 and for development. Run three `trine node` processes, which may share a machine",
            ));
        };
        let map = self.map().await.map_err(|error| {
            Refused::new(format!("nothing is replaced: the cluster's map cannot be read: {error}"))
        })?;
        let reports = self.reports().await?;
        if map.retired.contains(&ask.old)
            && let Some(done) = done_before(&ask, &reports)
        {
            return Ok(done);
        }
        let (plan, nodes) = (members.plan(), members.nodes());
        let found = find(&ask, &nodes, &map, &reports)?;
        if !ask.force {
            may_replace(ask.old, &map, &reports)?;
        }
        let node = found.name.clone();
        let new = match ask.new {
            Some(new) => Some(new),
            None => Some(next_id(&map, plan, &reports, found.id)),
        };
        let known = reports.iter().find_map(|(_, report)| report.capacities.get(&ask.old));
        let ask = Replace { new, node: Some(node), capacity: known.copied(), ..ask };
        if found.id == plan.me {
            return self.replace_here(&ask).await;
        }
        let (id, ask) = (found.id, Ask::ReplaceHere(ask));
        self.ask_peer(id, &ask, ACT_MAX).await
    }

    /// What each node that answers says of itself. Those that do not are asked again for a while: the link to
    /// one of them may be new, or this process, and what they say decides whether a store is given up.
    pub(super) async fn reports(self: &Arc<Self>) -> Result<Vec<(String, NodeReport)>, Refused> {
        let until = self.runtime.now() + ANSWERS_MAX;
        let mut answers = self.gather().await?;
        while answers.iter().any(|answer| answer.report.is_err()) && self.runtime.now() < until {
            self.runtime.sleep_until(self.runtime.now() + ANSWERS_PAUSE).await;
            answers = self.gather().await?;
        }
        let answered = answers
            .into_iter()
            .filter_map(|answer| answer.report.ok().map(|report| (answer.node.name, report)));
        Ok(answered.collect())
    }

    /// Make the new store here, and put it in the place of the old one; or go on with that. To be run
    /// as a task of its own: who asked may leave.
    pub(super) async fn replace_here(&self, ask: &Replace) -> Result<Replaced, Refused> {
        let Who::Node { members, data, .. } = &self.who else {
            return Err(Refused::new("this process has all zones"));
        };
        let old = StoreId(ask.old);
        let data = data.clone().lock_owned().await;
        let (data, begun) = self.with_files(data, move |data| begun(data, old)).await;
        let (data, new) = match begun {
            Begun::Stands(new) => (data, new),
            Begun::Lost(new) => {
                // It never had its place, so that nothing depends on it.
                tracing::warn!("{new} is gone before it had its place: given up");
                let (data, given_up) = self.with_files(data, move |data| data.give_up(new)).await;
                given_up.map_err(Refused::new)?;
                self.hosting.forget(new);
                self.begin(data, ask).await?
            }
            Begun::Not => {
                if self.serves(old).await {
                    return Err(Refused::new(format!(
                        "{old} serves, and is not replaced: its copies would be lost to the zone \
                         until others have given them to the new one. If that is wanted, stop its \
                         zone first (`trine admin zone stop {}`)",
                        members.plan().own().zone.letter()
                    )));
                }
                self.begin(data, ask).await?
            }
        };
        self.go_on(data, new, ask.capacity).await?;
        Ok(Replaced { old: old.0, new: new.0, node: members.plan().own().name.clone() })
    }

    /// Go on with what a crash interrupted, until it is done. One that cannot go on holds up no other.
    pub(crate) async fn resume_replacements(self: Arc<Self>) {
        let Who::Node { data, .. } = &self.who else { return };
        let mut pause = AGAIN;
        let mut said = BTreeMap::new();
        loop {
            let (_, waiting) = self.with_files(data.clone().lock_owned().await, waiting).await;
            let mut stuck = false;
            for new in waiting {
                let error = match self.go_on(data.clone().lock_owned().await, new, None).await {
                    Ok(()) => {
                        tracing::info!("{new} has its place in the cluster's map");
                        continue;
                    }
                    Err(error) => error.to_string(),
                };
                stuck = true;
                if said.get(&new) != Some(&error) {
                    tracing::warn!(
                        "{new} is to have a place in the cluster's map, and waits: {error}"
                    );
                    said.insert(new, error);
                }
            }
            if !stuck {
                return;
            }
            self.runtime.sleep_until(self.runtime.now() + pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    async fn serves(&self, id: StoreId) -> bool {
        let status = self.handle.status().await;
        let stores = status.map(|status| status.stores).unwrap_or_default();
        let lives = |life: &crate::driver::StoreLife| {
            use crate::driver::StoreLife::{Opening, Serving};
            matches!(life, Opening | Serving)
        };
        stores.iter().any(|store| store.id == id && lives(&store.life))
    }

    /// Choose the new store's id and file, durably.
    async fn begin(&self, data: Data, ask: &Replace) -> Result<(Data, StoreId), Refused> {
        let new = ask.new.filter(|new| *new != 0).map(StoreId);
        let new = new.ok_or_else(|| Refused::new("the new store needs an id from 1"))?;
        let path = self.new_path(&data, ask.path.as_ref())?;
        let old = StoreId(ask.old);
        let begin = move |data: &mut NodeDirectory| data.begin_replacement(old, new, path);
        let (data, begun) = self.with_files(data, begin).await;
        begun.map_err(Refused::new)?;
        Ok((data, new))
    }

    /// The file of a new store of this node, if the operator chose it.
    pub(super) fn new_path(
        &self,
        data: &Data,
        path: Option<&String>,
    ) -> Result<Option<PathBuf>, Refused> {
        if self.hosting.places().len() > STORES_MAX {
            return Err(Refused::new(format!(
                "this node has {STORES_MAX} stores already, which is the most: say another of its zone \
                 with --node"
            )));
        }
        let path = path.map(|path| resolved(None, Path::new(path)));
        match path {
            Some(path) if is_own_file(Some(data.path()), &resolved(Some(data.path()), &path)) => {
                Err(Refused::new(format!(
                    "--path is {}, which trine uses for something else: choose another",
                    path.display()
                )))
            }
            path => Ok(path),
        }
    }

    /// All that is left to do, from wherever it stands. `capacity`: what whoever asked knows of the old
    /// store.
    pub(super) async fn go_on(
        &self,
        data: Data,
        new: StoreId,
        capacity: Option<u64>,
    ) -> Result<(), Refused> {
        let Who::Node { members, geometry, .. } = &self.who else {
            return Err(Refused::new("this process has all zones"));
        };
        let plan = members.plan();
        let kept = data.store(new).cloned();
        let kept = kept.ok_or_else(|| Refused::new(format!("{new} is not of this node")))?;
        let (old, added) = (kept.replaces(), kept.added());
        if old.is_none() && added.is_none() {
            return Err(Refused::new(format!("the cluster began with {new}")));
        }
        let capacity = added.and_then(|added| added.capacity).or(capacity);
        if kept.state == KeptState::Made {
            let places = self.hosting.places();
            if places.get(&new).is_some_and(|place| place.absent == Some(Absent::Waits)) {
                // It has its place, and was not started then.
                self.hosting.set_absent(new, Some(Absent::Stopped));
                return self.hosting.start(&self.handle, new).await.map_err(Refused::new);
            }
            return Ok(());
        }
        let path = data.path_of(&kept);
        let of_list = plan.geometry_of(new, |id| data.store(id).and_then(KeptStore::replaces));
        let of_asker = capacity
            .filter(|bytes| (CAPACITY_MIN..=CAPACITY_MAX).contains(bytes))
            .map(config::geometry);
        let geometry = of_list.or(of_asker).unwrap_or(*geometry);
        let (zone, absent) = (plan.own().zone, Some(Absent::Waits));
        self.hosting.add(new, Place { zone, path: path.clone(), geometry, absent });
        let make_folder = move || match path.parent() {
            Some(folder) => crate::files::create_directory(folder, 0o700).map_err(|error| {
                Refused::new(format!("cannot make the directory {}: {error}", folder.display()))
            }),
            None => Ok(()),
        };
        self.runtime.blocking(make_folder).await?;
        let part = self.hosting.open(&self.handle, new).await.map_err(Refused::new)?;
        let (data, made) = self.with_files(data, move |data| data.made(new)).await;
        made.map_err(Refused::new)?;
        let asked = match (old, added) {
            (Some(old), _) => directory::replace(&self.front, old, new).await,
            (None, added) => {
                let weight = added.map_or(1, |added| added.weight);
                directory::add(&self.front, zone, new, weight).await
            }
        };
        let place = match old {
            Some(old) => format!("the place of {old}"),
            None => format!("a place in {zone}"),
        };
        match asked {
            Ok(()) => {}
            Err(AskError::Refused(error)) => {
                // Nobody has heard of it: its file, empty as it is, is left for the operator.
                let (_, given_up) = self.with_files(data, move |data| data.give_up(new)).await;
                given_up.map_err(Refused::new)?;
                self.hosting.forget(new);
                return Err(Refused::new(format!("{new} does not get {place}: {error}")));
            }
            Err(AskError::Unknown(error)) => {
                let again = match old {
                    Some(_) => "Give the same command again",
                    None => "Give the same command again, with --new",
                };
                return Err(Refused::new(format!(
                    "{new} is made at node {:?}, and may not have {place} yet: {error}. {again}; its \
                     node goes on by itself when it is started again",
                    plan.own().name
                )));
            }
        }
        let (data, placed) = self.with_files(data, move |data| data.placed(old, new)).await;
        placed.map_err(Refused::new)?;
        // From here on it is a store like any other, which `zone start` starts if this does not.
        self.hosting.set_absent(new, Some(Absent::Stopped));
        drop(data);
        // The new one first: a disk that hangs may never let the old one end.
        self.handle.start_store(part).await.map_err(Refused::new)?;
        self.hosting.set_absent(new, None);
        if let Some(old) = old.filter(|old| self.hosting.places().contains_key(old)) {
            // Nobody is to start it again, whatever comes of its stop.
            self.hosting.forget(old);
            self.hosting.stop(&self.handle, old).await.map_err(Refused::new)?;
        }
        Ok(())
    }
}

/// The data directory, for as long as a step takes.
pub(super) type Data = OwnedMutexGuard<NodeDirectory>;

/// Whether a store is being replaced here.
enum Begun {
    /// Not yet.
    Not,
    /// By this one, whose file stands or is to be made.
    Stands(StoreId),
    /// By this one, whose file was made and is gone, before the cluster's map had it.
    Lost(StoreId),
}

fn begun(data: &mut NodeDirectory, old: StoreId) -> Begun {
    let is_it =
        |store: &&KeptStore| store.replaces() == Some(old) && store.state != KeptState::Replaced;
    match data.stores().iter().find(is_it) {
        None => Begun::Not,
        Some(store) if store.state != KeptState::Made && data.is_lost(store) => {
            Begun::Lost(store.id())
        }
        Some(store) => Begun::Stands(store.id()),
    }
}

/// New stores that can go on by themselves to their places.
fn waiting(data: &mut NodeDirectory) -> Vec<StoreId> {
    let waits = |store: &&KeptStore| {
        let waits = matches!(store.state, KeptState::BeingMade | KeptState::ToBePlaced);
        waits && store.came_later() && !data.is_lost(store)
    };
    data.stores().iter().filter(waits).map(KeptStore::id).collect()
}

/// Replacements and additions of this node that are not done.
pub(super) fn under_way(data: &NodeDirectory) -> Vec<Replacing> {
    let replacing = data.stores().iter().filter_map(|store| {
        let step = match store.state {
            KeptState::BeingMade => "its file is to be made",
            KeptState::ToBePlaced if data.is_lost(store) && store.added().is_some() => {
                "its file is gone: put it back, or, if the map has it, replace it"
            }
            KeptState::ToBePlaced if data.is_lost(store) => {
                "its file is gone; give `trine admin store replace` again"
            }
            KeptState::ToBePlaced => "it waits for its place in the cluster's map",
            KeptState::Made | KeptState::Replaced => return None,
        };
        if !store.came_later() {
            return None;
        }
        let (old, new) = (store.replaces().map_or(0, |old| old.0), store.id().0);
        Some(Replacing { old, new, step: step.to_owned() })
    });
    replacing.collect()
}

/// Replacements that this node has done.
pub(super) fn done(data: &NodeDirectory) -> Vec<Replacing> {
    let made = data.stores().iter().filter(|store| store.state == KeptState::Made);
    let pair = |store: &KeptStore| {
        let (old, new) = (store.replaces()?.0, store.id().0);
        Some(Replacing { old, new, step: "done".to_owned() })
    };
    made.filter_map(pair).collect()
}

/// What is said while a replacement holds the data directory.
pub(super) fn busy() -> Replacing {
    Replacing { step: "a store is being made".to_owned(), ..Replacing::default() }
}

/// A replacement of this store that was done before.
fn done_before(ask: &Replace, reports: &[(String, NodeReport)]) -> Option<Replaced> {
    reports.iter().find_map(|(name, report)| {
        let done = report.replaced.iter().find(|done| done.old == ask.old)?;
        Some(Replaced { old: done.old, new: done.new, node: name.clone() })
    })
}

/// The node that shall have the new store.
fn find<'a>(
    ask: &Replace,
    nodes: &'a Nodes,
    map: &MapStatus,
    reports: &[(String, NodeReport)],
) -> Result<&'a NodeSpec, Refused> {
    let old = ask.old;
    let has = |report: &NodeReport| report.ids_used.contains(&old);
    let by_report = reports.iter().find(|(_, report)| has(report)).map(|(name, _)| name.as_str());
    let by_plan = |spec: &&NodeSpec| spec.stores.iter().any(|store| store.id.0 == old);
    let by_plan = nodes.values().find(by_plan).map(|spec| spec.name.as_str());
    let zone = map.zones.iter().find(|(_, stores)| stores.contains(&old)).map(|(zone, _)| zone);
    let home = by_report.or(by_plan);
    let begun = reports.iter().find(|(_, report)| report.replacing.iter().any(|r| r.old == old));
    if let Some((name, _)) = begun {
        // A command that was broken off: its node goes on with it.
        let ours = nodes.values().find(|spec| spec.name == *name);
        return ours.ok_or_else(|| Refused::new(format!("there is no node {name:?}")));
    }
    if map.retired.contains(&old) {
        return Err(Refused::new(format!(
            "store {old} was replaced already, and never comes back; `trine admin status` shows the \
             stores there are"
        )));
    }
    if zone.is_none() {
        let all: Vec<String> = map.zones.values().flatten().map(u64::to_string).collect();
        return Err(Refused::new(format!(
            "there is no store {old} in the cluster (there are: {})",
            all.join(", ")
        )));
    }
    if let Some(serving) = serving(old, reports)
        && ask.node.as_deref().is_some_and(|node| node != serving)
    {
        return Err(Refused::new(format!(
            "store {old} serves at node {serving:?}, and is not replaced: stop its zone first if \
             that is wanted"
        )));
    }
    let Some(name) = ask.node.as_deref().or(home) else {
        return Err(Refused::new(format!(
            "no node that answers has had store {old}: say which shall have the new one with --node"
        )));
    };
    let Some(spec) = nodes.values().find(|spec| spec.name == name) else {
        let all: Vec<&str> = nodes.values().map(|spec| spec.name.as_str()).collect();
        return Err(Refused::new(format!(
            "there is no node {name:?} (there are: {})",
            all.join(", ")
        )));
    };
    let letter = spec.zone.letter().to_string();
    if zone.is_some_and(|zone| *zone != letter) {
        return Err(Refused::new(format!(
            "store {old} is of zone {}, and node {name:?} of zone {letter}: the new store must be \
             in the same zone",
            zone.map(String::as_str).unwrap_or_default()
        )));
    }
    Ok(spec)
}

/// Whether the other zones have what they should, as far as can be told: what they lack may be on the lost
/// store's disk alone, and from here on nobody takes it from there. It rests on what their stores report
/// of themselves: that they serve, that they know of no missing or damaged copy, that they trust
/// their logs; and of those that came in place of others, also that they have compared what they have
/// with all other zones. (Of the rest that is not asked: none of them can compare with a store that is
/// lost, once it was restarted.) A replacement of the same store that was begun before goes on.
fn may_replace(old: u64, map: &MapStatus, reports: &[(String, NodeReport)]) -> Result<(), Refused> {
    // One that is added takes nobody's place.
    let replacing = || {
        let all = reports.iter().flat_map(|(_, report)| &report.replacing);
        all.filter(|replacing| replacing.old > 0 || replacing.new == 0)
    };
    if replacing().any(|replacing| replacing.old == old) {
        return Ok(());
    }
    let zone_of = |id: u64| {
        let zone = map.zones.iter().find(|(_, stores)| stores.contains(&id));
        zone.map(|(zone, _)| zone.as_str())
    };
    let zone = zone_of(old);
    let refused = |why: String| {
        Err(Refused::new(format!(
            "store {old} is not replaced yet: {why}. What they lack may be on the disk of store {old} \
             alone, and its replacement gives that up. Wait until `trine admin status` shows those \
             zones whole, or bring store {old} back; or insist with --force, if its disk is beyond help"
        )))
    };
    if let Some(other) = replacing().find(|other| zone_of(other.old) != zone) {
        return refused(format!(
            "store {} is taking the place of store {} in another zone",
            other.new, other.old
        ));
    }
    let came_later = |id: u64| {
        let mut replaced = reports.iter().flat_map(|(_, report)| &report.replaced);
        replaced.any(|replaced| replaced.new == id)
    };
    let others = map.zones.iter().filter(|(letter, _)| Some(letter.as_str()) != zone);
    for (letter, id) in others.flat_map(|(letter, ids)| ids.iter().map(move |id| (letter, *id))) {
        let mut stores = reports.iter().flat_map(|(_, report)| &report.stores);
        let Some(store) = stores.find(|s| s.id == id && s.life == StoreLife::Serving) else {
            let what = "does not serve, or its node does not answer";
            return refused(format!("store {id} of zone {letter} {what}"));
        };
        if store.replicas.iter().any(|replica| replica.suspect) {
            return refused(format!("store {id} of zone {letter} distrusts its log"));
        }
        let lacks = store.repair.map(|repair| repair.missing + repair.damaged);
        if lacks != Some(0) {
            let lacks = lacks.map_or("does not say what it lacks".to_owned(), |count| {
                format!("lacks {count} copies, or has damaged ones")
            });
            return refused(format!("store {id} of zone {letter} {lacks}"));
        }
        if came_later(id) && !store.repair.is_some_and(|repair| repair.complete) {
            return refused(format!(
                "store {id} of zone {letter} took another's place, and has not yet compared all its \
                 copies with the other zones"
            ));
        }
    }
    Ok(())
}

/// The node at which a store serves.
fn serving(store: u64, reports: &[(String, NodeReport)]) -> Option<&str> {
    let serves = |report: &NodeReport| {
        report.stores.iter().any(|s| s.id == store && s.life == StoreLife::Serving)
    };
    reports.iter().find(|(_, report)| serves(report)).map(|(name, _)| name.as_str())
}

/// An id that no store has had. Each node draws from numbers of its own, all those that end in its id: a
/// node that does not answer may have chosen one that nobody else knows of.
pub(super) fn next_id(
    map: &MapStatus,
    plan: &NodePlan,
    reports: &[(String, NodeReport)],
    node: NodeId,
) -> u64 {
    let mapped = map.zones.values().flatten().chain(&map.voters).chain(&map.retired).copied();
    let planned = plan.nodes.values().flat_map(|node| &node.stores).map(|store| store.id.0);
    let used = reports.iter().flat_map(|(_, report)| report.ids_used.iter().copied());
    let highest = mapped.chain(planned).chain(used).max().unwrap_or(0);
    let step = ids_end(plan);
    let base = highest / step * step + u64::from(node.0);
    if base > highest { base } else { base + step }
}

#[cfg(test)]
mod tests;
