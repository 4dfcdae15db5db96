//! What a simulator may ask of the core: to count rare paths ([`Probe`]), to take them more often ([`Site`]), to make
//! a known mistake ([`Bug`]).
//!
//! - `probe!(Name)` counts that a path was taken. One that is never taken in very many runs is tested by nobody.
//! - `buggify!(Name)` is true now and then: the code does something that it may do, but hardly ever does by itself (a batch of
//!   one, a refusal for overload, a block that is not in memory). In each run some of the sites are armed, and an armed one
//!   fires with a chance of its own (FoundationDB's scheme: Zhou et al., SIGMOD 2021). `buggify!(Name, hot)` is for a site
//!   that is passed very often: it fires 16 times as seldom.
//! - `planted!(Name)` is true while that mistake is to be made.
//!
//! All of it is behind the feature `rare`, which no production crate enables; without it the macros are nothing, or a
//! constant `false`, and nothing of this is in the program. Names stand in the lists below: another one does not compile.
//!
//! This is the one place in the core that has something global: what a run was asked for is kept per thread, since a
//! simulated run is one thread, and handing it down to every corner would be in the way of all other readers.
//! [`begin`] sets it at the start of a run, so that two runs of one seed are equal whatever that thread did before. Its
//! draws are its own: they move nobody else's.

#[cfg(feature = "rare")]
use std::cell::{Cell, RefCell};
#[cfg(feature = "rare")]
use std::collections::BTreeMap;

#[cfg(feature = "rare")]
use crate::rng::Rng;

/// Count that a rare path was taken: `probe!(TornTailCut)`.
macro_rules! probe {
    ($probe:ident) => {
        $crate::rare::reached($crate::rare::Probe::$probe)
    };
}

/// Whether to do now what is seldom done: `buggify!(SmallBatch)`.
macro_rules! buggify {
    ($site:ident) => {
        $crate::rare::fires($crate::rare::Site::$site, 1)
    };
    ($site:ident, hot) => {
        $crate::rare::fires($crate::rare::Site::$site, 16)
    };
}

/// Whether a mistake is to be made: `planted!(BloomFalseNegative)`.
macro_rules! planted {
    ($bug:ident) => {
        $crate::rare::is_planted($crate::rare::Bug::$bug)
    };
}

