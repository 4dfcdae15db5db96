//! What every store and gateway knows of the root range: the cluster map and which sessions live.

use crate::cluster::{
    ClusterMap, Layout, NODE_TEXT_MAX, NODES_MAX, Node, Slot, UNPROVEN_MAX, ZoneMap,
};
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::ids::{LogIndex, SessionId, StoreId, ZoneId};
use crate::level::{self, Level};

/// Zones of a map. There are three; a codec's limit leaves room.
const ZONES_MAX: usize = 16;
/// Slots of a zone, and stores that were ever replaced.
const STORES_MAX: usize = 65_536;
/// Live sessions.
const SESSIONS_MAX: usize = 65_536;
/// The form of a map in log entries, rows and messages follows its level: this one says it...
const MAP_VERSION: u8 = 5;
/// ...this one is of the level that brought nodes...
const MAP_VERSION_NODES: u8 = 4;
/// ...and this one, or an older one, of the first.
const MAP_VERSION_FIRST: u8 = 3;
/// The form of a directory in messages.
const DIRECTORY_VERSION: u8 = 1;

/// The root range's word on who is in the cluster. Any voter's applied state is good enough: versions
/// are totally ordered, and a holder keeps the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The last entry that changed it.
    pub version: LogIndex,
    /// The cluster map.
    pub map: ClusterMap,
    /// Which sessions live.
    pub sessions: SessionsView,
}

/// The session table without its outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsView {
    /// Ids below it are fenced, all of them.
    pub floor: SessionId,
    /// Ids from here on are not given out as of this table: whoever meets one needs a newer table.
    pub next: SessionId,
    /// Those that live, ascending.
    pub live: Vec<SessionId>,
}

/// What a holder of a [`SessionsView`] makes of a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It lives.
    Live,
    /// It is over, for ever.
    Fenced,
    /// The table is older than the session: a newer one is to be fetched.
    Unknown,
}

impl SessionsView {
    /// How many sessions are over.
    pub fn ended(&self) -> u64 {
        // The first id is 1.
        self.next.0.saturating_sub(1).saturating_sub(self.live.len() as u64)
    }

    /// What this table says of `session`.
    pub fn standing(&self, session: SessionId) -> Standing {
        if session >= self.next {
            Standing::Unknown
        } else if session >= self.floor && self.live.binary_search(&session).is_ok() {
            Standing::Live
        } else {
            Standing::Fenced
        }
    }
}

impl Wire for Directory {
    fn encode(&self, out: &mut Encoder) {
        out.u8(DIRECTORY_VERSION);
        self.version.encode(out);
        self.map.encode(out);
        self.sessions.floor.encode(out);
        self.sessions.next.encode(out);
        out.list(&self.sessions.live);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.version("directory", DIRECTORY_VERSION)?;
        let (version, map) = (Wire::decode(input)?, Wire::decode(input)?);
        let (floor, next) = (Wire::decode(input)?, Wire::decode(input)?);
        let live: Vec<SessionId> = input.list("live sessions", SESSIONS_MAX)?;
        if !live.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Invalid { what: "order of live sessions" });
        }
        Ok(Self { version, map, sessions: SessionsView { floor, next, live } })
    }
}

