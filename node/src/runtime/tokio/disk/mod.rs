//! A file as a disk: worker threads take effects from a queue and report each one's end.
//!
//! Promises those of [`trine_core::disk`]: completed writes are covered by a later sync, since all
//! workers share one descriptor and `fdatasync` writes back all that was written before it.
//! Parts: [`open`] makes, opens and locks the file; [`ops`] carries out one effect; [`ahead`]
//! reserves space ahead of writes; here are the queue and the threads.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use trine_core::disk::DiskOp;
use trine_core::ids::DiskToken;

use super::super::{Disk, DiskOpenError, DiskSink};

mod ahead;
mod open;
mod ops;

use ops::{Scratch, Worker};

/// Threads of a disk. One can sit in `fdatasync`, the others read and write meanwhile; more would
/// only queue in the kernel on the three disks of an all-in-one process.
const WORKERS: usize = 4;

/// An open file that serves as a disk. Dropped, it finishes its queue, and the lock goes with it.
#[derive(Debug)]
pub struct FileDisk {
    queue: Arc<Queue>,
}

impl FileDisk {
    /// Open the file, made with `capacity` bytes (sparse) if it is not there.
    ///
    /// # Errors
    /// If it cannot be opened, made or locked, or threads cannot be started.
    pub fn open(path: &Path, capacity: u64, sink: DiskSink) -> Result<Self, DiskOpenError> {
        let worker = Arc::new(Worker::new(open::open(path, capacity)?));
        // Made before the threads: if one of them cannot be started, its drop ends the others.
        let disk = Self { queue: Arc::new(Queue::default()) };
        for number in 0..WORKERS {
            let (queue, worker, sink) = (disk.queue.clone(), worker.clone(), sink.clone());
            std::thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || {
                    let mut scratch = Scratch::default();
                    while let Some((token, op)) = queue.take() {
                        sink(token, worker.execute(op, &mut scratch));
                    }
                    // In this order: when the last thread lets go of the sink, none holds the file.
                    drop(worker);
                    drop(sink);
                })
                .map_err(|error| DiskOpenError::Io {
                    action: "start threads for",
                    path: path.to_owned(),
                    error,
                })?;
        }
        Ok(disk)
    }
}

impl Disk for FileDisk {
    fn submit(&self, token: DiskToken, op: DiskOp) {
        self.queue.lock().effects.push_back((token, op));
        self.queue.ready.notify_one();
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

/// Effects that wait for a worker. Its length is bounded by what a store has in flight.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    effects: VecDeque<(DiskToken, DiskOp)>,
    closed: bool,
}

impl Queue {
    /// The next effect, or `None` when the disk is dropped and the queue is empty.
    fn take(&self) -> Option<(DiskToken, DiskOp)> {
        let mut state = self.lock();
        loop {
            if let Some(effect) = state.effects.pop_front() {
                return Some(effect);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Each change to the state is one call, so that it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
