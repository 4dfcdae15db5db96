//! From what the core has found to what is printed.

use std::path::Path;

use trine_core::ids::StoreId;
use trine_core::inspect::{Disk, ReplicaReport, RowsReport, SegmentUse, TableShape};
use trine_core::storage::superblock::{CopyFault, VERSION};

use super::file::FileMedium;
use super::schema::{Geometry, Journal, Replica, Report, Rows, Segments, StoreReport, Table};
use super::survey::count;

/// A disk, without its copies and replicas.
pub(super) fn store(path: &Path, file_bytes: u64, disk: &Disk<FileMedium>) -> StoreReport {
    let superblock = disk.superblock();
    let geometry = superblock.geometry;
    let journal = disk.journal();
    let uses = disk.segments().unwrap_or_default();
    let tables = disk.tables().unwrap_or_default();
    StoreReport {
        path: path.display().to_string(),
        file_bytes,
        cluster: format!("{:032x}", superblock.cluster.0),
        store: superblock.store.0,
        zone: superblock.zone.letter().to_string(),
        incarnation: superblock.incarnation.0,
        // Those of another version are not opened.
        format_version: VERSION,
        geometry: Geometry {
            capacity: geometry.capacity,
            journal: geometry.journal,
            journal_piece: geometry.journal_piece,
            segment: geometry.segment,
            tree_block: geometry.tree_block,
        },
        superblock_faults: disk
            .superblock_faults()
            .map(|(number, fault)| (number, copy_fault(fault)))
            .collect(),
        journal: Journal {
            tail: journal.tail,
            end: journal.end,
            synced: journal.synced,
            prepared: journal.prepared,
            torn: journal.torn,
            damaged_at: journal.damaged_at,
        },
        segments: Segments {
            total: uses.values().sum(),
            free: count(&uses, SegmentUse::Free),
            being_freed: count(&uses, SegmentUse::Reserved),
            chunks_open: count(&uses, SegmentUse::ChunksOpen),
            chunks_sealed: count(&uses, SegmentUse::ChunksSealed),
            runs: count(&uses, SegmentUse::Run),
            values: count(&uses, SegmentUse::Values),
            ..Segments::default()
        },
        tables: tables.iter().map(|shape| table(shape, geometry.tree_block)).collect(),
        ..StoreReport::default()
    }
}

fn copy_fault(fault: CopyFault) -> String {
    match fault {
        CopyFault::Blank => "blank".to_owned(),
        CopyFault::Damaged => "damaged".to_owned(),
        CopyFault::Version(version) => format!("of format version {version}"),
    }
}

fn table(shape: &TableShape, block: u32) -> Table {
    Table {
        table: shape.range.map_or_else(|| "chunks".to_owned(), |range| range.to_string()),
        runs: shape.runs,
        rows: shape.rows,
        tombstones: shape.tombstones,
        bytes: shape.blocks * u64::from(block),
        through: shape.through.0,
        broken: shape.broken,
    }
}

/// A replica.
pub(super) fn replica(report: &ReplicaReport) -> Replica {
    let state = report.state.as_ref().ok();
    Replica {
        range: report.range.0,
        suspect: report.suspect,
        log_after: report.base.0,
        log_last: report.last.0,
        last_term: report.last_term.0,
        flushed: report.flushed.0,
        applied: state.map(|state| state.applied.0),
        state_hash: state.map(|state| format!("{:032x}", state.hash.0)),
        map_epoch: state.map(|state| state.map_epoch.0),
        error: report.state.as_ref().err().map(ToString::to_string),
        rows: None,
        rows_add_up: None,
    }
}

/// The rows of the root range.
pub(super) fn rows(report: &RowsReport) -> Rows {
    Rows {
        rows: report.rows,
        bytes: report.bytes,
        buckets: report.buckets,
        objects: report.objects,
        object_bytes: report.object_bytes,
        inline_objects: report.inline,
        uploads: report.uploads,
        parts: report.parts,
        completed_uploads: report.completed,
        blobs: report.blobs,
        references: report.references,
        garbage_blobs: report.garbage,
        garbage_bytes: report.garbage_bytes,
        bad: report.bad,
        add_up: report.adds_up,
    }
}

/// Add a line for everything in the report that is damaged or missing.
pub(super) fn findings(report: &mut Report) {
    let mut found = Vec::new();
    for store in &report.stores {
        of_store(store, &mut found);
    }
    if let Some(metadata) = &report.metadata {
        for bad in &metadata.audit.bad {
            found.push(format!(
                "{}: chunk {} at {}: {}",
                bad.key,
                bad.chunk,
                StoreId(bad.store),
                bad.error
            ));
        }
    }
    report.findings.append(&mut found);
}

fn of_store(store: &StoreReport, found: &mut Vec<String>) {
    let id = StoreId(store.store);
    for (number, fault) in &store.superblock_faults {
        found.push(format!("{id}: copy {number} of the superblock is {fault}"));
    }
    if store.file_bytes < store.geometry.capacity {
        found.push(format!(
            "{id}: the file was cut short: it has {} bytes, and the superblock says {}",
            store.file_bytes, store.geometry.capacity
        ));
    }
    if let Some(at) = store.journal.damaged_at {
        found.push(format!(
            "{id}: the journal is damaged at position {at}, and had been synced up to {}",
            store.journal.synced
        ));
    }
    for replica in store.replicas.iter().filter(|replica| replica.suspect) {
        found.push(format!("{id}: it distrusts its log of range-{}", replica.range));
    }
    for table in store.tables.iter().filter(|table| table.broken) {
        found.push(format!("{id}: a run of the table of {} cannot be read", table.table));
    }
    if !store.chunk_index_sound {
        found.push(format!(
            "{id}: its index of chunks is lost; what is said here of its chunks was found in the \
             segments"
        ));
    }
    for (segment, reason) in &store.segments.bad_headers {
        found.push(format!("{id}: the header of segment {segment}: {reason}"));
    }
    for bad in &store.copies.bad {
        let owner = bad.owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
        found.push(format!("{id}: chunk {}{owner}: {}", bad.chunk, bad.error));
    }
}
