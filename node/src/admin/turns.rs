//! How much is done for operators and other nodes at a time.
//!
//! Who asks how a node is must hear it while the node is busy; and what has begun goes on though its
//! asker has left, so that askers alone bound nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refused;
use super::schema::Ask;

/// Commands that are carried out at a time. They are people's, and few.
const ACTS_MAX: usize = 16;
/// Other nodes' questions that are answered at a time: each of a hundred nodes asks one at a time.
const LOOKS_MAX: usize = 128;

/// Room for what is being done.
#[derive(Debug)]
pub(crate) struct Turns {
    acts: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let (acts, looks) = (Semaphore::new(ACTS_MAX), Semaphore::new(LOOKS_MAX));
        Self { acts: Arc::new(acts), looks: Arc::new(looks) }
    }

    /// Room for one more, to be held until it is done. Nobody waits for it: two nodes that wait for each
    /// other would do so for ever.
    pub(super) fn take(&self, ask: &Ask) -> Result<OwnedSemaphorePermit, Refused> {
        let room = match ask {
            Ask::Status | Ask::Node | Ask::LookAtNodes | Ask::Audit { .. } => &self.looks,
            Ask::ZoneStop { .. }
            | Ask::ZoneStart { .. }
            | Ask::Stores { .. }
            | Ask::Replace(_)
            | Ask::ReplaceHere(_)
            | Ask::Add(_)
            | Ask::AddHere(_)
            | Ask::Weight { .. }
            | Ask::NodeAdd(_)
            | Ask::NodeMove(_)
            | Ask::NodeRemove { .. }
            | Ask::LevelRaise { .. } => &self.acts,
        };
        room.clone().try_acquire_owned().map_err(|_| {
            Refused::new("too much is being done here already: wait until some of it has ended")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_out_is_bounded_and_holds_up_no_question() {
        let turns = Turns::new();
        let act = Ask::Stores { start: true };
        let mut held: Vec<_> = (0..ACTS_MAX).map(|_| turns.take(&act).unwrap()).collect();
        assert!(turns.take(&act).unwrap_err().to_string().contains("too much is being done"));
        let looks: Vec<_> = (0..LOOKS_MAX).map(|_| turns.take(&Ask::Node).unwrap()).collect();
        assert!(turns.take(&Ask::Node).is_err());
        held.pop();
        held.push(turns.take(&act).unwrap());
        drop(looks);
        assert!(turns.take(&Ask::Node).is_ok());
    }
}
