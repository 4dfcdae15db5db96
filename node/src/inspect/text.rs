//! A report for people to read.

use std::fmt::Write as _;

use super::schema::{MetadataReport, Report, Share, StoreReport};

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    if let Some(first) = report.stores.first() {
        writeln!(out, "cluster {}", first.cluster)?;
    }
    for store in &report.stores {
        self::store(out, store, report)?;
    }
    match &report.metadata {
        Some(metadata) => self::metadata(out, metadata)?,
        None if !report.stores.is_empty() => {
            writeln!(out, "\nno whole replica of the root range: nothing is said of objects")?;
        }
        None => {}
    }
    if report.stores.is_empty() && report.findings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    let verdict = match (report.findings.len(), report.failures.len(), report.verified) {
        (0, 0, true) => "sound: every copy was read and verifies".to_owned(),
        (0, 0, false) => "nothing is wrong with what was read; copies were not".to_owned(),
        (0, failed, _) => format!("NOT ALL COULD BE INSPECTED ({failed}); the rest is sound"),
        (found, 0, _) => format!("DAMAGED: {found} findings"),
        (found, failed, _) => {
            format!("DAMAGED: {found} findings, and {failed} could not be inspected")
        }
    };
    writeln!(out, "{verdict}")
}

fn store(out: &mut String, store: &StoreReport, report: &Report) -> std::fmt::Result {
    let StoreReport { path, zone, incarnation, geometry, journal, segments, copies, .. } = store;
    writeln!(out, "\nstore {} (zone {zone}): {path}", store.store)?;
    writeln!(
        out,
        "  start {incarnation}, format {}, capacity {}, journal {}, segments of {} bytes, blocks of {}",
        store.format_version,
        bytes(geometry.capacity),
        bytes(geometry.journal),
        geometry.segment,
        geometry.tree_block
    )?;
    let state = match (journal.damaged_at, journal.torn) {
        (Some(at), _) => format!("DAMAGED at {at}"),
        (None, true) => "its last frame is torn, by a crash".to_owned(),
        (None, false) => "whole".to_owned(),
    };
    writeln!(
        out,
        "  journal: {} to {}, synced to {}, {state}",
        journal.tail, journal.end, journal.synced
    )?;
    writeln!(
        out,
        "  segments: {} of {} free; {} open and {} sealed with chunks, {} of runs, {} of values, {} being \
         freed",
        segments.free,
        segments.total,
        segments.chunks_open,
        segments.chunks_sealed,
        segments.runs,
        segments.values,
        segments.being_freed
    )?;
    for table in &store.tables {
        writeln!(
            out,
            "  table {}: {} runs with {} rows ({} tombstones), {}",
            table.table,
            table.runs,
            table.rows,
            table.tombstones,
            bytes(table.bytes)
        )?;
    }
    for replica in &store.replicas {
        let applied = match (&replica.error, replica.applied) {
            (Some(error), _) => format!("NO STATE: {error}"),
            (None, applied) => {
                let sum = match replica.rows_add_up {
                    Some(true) => "which add up",
                    Some(false) => "which do NOT add up",
                    None => "which cannot be read",
                };
                let (applied, rows) = (applied.unwrap_or(0), replica.rows.unwrap_or(0));
                format!("applied {applied}, {rows} rows, {sum}")
            }
        };
        let suspect = if replica.suspect { ", DISTRUSTS its log" } else { "" };
        writeln!(
            out,
            "  replica of range {}: log {} to {} (term {}), rows to {}, {applied}{suspect}",
            replica.range, replica.log_after, replica.log_last, replica.last_term, replica.flushed
        )?;
    }
    writeln!(out, "  copies: {}", share(&copies.total))?;
    if report.verified {
        writeln!(
            out,
            "    read {}: {} sound, {} NOT ({} contradict the index)",
            bytes(copies.read_bytes),
            copies.sound,
            copies.bad.len(),
            copies.contradicting
        )?;
    }
    for (what, of) in [
        ("referenced", &copies.referenced),
        ("dead, to be freed", &copies.garbage),
        ("in no row", &copies.no_row),
        ("of unknown owners", &copies.unknown),
    ] {
        if of.blobs > 0 {
            writeln!(out, "    {what}: {}", share(of))?;
        }
    }
    if copies.misplaced.chunks > 0 {
        let Share { chunks, bytes: len, .. } = copies.misplaced;
        writeln!(out, "    elsewhere by the map: {chunks} chunks, {}", bytes(len))?;
    }
    for note in &store.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

fn metadata(out: &mut String, metadata: &MetadataReport) -> std::fmt::Result {
    let MetadataReport { store, applied, sessions, rows, audit } = metadata;
    writeln!(out, "\nmetadata (of store {store}, after entry {applied})")?;
    writeln!(
        out,
        "  {} buckets, {} objects of {} ({} of them inline), {} uploads under way with {} parts, {} sessions",
        rows.buckets,
        rows.objects,
        bytes(rows.object_bytes),
        rows.inline_objects,
        rows.uploads,
        rows.parts,
        sessions
    )?;
    writeln!(
        out,
        "  {} blobs referenced {} times, {} dead ones of {} to be freed",
        rows.blobs,
        rows.references,
        rows.garbage_blobs,
        bytes(rows.garbage_bytes)
    )?;
    writeln!(out, "  {} rows of {}", rows.rows, bytes(rows.bytes))?;
    writeln!(
        out,
        "  held against their copies: {} objects and parts, {} chunks, {} copies good, {} bad",
        audit.objects,
        audit.chunks,
        audit.copies_good,
        audit.bad.len()
    )?;
    if !audit.not_given.is_empty() {
        let stores: Vec<String> = audit.not_given.iter().map(u64::to_string).collect();
        writeln!(out, "  not given, and not looked at: stores {}", stores.join(", "))?;
    }
    Ok(())
}

fn share(share: &Share) -> String {
    format!("{} blobs, {} chunks, {}", share.blobs, share.chunks, bytes(share.bytes))
}

fn bytes(count: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in units {
        if count >= unit {
            let tenths = u128::from(count % unit) * 10 / u128::from(unit);
            return format!("{}.{tenths} {name}", count / unit);
        }
    }
    format!("{count} B")
}