/// Lists names, each with a sentence about it.
macro_rules! names {
    ($(#[$about:meta])* $list:ident { $($name:ident: $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[cfg_attr(
            not(feature = "rare"),
            allow(dead_code, unreachable_pub, reason = "nobody chooses one")
        )]
        pub enum $list {
            $(#[doc = $text] $name,)*
        }

        #[cfg(feature = "rare")]
        impl $list {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The sentence about it.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

names! {
    /// A rare path.
    Probe {
        // Replicas and consensus.
        SuspectVouched: "a suspect log is trusted again",
        ReadLost: "leadership was lost before a read was confirmed",
        EntriesFetchedForPeer: "entries for a follower come from the journal",
        EntriesFetchedToApply: "entries to apply come from the journal",
        EntriesHeldBack: "entries find no room in the journal, and come again",
        LearnerAdded: "a store that shall vote becomes a learner",
        JointChange: "voters are exchanged, through a joint configuration",
        LeaderSlow: "a slow leader hands over",
        LeaderFull: "a leader without room hands over",
        LeaderWithoutTable: "a leader that has lost its table hands over",
        ReplicaOnDemand: "a leader's word makes a store begin a replica",
        TableRebuilt: "a table is built again from the log",
        TableLost: "a table is lost, and its log does not reach back",
        ApplyWaited: "an entry waits for a block",
        ReadWaited: "a read waits for a block",
        CommandJoined: "a command that is asked for again joins itself",
        OutcomeKnown: "a command that is asked for again is answered from its session",
        CommandRefusedFull: "commands in the queue find no room any more",
        CallForwarded: "a follower passes a call on",
        SessionSilent: "a silent session is fenced",
        LogGivenUp: "the front of a log is given up",
        // How stores know each other.
        FounderRejoined: "a first voter whose disk was emptied joins as suspect",
        FounderMissedEnd: "a first voter that missed the beginning is told",
        SetBackHeard: "a store hears that its disk was set back",
        CallHeld: "a chunk call waits until its session is known",
        CallExpired: "a chunk call has waited in vain for its session",
        MapProven: "a change of the map is proven",
        // States given and taken.
        StateTaken: "a state is taken over",
        StateTakenWhenLost: "a state is taken over in place of a lost table",
        NewerRowsTaken: "only what is newer of a state is taken",
        StateGivenUp: "a state is not taken over after all",
        PageOutOfOrder: "a page comes that was not waited for",
        GiverSilent: "a page is asked for again",
        GiverGone: "the giver does not hold a state any more",
        ViewExpired: "nobody pulls from a view",
        // Chunks: repair, reclaiming, scrubbing.
        ChunkRepaired: "a copy is repaired",
        DamagedReplaced: "a damaged copy is replaced",
        LostEverywhere: "no copy of a chunk is left, as far as a store knows",
        FreedElsewhere: "a peer says that a blob was freed",
        CopyNotWanted: "a copy that was pulled is dropped, since its blob is dead",
        PullTimedOut: "a source does not answer",
        RoundFailed: "all sources of a chunk have failed",
        DoubtfulCopy: "a store has a chunk that its peer has not",
        LateHint: "a store is told of a copy that it missed",
        BlobGone: "a store hears that a blob was given up",
        AskedAgain: "whether a blob is wanted is asked again later",
        NoAnswerOnBlobs: "a question about blobs has no answer",
        SuperfluousFreed: "a copy is freed that another store keeps",
        FreeingBusy: "a blob to be freed is being written or repaired",
        FreeingAwaitsDirectory: "a store must learn first that a session is over",
        RowForgottenEarly: "a dead blob's row is forgotten though a zone is silent",
        ScrubPassed: "scrubbing has come to the end",
        ScrubFoundDamage: "scrubbing has found damage",
        // Journal.
        TornTailCut: "a torn frame is cut",
        JournalDamaged: "the journal is damaged",
        RingWrapped: "a frame does not fit before the end of the ring",
        CheckpointMade: "a checkpoint moves the journal's beginning",
        EditHeld: "an edit waits for a checkpoint",
        EntriesCarried: "a log is written again at the journal's head",
        // Segments and rows.
        ChunkWrittenTwice: "a chunk comes while it is being written",
        HeaderLostAtEnd: "recovery does not find the last chunk of a segment that the journal has",
        ChunkFoundUnrecorded: "recovery finds a chunk that the journal does not know",
        IndexRebuilt: "the chunk index is built again",
        EditsMissing: "recovery looks at all headers, since edits are missing",
        SegmentFreed: "a segment is given back",
        ChunkMoved: "a chunk is moved, so that its segment is free",
        ReclaimWaitsForJournal: "giving space back waits until the journal has room to spare",
        ChunkMovedInVain: "a chunk that is to be moved is not there any more",
        RunsMerged: "runs are merged",
        ValueMoved: "a merge moves a value",
        TombstoneDropped: "a merge drops a tombstone",
        RunKeptForView: "a merged run is kept, since a view has it",
        FetchStale: "a block was read whose run is gone meanwhile",
        BlockEvicted: "a block goes from the cache",
        FilterPassedInVain: "a filter lets a key pass that its run has not",
        ValueInPieces: "a value passes the end of a segment",
        // Levels.
        LevelRaised: "the cluster's feature level is raised",
        LevelNotRaised: "the feature level is not raised, since a store or gateway does not speak it",
        // Gateways.
        HedgedRead: "a read is asked of a second zone",
        BadCopyHinted: "a store is told at once of a bad copy",
        ThirdCopyLate: "a chunk is safe before its third copy",
        LateCopyFailed: "the third copy of a put that is over has failed",
        StoreLeftOut: "a new chunk leaves a store out that lags",
        ManyStoresLag: "more of a new chunk's stores lag than it can leave out",
        LeftOutAsked: "a store that was left out is asked after all",
        PutOutdated: "a put was placed under an older map",
        PutMadeGood: "chunks of a put are made good under a newer map",
        SessionLost: "a gateway was fenced",
        CallParked: "a call waits until somebody leads",
        AnswerOfNobody: "an answer comes to no open call",
        ChangedOnTheSpot: "an object is copied onto itself",
        CopyOfOtherVersion: "another version stood when an object was to be copied onto itself",
        ListingWentOn: "a listing goes on after a block",
        BlobLeft: "a blob is closed without being committed",
    }
}

names! {
    /// A place where the code may do something unusual.
    Site {
        // Replicas.
        SmallAppends: "appends of one entry",
        OneAppendInFlight: "one append in flight",
        EarlySnapshot: "a peer that lags a little gets the state instead of the log",
        SmallEntryCache: "no entries in memory",
        OneEntryPerStep: "one entry is applied in a step",
        SmallBatch: "one command in an entry",
        BatchWaits: "commands wait though an entry could be proposed",
        CallRefused: "a call is refused as overloaded",
        CommandRefused: "a command is refused as overloaded",
        EntriesDropped: "entries are not taken, and come again",
        LeaderMoves: "leadership is handed over for no reason",
        EarlyFence: "a session is fenced that was heard of late",
        EarlyFreeze: "a memtable is written out before it is full",
        LogGivenUpEarly: "no entries are kept for followers",
        DirectoryAskedMore: "all voters are asked for the directory",
        LiveCallHeld: "a call waits for a newer directory though its session is known",
        ProofWaits: "what is proven is said later",
        // States.
        TinyPages: "pages of a few rows",
        PageDropped: "a page is dropped, and asked for again",
        EarlyExpiry: "a view is closed at once when nobody pulls",
        AllRowsTaken: "a state is taken as a whole",
        // Chunks.
        WriteRefused: "a chunk write is refused as overloaded",
        ReadRefused: "a chunk read is refused as overloaded",
        LookRefused: "a copy is not given now",
        FreeRefused: "a chunk cannot be freed now",
        OneRepair: "one chunk is repaired at a time",
        SourceSkipped: "a source is passed over",
        SmallSlices: "an inventory is compared row by row",
        SmallIntervals: "intervals of a few rows are compared",
        InventoryRefused: "an inventory is not compared now",
        ShortLists: "an inventory lists a few chunks at a time",
        OneBlobAsked: "one blob is asked about at a time",
        CollectSlowly: "few rows of dead blobs are looked at in a step",
        CollectPaused: "a leader lets no more dead blobs be freed for a while",
        ValueSplit: "a value is stored in two pieces",
        CollectLater: "a dead blob is left for the next pass",
        FreeOneByOne: "one chunk is freed at a time",
        ScrubHurries: "scrubbing does not pause",
        // Journal.
        SmallFrames: "frames of one record",
        EarlyCheckpoint: "a checkpoint is made for a small gain",
        // Segments and rows.
        SegmentSealedEarly: "a segment is sealed before it is full",
        OneSegmentOpen: "no segment is opened ahead",
        EagerMoves: "segments are emptied that are mostly full",
        IndexFlushedEarly: "the chunk index is written out before it is full",
        SmallCache: "half a cache",
        CacheMiss: "a block is not found though it is in memory",
        NoReadAhead: "nothing is read ahead",
        EagerMerge: "runs are merged as soon as there are two",
        // Gateways.
        ShortScan: "a scan passes few rows",
        OneKeyPerScan: "a scan gives one entry",
        SmallCredit: "a client is asked for a few bytes at a time",
        ChunkForInline: "a small body goes into a chunk",
        EarlyChunkTimeout: "a chunk call is given up early",
        EarlyCallTimeout: "a call is sent again early",
        EarlyHedge: "a read is asked of all zones at once",
        StoreSpared: "a store is left out that does not lag",
        StoreDoubted: "a healthy store is asked last",
        LeaderDoubted: "who is said to lead is not believed",
        BucketForgotten: "a bucket that is known is looked up again",
        FewHints: "one hint is sent at a time",
        ReadsUnnamed: "a session tells when its reads began, not what they read",
        EarlyBeat: "a session beats early",
    }
}

names! {
    /// A mistake that the core can be told to make, one in a run. Those of consensus are some of its
    /// [mutants](crate::consensus::Mutant).
    Bug {
        // Consensus, in whole stores.
        CommitQuorumTooSmall: "an entry commits with one copy fewer than a majority",
        VoteQuorumTooSmall: "an election is won with one vote fewer than a majority",
        VoteForgotten: "a vote is forgotten over a restart",
        VoteBeforeDurable: "a vote is sent before it is durable",
        AcceptBeforeDurable: "an append is acknowledged before it is durable",
        CommitOldTerm: "a leader commits entries of earlier terms by counting copies",
        CommitToldEarly: "entries are applied that are not durable on their store",
        ReadUnconfirmed: "a leader answers a read without a round, also after another was elected",
        ReadBeforeCommit: "a new leader answers reads before its first commit",
        SuspectTrusted: "a replica whose log is suspect trusts it",
        // Journal and superblock.
        SyncSharedTooEarly: "who asks for a sync shares the one in flight, which does not cover what was written since it began",
        TailMovedBeforeSuperblock: "the journal's front is written over before the superblock says that it begins later",
        CheckpointForgetsVote: "a checkpoint has the term and not the vote",
        CheckpointForgetsSuspicion: "a checkpoint takes every log for trusted",
        CheckpointForgetsEntries: "entries that are in no run are given up with the journal's front",
        CheckpointForgetsChunks: "chunk records that are in no run are given up with the journal's front",
        CheckpointDropsEdits: "edits that waited for a checkpoint are dropped",
        CarriedEntryLost: "a log is written again at the journal's head without its last entry",
        DamageTakenForTear: "a damaged journal is cut like a torn one, and trusted",
        TearTakenForDamage: "a journal that ends where it was synced up to is taken for damaged",
        EmptiedVoterTrusted: "a first voter whose disk was emptied takes itself for one that has promised nothing",
        // Chunks and segments.
        ChunkAckedUnsynced: "a chunk is acknowledged when it is written, before the sync",
        OpenSegmentUnscanned: "recovery does not look for chunks in open segments",
        SealedBeforeRecords: "a segment is sealed before the journal has the records of all its chunks",
        RecordedTooFar: "recovery is told to begin its scan behind chunks whose records the journal has not",
        ChunkBatchReused: "chunk records get the number of a batch that is in a run, and are taken to be in it",
        FreedNotJournaled: "that a chunk is freed is said, and not journaled",
        SegmentFreedWithChunk: "a segment is given back while one chunk is left in it",
        SegmentReusedWhileRead: "a segment is given back while a chunk of it is being read",
        BlocksUnverified: "nobody verifies the blocks that are read",
        // Rows.
        RunEditBeforeSync: "the edit that makes a run part of its table is journaled while the run is being written",
        MergeEditBeforeSync: "a merged run takes the place of others while it is being written",
        RunLacksHotState: "a memtable is written out without sessions and header",
        FrozenRowsUnread: "rows are not seen while they are being written out",
        StaleBlockCache: "blocks of a dropped run stay in the cache when their segment is used again",
        MergeKeepsOlder: "of two rows of one key a merge keeps the older",
        TombstoneDroppedEarly: "a merge drops tombstones of rows that older runs still have",
        BloomFalseNegative: "a filter denies one key in 64 that its run has",
        BlockEdgeSkipped: "a cursor that comes to a block's end skips the first row of the next",
        // The range.
        EntryAppliedTwice: "one entry in 16 is applied twice",
        RetryAppliedAgain: "a command that is asked for again takes effect again",
        LevelGateIgnored: "what a level has brought is done before the cluster has reached it",
        LevelRaisedUnasked: "the leader has the level raised without having asked the stores",
        FencedSessionActs: "commands of a session that is over take effect",
        EpochFloorIgnored: "blobs that were placed under an older map are referenced",
        ConditionOutsideLog: "the conditions of a put are decided where it is proposed, not where it is applied",
        CompleteNotAtomic: "a completed upload and its parts are left standing beside the object",
        CompleteFreesParts: "completing an upload gives up the blobs of the parts that it takes",
        PartsOutOfOrder: "an object is put together from its parts in the wrong order",
        OldVersionKept: "a put does not take out the version before it",
        DeathNotRecorded: "a blob that is referenced no more gets no garbage row",
        MarkerSkipsKey: "a listing that goes on behind a key skips the next one",
        ListingEndsEarly: "a page that is full says that nothing follows",
        ListingWaitForgets: "a listing that waits for a block forgets what it had found",
        // Replicas.
        ReadNotApplied: "a read does not wait until what it must see is applied",
        OutcomeOfAnotherTerm: "a leader that was deposed answers its commands with what came of others at their indexes",
        LogGivenUpUnflushed: "entries whose rows are in no run are given up",
        ReserveIgnored: "new data is taken while journal or disk are full",
        SnapshotTailLost: "a state is taken over without its tail, and its hash is not looked at",
        InstallKeepsMemtable: "rows in memory stay above a state that was taken over",
        InstallForgetsStart: "after a state was taken over, the log still begins where it did",
        StaleDirectoryTaken: "a store takes any directory, also an older one",
        // Reclaiming, moves, repair.
        FreedUnderOpenRead: "the leader has a dead blob freed without a word of those who may read it",
        OpenTakenForGone: "a store frees a blob that is still being written",
        GarbageForgottenEarly: "the row of a dead blob is forgotten before the blob is freed",
        FenceNotAwaited: "a store frees a blob before it knows that the session which reads it is over",
        SuperfluousFreedUnproven: "former owners free their copies before the change of the map is proven",
        MapProvenEarly: "a store says that it has everything before it has compared with all owners",
        RepairUnverified: "copies are given to other stores, and kept by them, without being verified",
        RepairLeavesDamage: "a repaired copy does not take the place of the damaged one",
        ComparisonIgnored: "what a comparison of inventories shows to be missing is not fetched",
        ScrubDamageUnreported: "scrubbing keeps to itself what it finds damaged",
        // Gateways.
        AckWithOneCopy: "a chunk counts as safe when one zone has it",
        HintNotSent: "a store is not told of a copy that it missed",
        ReadsNotReported: "a session does not tell what it reads",
        WritesNotReported: "a session does not tell which blobs it writes",
        BlobClosedInFlight: "a session calls a blob closed while calls about it are in flight",
        RangeReadOffByBlock: "a read that begins within a chunk begins a block too early",
        CallIdsFromOne: "each life of a gateway numbers its calls from 1",
        UncertainCalledFailed: "a command without an answer is said to have done nothing",
        CopyLosesTags: "a copy has no tags",
    }
}

/// Count that a rare path was taken: `probe!`.
#[cfg(not(feature = "rare"))]
#[inline]
pub(crate) const fn reached(_: Probe) {}

/// Whether to do now what is seldom done: `buggify!`.
#[cfg(not(feature = "rare"))]
#[inline]
pub(crate) const fn fires(_: Site, _: u64) -> bool {
    false
}

/// Whether a mistake is to be made: `planted!`.
#[cfg(not(feature = "rare"))]
#[inline]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

/// Count that a rare path was taken: `probe!`.
#[cfg(feature = "rare")]
#[inline]
pub(crate) fn reached(probe: Probe) {
    RUN.with(|run| {
        let hits = &run.hits[probe as usize];
        hits.set(hits.get() + 1);
    });
}

/// Whether to do now what is seldom done: `buggify!`.
#[cfg(feature = "rare")]
#[inline]
pub(crate) fn fires(site: Site, seldom: u64) -> bool {
    RUN.with(|run| {
        let place = site as usize;
        let one_in = run.sites[place].get();
        if one_in == 0 {
            return false;
        }
        let time = run.passed[place].get();
        run.passed[place].set(time + 1);
        let fires = if one_in == TOLD {
            run.told.borrow_mut()[place].pop_if(|next| *next == time).is_some()
        } else {
            let mut rng = Rng::new(run.draws.get());
            let fires = rng.chance(1, one_in * seldom);
            run.draws.set(run.draws.get() ^ rng.next_u64());
            fires
        };
        if fires {
            run.fired.borrow_mut()[place].push(time);
        }
        fires
    })
}

/// Whether a mistake is to be made: `planted!`.
#[cfg(feature = "rare")]
#[inline]
pub(crate) fn is_planted(bug: Bug) -> bool {
    RUN.with(|run| {
        run.consulted[bug as usize].set(true);
        run.planted.get() == Some(bug)
    })
}

/// What a run is asked for.
#[cfg(feature = "rare")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The mistake to make.
    pub planted: Option<Bug>,
    /// What unusual things are done.
    pub unusual: Unusual,
}

/// What unusual things a run does.
#[cfg(feature = "rare")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unusual {
    /// None.
    #[default]
    Never,
    /// As its seed has it.
    Drawn,
    /// Each of these sites fires at these of the times when the run passes it, counted from 0, in order.
    At(BTreeMap<Site, Vec<u64>>),
}

/// What was counted in a run.
#[cfg(feature = "rare")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often each path of [`Probe::ALL`] was taken.
    pub hits: Vec<u64>,
    /// At which of the times when the run passed it each site of [`Site::ALL`] fired.
    pub fired: Vec<Vec<u64>>,
    /// Whether it made a difference to the run if each of [`Bug::ALL`] was planted: else it is as if it were not.
    pub consulted: Vec<bool>,
}