impl Wire for ClusterMap {
    fn encode(&self, out: &mut Encoder) {
        match self.level {
            level::FIRST => out.u8(MAP_VERSION_FIRST),
            level::NODES => out.u8(MAP_VERSION_NODES),
            later => {
                out.u8(MAP_VERSION);
                later.encode(out);
            }
        }
        self.epoch.encode(out);
        out.u32(self.groups);
        out.list(&self.zones);
        out.list(&self.voters);
        out.list(&self.retired);
        out.list(&self.retired_zones);
        out.list(&self.unproven);
        if self.level >= level::NODES {
            out.list(&self.nodes);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let version = input.version("cluster map", MAP_VERSION)?;
        let level = match version {
            ..=MAP_VERSION_FIRST => level::FIRST,
            MAP_VERSION_NODES => level::NODES,
            _ => Level::decode(input)?,
        };
        if version > MAP_VERSION_NODES && level <= level::NODES {
            return Err(DecodeError::Invalid { what: "level of a cluster map" });
        }
        let (epoch, groups) = (Wire::decode(input)?, input.u32()?);
        if !groups.is_power_of_two() {
            return Err(DecodeError::Invalid { what: "number of placement groups" });
        }
        let zones: Vec<ZoneMap> = input.list("zones", ZONES_MAX)?;
        if !zones.is_sorted_by(|a, b| a.zone < b.zone) {
            return Err(DecodeError::Invalid { what: "order of zones" });
        }
        let voters: Vec<StoreId> = input.list("voters", ZONES_MAX)?;
        let retired: Vec<StoreId> = input.list("retired stores", STORES_MAX)?;
        let retired_zones: Vec<ZoneId> = match version {
            1 => Vec::new(),
            _ => input.list("zones of retired stores", STORES_MAX)?,
        };
        if retired_zones.len() > retired.len() {
            return Err(DecodeError::Invalid { what: "zones of retired stores" });
        }
        let unproven: Vec<Layout> = match version {
            1 | 2 => Vec::new(),
            _ => input.list("former layouts", UNPROVEN_MAX)?,
        };
        let ordered = unproven.is_sorted_by(|a, b| a.epoch < b.epoch);
        if !ordered || unproven.last().is_some_and(|last| last.epoch >= epoch) {
            return Err(DecodeError::Invalid { what: "epochs of former layouts" });
        }
        let nodes: Vec<Node> = match version {
            ..=MAP_VERSION_FIRST => Vec::new(),
            _ => input.list("nodes", NODES_MAX)?,
        };
        if !nodes.is_sorted_by(|a, b| a.id < b.id) {
            return Err(DecodeError::Invalid { what: "order of nodes" });
        }
        Ok(Self { level, epoch, groups, zones, voters, retired, retired_zones, unproven, nodes })
    }
}

impl Wire for ZoneMap {
    fn encode(&self, out: &mut Encoder) {
        self.zone.encode(out);
        out.list(&self.slots);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { zone: Wire::decode(input)?, slots: input.list("slots", STORES_MAX)? })
    }
}

impl Wire for Node {
    fn encode(&self, out: &mut Encoder) {
        out.u32(self.id);
        self.zone.encode(out);
        for text in [&self.name, &self.peer, &self.s3] {
            out.bytes(text.as_bytes());
        }
        self.left.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: input.u32()?,
            zone: Wire::decode(input)?,
            name: input.string("name of a node", NODE_TEXT_MAX)?,
            peer: input.string("address of a node", NODE_TEXT_MAX)?,
            s3: input.string("address of a node", NODE_TEXT_MAX)?,
            left: Wire::decode(input)?,
        })
    }
}

impl Wire for Layout {
    fn encode(&self, out: &mut Encoder) {
        self.epoch.encode(out);
        self.zone.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { epoch: Wire::decode(input)?, zone: Wire::decode(input)? })
    }
}

