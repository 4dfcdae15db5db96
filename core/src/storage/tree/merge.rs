//! The next row of several sorted sources. Pure: a source that has to read first says so.

use crate::ids::LogIndex;

/// What a source has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// A row: its key, and the entry that wrote it.
    Row(&'a [u8], LogIndex),
    /// It is not in memory.
    Unread,
    /// No more rows.
    End,
}

/// Rows in ascending order of their keys, each key once.
pub(crate) trait Sorted {
    /// The next row.
    fn head(&self) -> Head<'_>;
}

/// What all sources together have next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The row of this source; it is the newest state of the least key.
    Row(usize),
    /// Which row comes next is not known before this source has read.
    Unread(usize),
    /// No source has more rows.
    End,
}

/// The next row. `same` is filled with all sources whose next row has its key: all of them go on
/// behind it.
pub(crate) fn next<S: Sorted>(sources: &[S], same: &mut Vec<usize>) -> Next {
    same.clear();
    let mut first: Option<(&[u8], LogIndex, usize)> = None;
    for (source, sorted) in sources.iter().enumerate() {
        let (key, index) = match sorted.head() {
            Head::Row(key, index) => (key, index),
            Head::Unread => return Next::Unread(source),
            Head::End => continue,
        };
        let order = first.map_or(core::cmp::Ordering::Less, |(least, ..)| key.cmp(least));
        if order.is_lt() {
            same.clear();
        }
        if order.is_le() {
            same.push(source);
        }
        // Of the same key, the row of the later entry counts.
        let newer = first.is_none_or(|(_, newest, _)| match planted!(MergeKeepsOlder) {
            false => index > newest,
            true => index < newest,
        });
        if order.is_lt() || (order.is_eq() && newer) {
            first = Some((key, index, source));
        }
    }
    first.map_or(Next::End, |(.., source)| Next::Row(source))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    struct Source {
        rows: Vec<(Vec<u8>, LogIndex)>,
        at: usize,
        /// Rows up to here are in memory.
        read: usize,
    }

    impl Sorted for Source {
        fn head(&self) -> Head<'_> {
            match self.rows.get(self.at) {
                None => Head::End,
                Some(_) if self.at >= self.read => Head::Unread,
                Some((key, index)) => Head::Row(key, *index),
            }
        }
    }

    #[test]
    fn merged_sources_equal_a_map_in_which_the_newest_wins() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut model: BTreeMap<Vec<u8>, LogIndex> = BTreeMap::new();
            let mut sources = Vec::new();
            for _ in 0..rng.below(6) {
                let mut rows = BTreeMap::new();
                for _ in 0..rng.below(40) {
                    let key = vec![b'k'; 1 + rng.below(3) as usize]
                        .into_iter()
                        .chain([rng.below(30) as u8])
                        .collect::<Vec<u8>>();
                    // Sources in any order of age.
                    let index = LogIndex(rng.next_u64() >> 8);
                    rows.insert(key, index);
                }
                for (key, index) in &rows {
                    let newest = model.entry(key.clone()).or_insert(*index);
                    *newest = (*newest).max(*index);
                }
                sources.push(Source { rows: rows.into_iter().collect(), at: 0, read: 0 });
            }
            let mut merged = Vec::new();
            let mut same = Vec::new();
            let mut reads = 0;
            loop {
                match next(&sources, &mut same) {
                    Next::End => break,
                    Next::Unread(source) => {
                        reads += 1;
                        sources[source].read += 1 + rng.below(9) as usize;
                    }
                    Next::Row(source) => {
                        let Head::Row(key, index) = sources[source].head() else { panic!() };
                        merged.push((key.to_vec(), index));
                        assert!(same.contains(&source));
                        same.iter().for_each(|source| sources[*source].at += 1);
                    }
                }
            }
            assert!(merged.iter().map(|(key, index)| (key, index)).eq(&model), "seed {seed}");
            let rows: usize = sources.iter().map(|source| source.rows.len()).sum();
            assert!(reads <= rows, "nothing is read twice");
        }
    }
}