/// One in so many sites is armed.
#[cfg(feature = "rare")]
const ARMED_ONE_IN: u64 = 4;
/// An armed one fires once in so many times.
#[cfg(feature = "rare")]
const FIRES_ONE_IN: [u64; 4] = [2, 8, 32, 128];
/// It fires when it is told to.
#[cfg(feature = "rare")]
const TOLD: u64 = u64::MAX;

#[cfg(feature = "rare")]
struct Run {
    planted: Cell<Option<Bug>>,
    consulted: [Cell<bool>; Bug::ALL.len()],
    hits: [Cell<u64>; Probe::ALL.len()],
    /// An armed site fires once in so many times; 0: it is not armed.
    sites: [Cell<u64>; Site::ALL.len()],
    /// How often the run passed each site while it was armed.
    passed: [Cell<u64>; Site::ALL.len()],
    /// When it fired.
    fired: RefCell<[Vec<u64>; Site::ALL.len()]>,
    /// When it is to fire, last time first.
    told: RefCell<[Vec<u64>; Site::ALL.len()]>,
    draws: Cell<u64>,
}

#[cfg(feature = "rare")]
thread_local! {
    static RUN: Run = const { Run {
        planted: Cell::new(None),
        consulted: [const { Cell::new(false) }; Bug::ALL.len()],
        hits: [const { Cell::new(0) }; Probe::ALL.len()],
        sites: [const { Cell::new(0) }; Site::ALL.len()],
        passed: [const { Cell::new(0) }; Site::ALL.len()],
        fired: RefCell::new([const { Vec::new() }; Site::ALL.len()]),
        told: RefCell::new([const { Vec::new() }; Site::ALL.len()]),
        draws: Cell::new(0),
    } };
}

