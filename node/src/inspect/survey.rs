//! Goes through all disks: opens them, chooses the replica that knows most, reads every copy, and holds
//! every object against its copies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use trine_core::cluster::ROOT_RANGE;
use trine_core::ids::{ChunkId, LogIndex, StoreId, Term};
use trine_core::inspect::{
    CopyPage, Depth, Disk, Root, RowsReport, SegmentFault, SegmentUse, Unreadable,
};
use trine_core::range::Range;

use super::describe;
use super::file::{FileError, FileMedium};
use super::schema::{Failure, MetadataReport, Report, StoreReport};
use super::tally::{Aids, List, Tally};
use crate::admin::schema::Finding;

/// Copies of one page. They are read one after the other, and only what was found is kept.
const PAGE_COPIES: usize = 64;
/// Pages that a disk may be ahead of who adds them up.
const PAGES_AHEAD: usize = 4;

/// A disk that is open.
struct Opened {
    path: PathBuf,
    disk: Disk<FileMedium>,
    report: StoreReport,
    /// Its replica of the root range, if that may be believed.
    root: Option<RootReplica>,
}

/// A replica of the root range.
struct RootReplica {
    last: (Term, LogIndex),
    range: Range,
    rows: RowsReport,
}

/// What a disk's reader has to say, with the disk's place in the list.
enum Told {
    Headers(usize, Vec<SegmentFault>),
    Page(usize, CopyPage),
    Failed(usize, Unreadable),
}

/// Inspect the stores in these files.
pub(super) fn survey(files: &[PathBuf], verify: bool, list: Option<List>) -> Report {
    let mut report = Report { verified: verify, ..Report::default() };
    let mut opened = Vec::new();
    for path in files {
        match open(path) {
            Ok(one) => opened.push(one),
            Err(error) => {
                report.failures.push(Failure::new(error.path(), error.to_string()));
            }
        }
    }
    refuse_strangers(&mut opened, &mut report);
    for one in &mut opened {
        load_replicas(one, &mut report.findings);
    }
    compare_states(&opened, &mut report.findings);
    let mut aids = Aids { list, ..Aids::default() };
    take_root(&mut opened, &mut aids, &mut report);
    let mut tallies: Vec<Tally> =
        opened.iter().map(|one| Tally::new(one.disk.identity().1)).collect();
    read_all(&mut opened, &mut tallies, &mut aids, verify, &mut report.findings);
    audit(&mut opened, &tallies, &mut aids, &mut report);
    for (one, tally) in opened.iter_mut().zip(tallies) {
        one.report.notes = one.disk.notes().to_vec();
        one.report.chunk_index_sound = one.disk.chunk_index_is_sound().unwrap_or(false);
        one.report.copies = tally.copies;
    }
    let result = aids.list.map_or(Ok(()), List::end);
    if let Some(error) = aids.list_failed.or(result.err()) {
        let error = format!("the list of copies cannot be written: {error}");
        report.failures.push(Failure { path: "--chunks".to_owned(), error });
    }
    report.stores = opened.into_iter().map(|one| one.report).collect();
    describe::findings(&mut report);
    report.sound = report.findings.is_empty() && report.failures.is_empty();
    report
}

fn open(path: &Path) -> Result<Opened, FileError> {
    let medium = FileMedium::open(path)?;
    let len = medium.len();
    let fail = |error| FileError::Disk { path: path.to_owned(), error };
    let disk = Disk::open(medium).map_err(fail)?;
    let report = describe::store(path, len, &disk);
    Ok(Opened { path: path.to_owned(), disk, report, root: None })
}