impl Wire for Slot {
    fn encode(&self, out: &mut Encoder) {
        self.store.encode(out);
        out.u32(self.weight);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { store: Wire::decode(input)?, weight: input.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MapEpoch;

    fn node(id: u32, name: &str) -> Node {
        let (peer, s3) = (format!("127.0.0.1:{}", 7000 + id), format!("127.0.0.1:{}", 9000 + id));
        Node { id, zone: ZoneId(1), name: name.to_owned(), peer, s3, left: false }
    }

    fn directory() -> Directory {
        let slot = |store| Slot { store: StoreId(store), weight: 100 };
        let zone = |zone: u8, stores: &[u64]| ZoneMap {
            zone: ZoneId(zone),
            slots: stores.iter().copied().map(slot).collect(),
        };
        let map = ClusterMap {
            level: level::NODES,
            epoch: MapEpoch(4),
            groups: 64,
            zones: vec![zone(0, &[1, 4]), zone(1, &[2]), zone(2, &[7])],
            voters: vec![StoreId(1), StoreId(2), StoreId(7)],
            retired: vec![StoreId(3)],
            retired_zones: vec![ZoneId(1)],
            unproven: vec![
                Layout { epoch: MapEpoch(2), zone: zone(0, &[1]) },
                Layout { epoch: MapEpoch(3), zone: zone(2, &[]) },
            ],
            nodes: vec![node(4, "d"), Node { left: true, ..node(9, "e") }],
        };
        let live = vec![SessionId(5), SessionId(8)];
        let sessions = SessionsView { floor: SessionId(4), next: SessionId(9), live };
        Directory { version: LogIndex(77), map, sessions }
    }

    #[test]
    fn a_directory_survives_its_bytes_and_refuses_others() {
        let bytes = directory().to_bytes();
        assert_eq!(Directory::from_bytes(&bytes), Ok(directory()));
        for len in 0..bytes.len() {
            assert!(Directory::from_bytes(&bytes.slice(..len)).is_err());
        }
    }

    #[test]
    fn maps_of_older_formats_are_read() {
        // The third has no nodes, and is what a cluster at the first level still writes.
        let third = ClusterMap { level: level::FIRST, nodes: Vec::new(), ..directory().map };
        assert_eq!(third.to_bytes()[0], 3);
        assert_eq!(ClusterMap::from_bytes(&third.to_bytes()), Ok(third.clone()));
        let map = ClusterMap { unproven: Vec::new(), ..third };
        let mut bytes = map.to_bytes().to_vec();
        // The second has no former layouts: a count less.
        bytes.truncate(bytes.len() - 4);
        bytes[0] = 2;
        assert_eq!(ClusterMap::from_bytes(&bytes.clone().into()), Ok(map.clone()));
        // The first has no zones of retired stores either: a count and one byte less.
        bytes.truncate(bytes.len() - 5);
        bytes[0] = 1;
        let first = ClusterMap { retired_zones: Vec::new(), ..map };
        assert_eq!(ClusterMap::from_bytes(&bytes.into()), Ok(first));
    }

    #[test]
    fn a_map_says_a_level_that_fits_its_form() {
        let map = directory().map;
        assert_eq!((map.level, map.to_bytes()[0]), (level::NODES, 4));
        let later = ClusterMap { level: Level(9), ..map };
        let bytes = later.to_bytes();
        assert_eq!((bytes[0], ClusterMap::from_bytes(&bytes)), (5, Ok(later)));
        for earlier in [1, 2] {
            let mut bytes = bytes.to_vec();
            bytes[1] = earlier;
            assert!(ClusterMap::from_bytes(&bytes.into()).is_err(), "it has another form");
        }
    }

    #[test]
    fn former_layouts_come_in_order_and_before_the_map() {
        let map = directory().map;
        let epochs = |epochs: [u64; 2]| {
            let mut map = map.clone();
            for (layout, epoch) in map.unproven.iter_mut().zip(epochs) {
                layout.epoch = MapEpoch(epoch);
            }
            ClusterMap::from_bytes(&map.to_bytes())
        };
        assert!(epochs([1, 3]).is_ok());
        for bad in [[2, 2], [3, 2], [2, 4], [2, 9]] {
            assert!(epochs(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sessions_live_are_fenced_or_unknown() {
        let sessions = directory().sessions;
        assert_eq!((sessions.ended(), SessionsView::default().ended()), (6, 0));
        assert_eq!(sessions.standing(SessionId(5)), Standing::Live);
        for fenced in [0, 3, 4, 6, 7] {
            assert_eq!(sessions.standing(SessionId(fenced)), Standing::Fenced);
        }
        for unknown in [9, 10, u64::MAX] {
            assert_eq!(sessions.standing(SessionId(unknown)), Standing::Unknown);
        }
    }
}