/// The run of `seed` begins on this thread.
#[cfg(feature = "rare")]
pub fn begin(seed: u64, plan: &Plan) {
    RUN.with(|run| {
        run.planted.set(plan.planted);
        run.consulted.iter().for_each(|consulted| consulted.set(false));
        run.hits.iter().chain(&run.passed).for_each(|count| count.set(0));
        run.fired.borrow_mut().iter_mut().for_each(Vec::clear);
        let mut rng = Rng::new(seed ^ 0x7261_7265);
        for site in &run.sites {
            let armed = rng.chance(1, ARMED_ONE_IN) && plan.unusual == Unusual::Drawn;
            let chance = FIRES_ONE_IN[usize::try_from(rng.below(4)).unwrap_or(0)];
            site.set(if armed { chance } else { 0 });
        }
        run.draws.set(rng.next_u64());
        if let Unusual::At(times) = &plan.unusual {
            for (site, times) in times {
                run.sites[*site as usize].set(TOLD);
                run.told.borrow_mut()[*site as usize] = times.iter().rev().copied().collect();
            }
        }
    });
}

/// From here on no site does anything unusual, until the next run begins: what is to come right within a
/// bounded time does so as in production.
#[cfg(feature = "rare")]
pub fn calm() {
    RUN.with(|run| run.sites.iter().for_each(|site| site.set(0)));
}

