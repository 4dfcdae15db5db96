//! What a machine holds in memory, by kind, each against its limit. For operators and checkers: what
//! enforces a limit is where the kind is held.

/// About how many kinds a machine has.
const KINDS: usize = 24;

/// One kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// What it is, as documents call it.
    pub name: &'static str,
    /// Bytes held now, as the machine counts them.
    pub bytes: u64,
    /// Most that it may be; `None` for what grows with the data on the disk.
    pub limit: Option<u64>,
}

/// All that grows with load or data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryAccount {
    /// By kind; each name once.
    pub uses: Vec<MemoryUse>,
}

impl MemoryAccount {
    /// Count one kind.
    ///
    /// # Panics
    /// If it was counted before, where debug assertions are on.
    pub fn add(&mut self, name: &'static str, bytes: u64, limit: impl Into<Option<u64>>) {
        debug_assert!(self.uses.iter().all(|other| other.name != name), "{name} is counted once");
        if self.uses.is_empty() {
            self.uses.reserve(KINDS);
        }
        self.uses.push(MemoryUse { name, bytes, limit: limit.into() });
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.uses.iter().map(|one| one.bytes).sum()
    }

    /// The first kind that is over its limit.
    pub fn over(&self) -> Option<&MemoryUse> {
        self.uses.iter().find(|one| one.limit.is_some_and(|limit| one.bytes > limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_finds_what_is_over() {
        let mut account = MemoryAccount::default();
        account.add("a", 5, 5);
        account.add("b", 7, None);
        assert_eq!((account.total(), account.over()), (12, None));
        account.add("c", 9, 8);
        assert_eq!(account.over().map(|one| one.name), Some("c"));
    }
}