/// All disks are of one cluster, and each is of another store.
fn refuse_strangers(opened: &mut Vec<Opened>, report: &mut Report) {
    let Some((cluster, ..)) = opened.first().map(|one| one.disk.identity()) else { return };
    let mut seen: BTreeMap<StoreId, String> = BTreeMap::new();
    opened.retain(|one| {
        let (of, store, _) = one.disk.identity();
        let error = if of != cluster {
            format!("it is of cluster {:032x}, and the first of cluster {:032x}", of.0, cluster.0)
        } else if let Some(other) = seen.get(&store) {
            format!("it is of {store}, as {other} is")
        } else {
            seen.insert(store, one.report.path.clone());
            return true;
        };
        report.failures.push(Failure::new(&one.path, error));
        false
    });
}

fn load_replicas(one: &mut Opened, findings: &mut Vec<String>) {
    let (_, store, _) = one.disk.identity();
    for id in one.disk.ranges() {
        let (replica, range) = one.disk.replica(id);
        let mut told = describe::replica(&replica);
        if let Err(error) = &replica.state {
            findings.push(format!("{store}: {error}"));
        }
        match range.map(|range| (one.disk.add_up(&range), range)) {
            None => {}
            Some((Err(error), _)) => findings.push(format!("{store}: rows of {id}: {error}")),
            Some((Ok(rows), range)) => {
                findings.extend(rows.bad_named.iter().map(|row| format!("{store}: {id}: {row}")));
                if !rows.adds_up {
                    findings.push(format!(
                        "{store}: {id}: its rows do not add up to the hash that it has kept of them"
                    ));
                }
                (told.rows, told.rows_add_up) = (Some(rows.rows), Some(rows.adds_up));
                if id == ROOT_RANGE && !replica.suspect {
                    let last = (replica.last_term, replica.last);
                    one.root = Some(RootReplica { last, range, rows });
                }
            }
        }
        one.report.replicas.push(told);
    }
}

/// Replicas that have come to the same entry have the same state.
fn compare_states(opened: &[Opened], findings: &mut Vec<String>) {
    let mut states: BTreeMap<(u64, u64, u64), (u64, &str)> = BTreeMap::new();
    for one in opened {
        for replica in one.report.replicas.iter().filter(|replica| !replica.suspect) {
            let (Some(applied), Some(hash)) = (replica.applied, &replica.state_hash) else {
                continue;
            };
            let store = one.report.store;
            let at = (replica.range, replica.last_term, applied);
            let (first, state) = *states.entry(at).or_insert((store, hash));
            if state != hash {
                findings.push(format!(
                    "range-{}: store-{first} and store-{store} have different rows after entry {applied}",
                    replica.range
                ));
            }
        }
    }
}

/// The latest log of those given has all that is committed. Its disk is opened once more, for the copies.
fn take_root(opened: &mut [Opened], aids: &mut Aids, report: &mut Report) {
    let latest = |one: &Opened| one.root.as_ref().map(|root| (root.rows.adds_up, root.last));
    let Some(best) =
        opened.iter_mut().filter(|one| one.root.is_some()).max_by_key(|one| latest(one))
    else {
        return;
    };
    let disk = match open(&best.path) {
        Ok(again) => core::mem::replace(&mut best.disk, again.disk),
        Err(error) => {
            return report.failures.push(Failure::new(error.path(), error.to_string()));
        }
    };
    let Some(RootReplica { range, rows, .. }) = best.root.take() else { return };
    report.metadata = Some(MetadataReport {
        store: best.report.store,
        applied: range.applied().0,
        sessions: range.live_sessions().count() as u64,
        rows: describe::rows(&rows),
        ..MetadataReport::default()
    });
    aids.root = Some(Root::new(disk, range));
}

