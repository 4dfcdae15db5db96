//! What can go wrong: the kinds of fault, how often each was meant to happen and did.
//!
//! [`swarm`] draws a configuration for each seed, [`plan`] a schedule of the big faults; [`strikes`] says where
//! small ones strike.

pub mod plan;
pub mod strikes;
pub mod swarm;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault. Each has a knob ([`swarm::Swarm`]) and a hit counter ([`Hits`]).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($(#[$doc])* $name,)*
        }

        impl FaultKind {
            /// All of them, in the order of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// For tables and traces.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The kind of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }
    };
}

kinds! {
    /// A message vanishes.
    MessageLost = "message lost",
    /// A message arrives twice.
    MessageDoubled = "message doubled",
    /// A message is overtaken by later ones.
    MessageOvertaken = "message overtaken",
    /// A connection is reset; what is in flight is lost.
    LinkReset = "link reset",
    /// One link swallows everything, both ways; nobody is told.
    LinkBlackHole = "link black hole",
    /// One link swallows everything in one direction; nobody is told.
    LinkCutOneWay = "link cut one-way",
    /// All messages of one link take much longer.
    LinkSlow = "link slow",
    /// A zone is cut off from all others: connections break at once, and none can be made.
    ZoneCut = "zone cut off",
    /// A zone is cut off, and nobody is told: everything to and from it vanishes.
    ZoneBlackHole = "zone black hole",
    /// A zone hears but is not heard, or the other way round.
    ZoneCutOneWay = "zone cut one-way",
    /// Two zones do not see each other; both see the third.
    ZonesApart = "two zones apart",
    /// One store is cut off; nobody is told.
    StoreCut = "store cut off",
    /// One gateway is cut off; nobody is told.
    GatewayCut = "gateway cut off",
    /// All messages of a zone take much longer.
    ZoneSlow = "zone slow",
    /// All processes of a zone are killed and stay dead for a while.
    ZoneKilled = "zone killed",
    /// A zone loses power and stays dark for a while.
    ZonePowerLoss = "zone power loss",
    /// A zone goes dark and never comes back.
    ZoneGone = "zone gone for ever",
    /// A zone goes dark and never comes back; later new stores on fresh disks take its slots.
    ZoneReplaced = "zone replaced",
    /// All processes of a zone stand still for a while.
    ZonePaused = "zone paused",
    /// A store's process is killed and started again.
    StoreKilled = "store killed",
    /// A store's machine loses power: what was not synced may be lost.
    StorePowerLoss = "store power loss",
    /// A store's disk is gone; later a new store on a fresh disk takes its slot.
    StoreWiped = "store wiped, replaced",
    /// All machines lose power at once.
    PowerLossEverywhere = "power loss everywhere",
    /// A store is killed again soon after its start.
    KilledInRecovery = "killed in recovery",
    /// A store is killed many times in a row.
    RestartStorm = "restart storm",
    /// A store's process stands still, then gets everything late.
    StorePaused = "store paused",
    /// A gateway's process is killed and started again.
    GatewayKilled = "gateway killed",
    /// A gateway's process stands still.
    GatewayPaused = "gateway paused",
    /// A sector that was written but not synced has its old content after a power loss.
    SectorLost = "unsynced sector lost",
    /// Of a write in flight at a crash, only some sectors are there.
    WriteTorn = "write torn",
    /// A sync fails.
    SyncFailed = "sync failed",
    /// A read fails once.
    ReadFailed = "read failed",
    /// A sector is unreadable until it is written anew.
    SectorUnreadable = "sector unreadable",
    /// A write fails.
    WriteFailed = "write failed",
    /// A disk effect takes very long.
    DiskStalled = "disk stalled",
    /// A store's disk takes 10 to 1,000 times as long for everything, for a while.
    DiskSlow = "disk slow",
    /// A byte on the medium changes by itself.
    ByteRotted = "byte rotted",
    /// A byte of a store's journal changes, and the store loses power.
    JournalRotted = "journal rotted",
    /// A sector on the medium becomes unreadable by itself, until it is written anew.
    SectorRotted = "sector rotted",
    /// Each pair of zones has a distance of its own, up to 80 ms.
    ZonesFar = "zones far apart",
    /// Wall clocks differ, and go at different speeds.
    ClockSkewed = "clock skewed",
    /// A client gives up midway.
    ClientCancelled = "client cancelled",
    /// A client stops reading for a while.
    ClientStalled = "client stalled",
    /// A store's disk is empty when it starts again, under the same identity.
    StoreEmptied = "store emptied",
    /// A store is started for the first time when others have run for a while.
    StoreLate = "store started late",
    /// A new store on a fresh disk gets a slot of its own, and what moves to it.
    StoreAdded = "store added",
    /// A store is drained: what it has moves to others of its zone. Some get their weight back later.
    StoreDrained = "store drained",
    /// A disk says that a write is done and synced, and one sector of it has its old content.
    WriteLost = "synced write lost",
    /// One sector of a write goes to another place of the disk.
    WriteMisdirected = "write misdirected",
    /// A store's disk is what it was some seconds ago, in a former life of the store.
    ImageRestored = "old image restored",
    /// A machine's wall clock jumps, by up to an hour, forward or back.
    ClockStepped = "clock stepped",
    /// The links of some machines stop one machine after the other, and come back in another order.
    LinksSwizzled = "links swizzled",
    /// All connections between a gateway and its clients break.
    ClientsReset = "clients reset",
    /// A machine of an old build is restarted with a newer one.
    MachineUpgraded = "machine upgraded",
    /// One that was upgraded goes back to the old build, for a while.
    UpgradeRolledBack = "upgrade rolled back",
    /// The feature level is asked for before all speak it, and refused.
    LevelRaisedEarly = "level raised early",
    /// A gateway stands still, or is cut off, until its session is over, and then goes on.
    GatewayFenced = "gateway away until fenced",
    /// Very many bytes and sectors of a disk rot.
    DiskRotting = "disk rotting",
    /// A store that distrusts its disk dies again before anybody has vouched for it.
    KilledInDoubt = "killed in doubt",
}

/// How often each kind has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits(Vec<u64>);

impl Default for Hits {
    fn default() -> Self {
        Self(vec![0; FaultKind::ALL.len()])
    }
}

impl Hits {
    /// It happened.
    pub fn hit(&mut self, kind: FaultKind) {
        self.0[kind as usize] += 1;
    }

    /// How often it happened.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0[kind as usize]
    }

    /// Add those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}
