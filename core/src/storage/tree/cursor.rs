//! A cursor over the memtables and runs of a table, merged. It keeps its place in each of them: the next
//! row costs a step and a comparison, not a search in every source.

use bytes::Bytes;

use crate::rows::{Cursor, Miss, Row, Step};

use super::block::{Block, RowRef};
use super::filter::KeyHash;
use super::memtable::{MemoryRange, MemoryRow, Memtable};
use super::run::Run;
use super::view::TableView;

/// Rows that are passed one by one before the rest is searched.
const STEPS_MAX: usize = 4;

/// A place among the rows of a table; see [`Cursor`].
#[derive(Debug)]
pub(super) struct TableCursor<'a> {
    view: TableView<'a>,
    end: Bytes,
    /// Newest first.
    sources: Vec<Source<'a>>,
    /// The source with the least key; of several, the newest.
    lead: Option<usize>,
    /// The least key of the others: as long as the leader stays below it, nobody else counts.
    second: Option<&'a [u8]>,
    passed: u32,
}

/// A place in one source.
#[derive(Debug)]
enum Source<'a> {
    Memory { rows: &'a Memtable, rest: MemoryRange<'a>, head: Option<(&'a Bytes, &'a MemoryRow)> },
    Run(RunPlace<'a>),
}

/// A place in a run: row `at` of block `number`, which is looked into only when it has to be. The key
/// of a block's first row is known from the block index.
#[derive(Debug)]
struct RunPlace<'a> {
    run: &'a Run,
    number: usize,
    block: Option<&'a Block>,
    at: usize,
    /// Whether the first call has found the place.
    placed: bool,
}

impl<'a> TableCursor<'a> {
    /// A cursor from `from` on and before `end`. If all rows wanted are of one family, runs without it
    /// are left out.
    pub(super) fn new(
        view: TableView<'a>,
        family: Option<KeyHash>,
        from: &[u8],
        end: &[u8],
    ) -> Self {
        let memory = view.memtables().map(|rows| {
            let mut rest = rows.range(from);
            let head = rest.next();
            Source::Memory { rows, rest, head }
        });
        let runs = view
            .all_runs()
            .filter(|run| run.may_have(family, from, end))
            .map(|run| Source::Run(RunPlace { run, number: 0, block: None, at: 0, placed: false }));
        let sources = memory.chain(runs).collect();
        let end = Bytes::copy_from_slice(end);
        Self { view, end, sources, lead: None, second: None, passed: 0 }
    }

    /// The row it is at.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) fn row(&self) -> Result<Row, Miss> {
        let value = self.value()?;
        let (key, index) = match &self.sources[self.lead.expect("at a row")] {
            Source::Memory { head, .. } => {
                let (key, row) = head.expect("at a row");
                ((*key).clone(), row.index)
            }
            Source::Run(place) => {
                let row = place.row().expect("at a row");
                (row.key_bytes(), row.index())
            }
        };
        Ok(Row { key, value, index })
    }

    /// Find the leader anew.
    fn settle(&mut self) {
        (self.lead, self.second) = (None, None);
        let mut least: Option<&'a [u8]> = None;
        for (nth, source) in self.sources.iter().enumerate() {
            let Some(key) = source.key().filter(|key| *key < self.end.as_ref()) else { continue };
            if least.is_none_or(|least| key < least) {
                (self.lead, self.second) = (Some(nth), least);
                least = Some(key);
            } else if self.second.is_none_or(|second| key < second) {
                self.second = Some(key);
            }
        }
    }

    /// The leader has moved.
    fn settle_lead(&mut self, lead: usize) {
        let key = self.sources[lead].key().filter(|key| *key < self.end.as_ref());
        let leads = key.is_some_and(|key| self.second.is_none_or(|second| key < second));
        if !leads {
            self.settle();
        }
    }

    /// Move every source to `key` or behind.
    fn skip(&mut self, key: &[u8]) -> Result<(), Miss> {
        match self.lead {
            Some(lead) if self.second.is_none_or(|second| second >= key) => {
                if self.sources[lead].key().is_some_and(|head| head < key) {
                    self.passed += self.sources[lead].skip(key, &self.view)?;
                    self.settle_lead(lead);
                }
            }
            _ => {
                for source in &mut self.sources {
                    self.passed += source.skip(key, &self.view)?;
                }
                self.settle();
            }
        }
        Ok(())
    }

    /// Pass the row it is at, in every source that has it.
    fn pass(&mut self, lead: usize) -> Result<(), Miss> {
        let key = self.sources[lead].key();
        self.passed += 1;
        if self.second == key {
            for source in &mut self.sources {
                if source.key() == key {
                    source.advance(&self.view)?;
                }
            }
            self.settle();
        } else {
            self.sources[lead].advance(&self.view)?;
            self.settle_lead(lead);
        }
        Ok(())
    }
}

