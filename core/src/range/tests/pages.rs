//! Listings over a real table: memtable and runs, with deleted and replaced objects in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::support::*;
use crate::ids::*;
use crate::range::Range;
use crate::range::command::*;
use crate::range::keys;
use crate::request::ListEntry;
use crate::rng::Rng;
use crate::rows::family;
use crate::storage::segment::allocator::Segments;
use crate::storage::segment::edit::TableId;
use crate::storage::segment::layout::Layout;
use crate::storage::tree::block::Block;
use crate::storage::tree::cache::{BlockCache, Cached};
use crate::storage::tree::run::block_span;
use crate::storage::tree::run_builder::{RunSpec, build};
use crate::storage::tree::table::Table;
use crate::storage::tree::view::TableView;

/// A range over a table whose blocks are all in memory.
struct Store {
    range: Range,
    table: Table,
    cache: BlockCache,
    layout: Layout,
    free: Segments,
    memtable_bytes: u64,
}

impl Store {
    fn new(memtable_bytes: u64, layout: Layout) -> Self {
        let range = Range::load(RangeId(1), &MapRows::new(0, 0)).unwrap();
        let (table, cache) = (Table::default(), BlockCache::new(u64::MAX / 2));
        let free = Segments::new(layout.count, Incarnation(1));
        let mut store = Self { range, table, cache, layout, free, memtable_bytes };
        store.apply(vec![create_bucket("bucket", "alice")]);
        store
    }

    fn rows(&self) -> TableView<'_> {
        TableView::new(&self.table, &self.cache, &self.layout)
    }

    fn apply(&mut self, bodies: Vec<CommandBody>) {
        let index = self.range.applied().next();
        let system = |body| Command { origin: Origin::System, body };
        let batch = batch(1, bodies.into_iter().map(system).collect());
        let view = TableView::new(&self.table, &self.cache, &self.layout);
        let applied = self.range.apply(&view, index, &batch).unwrap();
        self.table.write(index, &applied.writes);
        if self.table.active.bytes() >= self.memtable_bytes {
            self.flush(index);
        }
    }

    fn flush(&mut self, through: LogIndex) {
        let spec = RunSpec {
            table: TableId::Range(RangeId(1)),
            after: self.table.flushed,
            through,
            bare: LogIndex(0),
            part_of: None,
            last: true,
            rows_max: self.table.active.len(),
        };
        let image = build(self.layout, spec, &self.table.active, &mut self.free).unwrap();
        let run = &image.run.descriptor;
        let mut blocks: BTreeMap<u64, Bytes> = BTreeMap::new();
        for (offset, parts) in image.body {
            let mut at = offset;
            for part in parts {
                let len = part.len() as u64;
                blocks.insert(at, part);
                at += len;
            }
        }
        for number in 0..run.data_blocks {
            let at = block_span(run, &self.layout, number);
            let block = Block::parse(&blocks[&at.offset], &self.layout, run, number).unwrap();
            self.cache.insert(at, Cached::Block(block), false);
        }
        self.table.runs.insert(0, image.run);
        self.table.active = Default::default();
        self.table.flushed = through;
    }

    fn page(&self, request: &ScanRequest) -> Scanned<crate::request::ListedObject> {
        match self
            .range
            .read(
                &self.rows(),
                &Read::Scan(request.clone()),
                &mut crate::range::Progress::default(),
            )
            .unwrap()
        {
            ReadReply::Scan(page) => page,
            reply => panic!("{reply:?}"),
        }
    }
}

fn small(memtable_bytes: u64) -> Store {
    let store = StoreId(7);
    let layout = Layout { store, area: 0, segment: 128 << 10, count: 4000, tree_block: 4096 };
    Store::new(memtable_bytes, layout)
}

#[test]
fn listings_and_lookups_over_runs_agree_with_a_set() {
    let mut store = small(24 << 10);
    let mut rng = Rng::new(8);
    let mut model = BTreeSet::new();
    for _ in 0..150 {
        let bodies = (0..8).map(|_| {
            let key =
                format!("{}/{:03}", ["a", "b", "c\0d"][rng.below(3) as usize], rng.below(200));
            if rng.chance(2, 3) {
                model.insert(key.clone());
                put(1, &key, 1)
            } else {
                model.remove(&key);
                delete(1, &key)
            }
        });
        store.apply(bodies.collect());
    }
    assert!(store.table.runs.len() > 8, "{}", store.table.runs.len());
    for delimiter in [None, Some("/")] {
        for prefix in ["", "a", "b/1", "c\0"] {
            let mut request = ScanRequest { limit: 7, ..scan(1, prefix, delimiter) };
            let mut found = Vec::new();
            loop {
                let page = store.page(&request);
                found.extend(page.entries.into_iter().map(|entry| match entry {
                    ListEntry::Item(item) => (true, item.key.as_str().to_owned()),
                    ListEntry::Prefix(prefix) => (false, prefix),
                }));
                let Some(next) = page.next else { break };
                request.start = next;
            }
            let expected = super::model::Model::list(
                model.iter().map(String::as_str),
                &scan(1, prefix, delimiter),
            );
            assert_eq!(found, expected, "{prefix:?} {delimiter:?}");
        }
    }
    for n in 0..200 {
        let key = format!("a/{n:03}");
        let read = Read::Object { target: target(1, &key), with_body: true };
        let reply =
            store.range.read(&store.rows(), &read, &mut crate::range::Progress::default()).unwrap();
        let ReadReply::Object(found) = reply else { panic!("{reply:?}") };
        assert_eq!(found.is_some(), model.contains(&key), "{key}");
    }
}

/// Filters know keys by their families: that of an object has all its rows and no others.
#[test]
fn rows_of_an_object_are_one_family_and_no_others_are_in_it() {
    let order = Order { index: LogIndex(1), position: 0 };
    let names = ["a", "a\0", "a\0b", "a\u{1}", "b"];
    let blob = BlobId { session: SessionId(1), sequence: BlobSequence(1) };
    let mut families = BTreeMap::new();
    for name in names {
        for bucket in [1, 256] {
            let target = target(bucket, name);
            let rows = [
                keys::Key::Version { target: target.clone(), order },
                keys::Key::Body { target: target.clone(), order },
                keys::Key::Upload { target: target.clone(), order },
                keys::Key::Part { target: target.clone(), upload: order, number: 1 },
                keys::Key::Blob { target: target.clone(), blob },
            ];
            for row in rows {
                let key = row.encode();
                let family = family(&key).expect("an object has a family");
                let owner = families.entry(family.to_vec()).or_insert_with(|| target.clone());
                assert_eq!(*owner, target);
                let unsplittable = &keys::unsplittable(&target)[0];
                assert!(unsplittable.start == family && unsplittable.end > key);
            }
            let versions = keys::versions(&target);
            assert!(versions.end.starts_with(family(&versions.start).unwrap()));
        }
    }
    assert_eq!(families.len(), names.len() * 2);
    assert_eq!(family(&keys::Key::Header.encode()), None);
}