/// Each disk is read by a thread of its own.
fn read_all(
    opened: &mut [Opened],
    tallies: &mut [Tally],
    aids: &mut Aids,
    verify: bool,
    findings: &mut Vec<String>,
) {
    let used = |one: &Opened| {
        let segments = &one.report.segments;
        (segments.chunks_open + segments.chunks_sealed) * one.report.geometry.segment
    };
    let bar = bar(opened.iter().map(used).sum(), "reading copies");
    let ids: Vec<StoreId> = opened.iter().map(|one| one.disk.identity().1).collect();
    let mut headers: BTreeMap<usize, Vec<SegmentFault>> = BTreeMap::new();
    thread::scope(|scope| {
        let (tell, told) = sync_channel(PAGES_AHEAD * opened.len().max(1));
        for (number, one) in opened.iter_mut().enumerate() {
            let tell = tell.clone();
            scope.spawn(move || read_disk(number, &mut one.disk, verify, &tell));
        }
        drop(tell);
        for told in told {
            match told {
                Told::Headers(number, faults) => {
                    headers.insert(number, faults);
                }
                Told::Page(number, page) => {
                    bar.inc(page.bytes_read);
                    tallies[number].take(page, aids);
                }
                Told::Failed(number, error) => {
                    findings.push(format!("{}: its index of chunks: {error}", ids[number]));
                }
            }
        }
    });
    tallies.iter_mut().for_each(|tally| tally.end_blob(aids));
    for (number, faults) in headers {
        let bad = &mut opened[number].report.segments.bad_headers;
        bad.extend(faults.into_iter().map(|fault| (fault.segment, fault.reason)));
    }
    bar.finish_and_clear();
}

fn read_disk(number: usize, disk: &mut Disk<FileMedium>, verify: bool, tell: &SyncSender<Told>) {
    if let Err(error) = read_to_end(number, disk, verify, tell) {
        // Who adds up goes on until all have ended.
        let _ = tell.send(Told::Failed(number, error));
    }
}

fn read_to_end(
    number: usize,
    disk: &mut Disk<FileMedium>,
    verify: bool,
    tell: &SyncSender<Told>,
) -> Result<(), Unreadable> {
    let depth = if verify { Depth::Blocks } else { Depth::Headers };
    if verify {
        let _ = tell.send(Told::Headers(number, disk.check_segments()?));
    }
    let (mut next, mut before) = (Some(ChunkId::default()), None);
    while let Some(from) = next {
        let page = disk.copies(from, before, PAGE_COPIES, depth)?;
        before = page.copies.last().map(|checked| checked.chunk).or(before);
        next = page.next;
        let _ = tell.send(Told::Page(number, page));
    }
    Ok(())
}

fn audit(opened: &mut [Opened], tallies: &[Tally], aids: &mut Aids, report: &mut Report) {
    let failed = aids.root_failed.take();
    if let (Some(error), Some(metadata)) = (failed, &report.metadata) {
        report.findings.push(format!("store-{}: {error}", metadata.store));
    }
    let (Some(root), Some(metadata)) = (&mut aids.root, &mut report.metadata) else { return };
    let total = metadata.rows.objects + metadata.rows.parts;
    let bar = bar(total, "holding objects against their copies");
    let mut disks: BTreeMap<StoreId, &mut Disk<FileMedium>> =
        opened.iter_mut().map(|one| (one.disk.identity().1, &mut one.disk)).collect();
    let faults = tallies.iter().map(|tally| (tally.store(), &tally.faults)).collect();
    match root.audit(&mut disks, &faults, |so_far| bar.set_position(so_far.objects)) {
        Ok(found) => {
            let audit = &mut metadata.audit;
            (audit.objects, audit.chunks) = (found.objects, found.chunks);
            audit.copies_good = found.copies_good;
            audit.not_given = found.not_given.iter().map(|store| store.0).collect();
            audit.bad = found.bad.into_iter().map(Finding::from).collect();
        }
        Err(error) => report.findings.push(format!("store-{}: {error}", metadata.store)),
    }
    bar.finish_and_clear();
}

/// A bar on standard error, if that is a terminal.
fn bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    // A template is text of ours; the default style does if it were wrong.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar
}

/// How many segments there are for a use.
pub(super) fn count(segments: &BTreeMap<SegmentUse, u64>, of: SegmentUse) -> u64 {
    segments.get(&of).copied().unwrap_or(0)
}