/// The run on this thread is over: nothing is asked for any more. What was counted.
#[cfg(feature = "rare")]
pub fn end() -> Counted {
    let read = |counts: &[Cell<u64>]| counts.iter().map(Cell::get).collect();
    let counted = RUN.with(|run| Counted {
        hits: read(&run.hits),
        fired: run.fired.borrow().to_vec(),
        consulted: run.consulted.iter().map(Cell::get).collect(),
    });
    begin(0, &Plan::default());
    counted
}

#[cfg(all(test, feature = "rare"))]
mod tests {
    use super::*;

    fn fired(seed: u64, unusual: Unusual) -> (Vec<bool>, Counted) {
        begin(seed, &Plan { planted: None, unusual });
        let all = (0..500).flat_map(|_| [fires(Site::SmallBatch, 1), fires(Site::TinyPages, 16)]);
        (all.collect(), end())
    }

    #[test]
    fn two_runs_of_a_seed_are_equal_and_nothing_is_left_of_a_run() {
        let drawn = |seed| fired(seed, Unusual::Drawn);
        let armed = (0..100).find(|seed| drawn(*seed).0.contains(&true)).expect("some is armed");
        assert_eq!(drawn(armed), drawn(armed));
        assert!(!fired(armed, Unusual::Never).0.contains(&true));
        begin(1, &Plan { planted: Some(Bug::BloomFalseNegative), unusual: Unusual::Drawn });
        probe!(TornTailCut);
        assert!(planted!(BloomFalseNegative) && !planted!(VoteForgotten));
        assert_eq!(end().hits[Probe::TornTailCut as usize], 1);
        assert!(!planted!(BloomFalseNegative));
        let left = end();
        assert!(left.hits.iter().all(|count| *count == 0));
        assert!(left.fired.iter().all(Vec::is_empty));
        assert_eq!(left.consulted.iter().filter(|consulted| **consulted).count(), 1);
    }

    #[test]
    fn what_fired_fires_again_when_it_is_told_to_and_nothing_else() {
        for seed in 0..20 {
            let (all, counted) = fired(seed, Unusual::Drawn);
            let times: BTreeMap<Site, Vec<u64>> =
                Site::ALL.iter().copied().zip(counted.fired.clone()).collect();
            assert_eq!(fired(seed + 1, Unusual::At(times)), (all, counted));
        }
        let once = BTreeMap::from([(Site::TinyPages, vec![7])]);
        let (all, _) = fired(3, Unusual::At(once));
        let times: Vec<usize> = (0..all.len()).filter(|time| all[*time]).collect();
        assert_eq!(times, [15]);
    }
}