impl Cursor for TableCursor<'_> {
    fn seek(&mut self, key: &[u8], rows_max: u32) -> Result<Step<'_>, Miss> {
        let passed_max = self.passed.saturating_add(rows_max);
        self.skip(key)?;
        loop {
            let Some(lead) = self.lead else { return Ok(Step::End) };
            let deleted = self.sources[lead].is_tombstone(&self.view)?;
            if !deleted || self.passed >= passed_max {
                let key = self.sources[lead].key().expect("the leader is at a row");
                return Ok(if deleted { Step::Spent(key) } else { Step::Row(key) });
            }
            self.pass(lead)?;
        }
    }

    fn value(&self) -> Result<Bytes, Miss> {
        let value = match &self.sources[self.lead.expect("at a row")] {
            Source::Memory { head, .. } => head.and_then(|(_, row)| row.value.clone()),
            Source::Run(place) => self.view.value(place.row().expect("at a row"))?,
        };
        Ok(value.expect("deleted rows are passed"))
    }

    fn passed(&self) -> u32 {
        self.passed
    }
}

impl<'a> Source<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        match self {
            Self::Memory { head, .. } => head.map(|(key, _)| key.as_ref()),
            Self::Run(place) => place.key(),
        }
    }

    fn is_tombstone(&mut self, view: &TableView<'a>) -> Result<bool, Miss> {
        match self {
            Self::Memory { head, .. } => Ok(head.is_some_and(|(_, row)| row.value.is_none())),
            Self::Run(place) => {
                place.load(view)?;
                Ok(place.row().is_some_and(RowRef::is_tombstone))
            }
        }
    }

    fn advance(&mut self, view: &TableView<'a>) -> Result<(), Miss> {
        match self {
            Self::Memory { rest, head, .. } => *head = rest.next(),
            Self::Run(place) => place.advance(view)?,
        }
        Ok(())
    }

    /// Go to `key` or behind it. How many rows were passed, about.
    fn skip(&mut self, key: &[u8], view: &TableView<'a>) -> Result<u32, Miss> {
        match self {
            Self::Memory { rows, rest, head } => {
                let mut passed = 0;
                while head.is_some_and(|(head, _)| head.as_ref() < key) {
                    passed += 1;
                    if passed as usize > STEPS_MAX {
                        *rest = rows.range(key);
                    }
                    *head = rest.next();
                }
                Ok(passed)
            }
            Self::Run(place) => place.skip(key, view),
        }
    }
}

impl<'a> RunPlace<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        match self.row() {
            Some(row) => Some(row.key()),
            None => self.run.first_key(self.number),
        }
    }

    /// `None` if the block has not been looked into.
    fn row(&self) -> Option<RowRef<'a>> {
        self.block.and_then(|block| block.row(self.at))
    }

    fn load(&mut self, view: &TableView<'a>) -> Result<(), Miss> {
        if self.block.is_none() && self.run.first_key(self.number).is_some() {
            self.block = Some(view.block(self.run, self.number)?);
        }
        Ok(())
    }

    fn advance(&mut self, view: &TableView<'a>) -> Result<(), Miss> {
        self.load(view)?;
        self.at += 1;
        if self.block.is_none_or(|block| self.at >= block.len()) {
            self.go_to(self.number + 1);
            if planted!(BlockEdgeSkipped) {
                self.load(view)?;
                self.at = usize::from(self.block.is_some_and(|block| block.len() > 1));
            }
        }
        Ok(())
    }

    fn go_to(&mut self, number: usize) {
        (self.number, self.block, self.at) = (number, None, 0);
    }

    fn skip(&mut self, key: &[u8], view: &TableView<'a>) -> Result<u32, Miss> {
        if !core::mem::replace(&mut self.placed, true) {
            self.go_to(self.run.block_before(key));
        }
        let mut passed = 0;
        if let Some(block) = self.block {
            for _ in 0..STEPS_MAX {
                match block.row(self.at) {
                    Some(row) if row.key() < key => self.at += 1,
                    Some(_) => return Ok(passed),
                    None => break,
                }
                passed += 1;
            }
            self.at = block.partition_from(self.at, |other| other < key);
            if self.at < block.len() {
                return Ok(passed + 1);
            }
            self.go_to(self.number + 1);
        }
        if self.run.first_key(self.number).is_none_or(|first| first >= key) {
            return Ok(passed);
        }
        self.go_to(self.number.max(self.run.block_before(key)));
        if self.run.first_key(self.number).is_some_and(|first| first >= key) {
            return Ok(passed);
        }
        let block = view.block(self.run, self.number)?;
        (self.block, self.at) = (Some(block), block.partition(|other| other < key));
        if self.at >= block.len() {
            self.go_to(self.number + 1);
        }
        Ok(passed + 1)
    }
}
