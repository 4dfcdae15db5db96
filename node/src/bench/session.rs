//! An endpoint under measurement: its bucket, the objects that were made there, one measurement
//! after another, and the cleaning up.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use tokio::task::JoinSet;
use trine_core::rng::Rng;

use super::client::answer::Failure;
use super::client::{Ask, Client, Expect, From, Target, Upload};
use super::content::Content;
use super::error::BenchError;
use super::measure::Recorder;
use super::phase::{Mark, Marking, Phase, Stop};
use super::plan::{Cell, Limit, Settings, Work};
use super::process::Watch;
use super::progress::{Progress, eprintln_lossy};
use super::size::SizeSpec;
use super::worker::{Job, Mixed, Worker, list_page};
use super::workload::{Chooser, KeyOrder, KeySet, Operation, Spread};

/// How many objects are made or deleted at once, beside the measurements.
const HELPERS: usize = 16;
/// Keys of one DeleteObjects: the limit of S3.
const BATCH_KEYS: u64 = 1000;
/// How many objects there are to read, unless the user says so.
const READ_KEYS_MAX: u64 = 1000;
const READ_BYTES_MAX: u64 = 256 << 20;
/// And to list.
const LIST_KEYS: u64 = 10_000;
/// And to delete.
const DELETE_KEYS_MAX: u64 = 10_000;
const DELETE_BYTES_MAX: u64 = 1 << 30;
/// Between two looks at servers and the progress bar.
const LOOK: Duration = Duration::from_millis(250);
/// How long operations may still take once the user wants an end.
const GRACE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Session {
    target: Arc<Target>,
    content: Arc<Content>,
    settings: Arc<Settings>,
    stop: Arc<Stop>,
    /// All that was made here.
    sets: Vec<Arc<KeySet>>,
    made_bucket: bool,
    /// What stands before the title of a measurement.
    label: String,
}

/// What came of a measurement.
pub(crate) struct Measured {
    pub(crate) recorder: Recorder,
    pub(crate) elapsed: Duration,
    pub(crate) ended: Ended,
    pub(crate) servers: Vec<Watch>,
    pub(crate) client: Option<Watch>,
    pub(crate) threads: usize,
    pub(crate) marks: Vec<Mark>,
}

/// Why a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// At its limit.
    Limit,
    /// There was nothing left to delete.
    Exhausted,
    /// The user wanted it.
    Stopped,
}

impl Session {
    /// Look whether the endpoint and the bucket can be used, and make the bucket if it is missing.
    ///
    /// # Errors
    /// [`BenchError::Endpoint`], which says what to do.
    pub(crate) async fn open(
        target: Target,
        content: Arc<Content>,
        settings: Arc<Settings>,
        stop: Arc<Stop>,
        label: &str,
    ) -> Result<Self, BenchError> {
        let target = Arc::new(target);
        let (sets, made_bucket, label) = (Vec::new(), false, label.to_owned());
        let mut session = Self { target, content, settings, stop, sets, made_bucket, label };
        let mut client = session.client(0)?;
        match list_page(&mut client, "", 1, &From::Start).await {
            Ok(_) => return Ok(session),
            Err(failure) if is_missing(&failure) && session.settings.create_bucket => {}
            Err(failure) => return Err(session.refused(&failure)),
        }
        let region = &session.target.credentials.region;
        let document = if region == "us-east-1" {
            Bytes::new()
        } else {
            let region = quick_xml::escape::escape(region.as_str());
            Bytes::from(format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ))
        };
        let (upload, expect) = (Upload::Document(document), Expect::Document);
        let ask = Ask { method: Method::PUT, key: "", query: "", upload, expect };
        match client.ask(ask).await {
            Ok(_) => session.made_bucket = true,
            // Somebody else was quicker.
            Err(failure) if failure.code() == "BucketAlreadyOwnedByYou" => {}
            Err(failure) => return Err(session.refused(&failure)),
        }
        Ok(session)
    }

    fn refused(&self, failure: &Failure) -> BenchError {
        let endpoint = self.target.endpoint.to_string();
        BenchError::of_first(&endpoint, &self.target.bucket, failure)
    }

    pub(crate) fn client(&self, place: usize) -> Result<Client, BenchError> {
        let client = Client::new(Arc::clone(&self.target), Arc::clone(&self.content), place);
        client.map_err(|failure| self.refused(&failure))
    }

    /// Carry out one measurement.
    ///
    /// # Errors
    /// If it could not begin. That requests fail is a result.
    pub(crate) async fn measure(&mut self, cell: &Cell) -> Result<Measured, BenchError> {
        if self.target.hashes_first() {
            for len in cell.sizes.sizes() {
                if cell.operation == Operation::Multipart {
                    self.content.hash_parts_ahead(*len, cell.work.part_bytes);
                } else {
                    self.content.hash_ahead(&[*len]);
                }
            }
        }
        let title =
            format!("{}{} {} c={}", self.label, cell.operation, cell.sizes, cell.concurrency);
        let job = Arc::new(self.job(cell).await?);
        let lanes = match cell.operation {
            Operation::Multipart => cell.work.part_parallel,
            _ => 0,
        };
        let mut workers = self.workers(cell.concurrency, lanes)?;
        if !self.settings.warm_up.is_zero() {
            let mut limit = Limit { time: Some(self.settings.warm_up), operations: None };
            if let Job::Delete { set } = &*job {
                limit.operations = Some(set.prepared.load(Ordering::Relaxed) / 10);
            }
            let phase = Phase::new(limit, &self.stop, Marking::default());
            let title = format!("{title}, warm-up");
            workers = self.run(workers, phase, &job, title, &mut []).await?.1;
        }
        let limit = self.settings.limit;
        let measured = self.measured(workers, limit, Marking::default(), &job, title).await?;
        if let Job::Delete { set } = &*job
            && (measured.ended == Ended::Stopped || measured.recorder.total().failures() > 0)
        {
            // It is not known what is still there: all of it is deleted again.
            set.deleted.store(0, Ordering::Relaxed);
        }
        Ok(measured)
    }

    /// Put `objects` objects, measuring it, with a mark every so many of them.
    ///
    /// # Errors
    /// As [`Self::measure`], and if an object cannot be put.
    pub(crate) async fn fill(
        &mut self,
        set: &Arc<KeySet>,
        objects: u64,
        concurrency: usize,
        every: u64,
    ) -> Result<Measured, BenchError> {
        if self.target.hashes_first() {
            self.content.hash_ahead(set.sizes.sizes());
        }
        let workers = self.workers(concurrency, 0)?;
        let limit = Limit { time: None, operations: Some(objects) };
        let marking = Marking { every, pids: self.settings.server_pids.clone() };
        let job = Arc::new(Job::Fill { set: Arc::clone(set), from: 0 });
        let title = format!("{}fill {} c={concurrency}", self.label, set.sizes);
        self.measured(workers, limit, marking, &job, title).await
    }

    /// A set of objects of this run.
    pub(crate) fn set(
        &mut self,
        name: &str,
        sizes: &SizeSpec,
        work: (KeyOrder, bool),
    ) -> Arc<KeySet> {
        let prefix = format!("{}{name}/", self.settings.prefix);
        if let Some(set) = self.sets.iter().find(|set| set.prefix == prefix) {
            return Arc::clone(set);
        }
        let (order, prepare) = work;
        let set = Arc::new(KeySet {
            prefix,
            sizes: sizes.clone(),
            order,
            seed: self.settings.seed,
            prepared: AtomicU64::new(0),
            next: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            borrowed: !prepare,
        });
        self.sets.push(Arc::clone(&set));
        set
    }

    /// What the workers are to do, with all objects there that it needs.
    async fn job(&mut self, cell: &Cell) -> Result<Job, BenchError> {
        let Cell { operation, sizes, concurrency, work } = cell;
        let own = (work.order, true);
        let name = sizes.name();
        Ok(match operation {
            Operation::Put => {
                let set = self.set(&format!("put/{name}"), sizes, own);
                let spread = work.spread.unwrap_or(Spread::Sequential);
                // Spread over keys that come again, or new ones.
                let keys = match (work.keys, spread) {
                    (None, Spread::Sequential) => None,
                    (keys, _) => Some(keys.unwrap_or(READ_KEYS_MAX)),
                };
                let of = keys.map(|keys| (Chooser::new(spread, keys, work.zipf_exponent), keys));
                Job::Put { set, of }
            }
            Operation::Get | Operation::Head => {
                let (set, chooser) = self.readable(sizes, work).await?;
                match operation {
                    Operation::Get => Job::Get { set, chooser },
                    _ => Job::Head { set, chooser },
                }
            }
            Operation::List => {
                let set = self.set(&format!("list/{name}"), sizes, (work.order, work.prepare));
                self.prepare(&set, work.keys.unwrap_or(LIST_KEYS)).await?;
                let chooser = match work.spread.unwrap_or(Spread::Uniform) {
                    Spread::Sequential => None,
                    spread => Some(chooser(&set, spread, work)),
                };
                Job::List { set, page: work.page, chooser }
            }
            Operation::Delete => {
                let count = self.sets.len();
                let set = self.set(&format!("delete/{name}-{count}"), sizes, own);
                let fits = DELETE_BYTES_MAX / sizes.largest().max(1);
                let fits = fits.clamp(100, DELETE_KEYS_MAX);
                let of_limit = self.settings.limit.operations.map(|most| {
                    // A tenth goes with the warm-up.
                    if self.settings.warm_up.is_zero() { most } else { most + most / 9 + 1 }
                });
                let keys = work.keys.or(of_limit).unwrap_or(fits);
                self.prepare(&set, keys.max(*concurrency as u64)).await?;
                Job::Delete { set }
            }
            Operation::Multipart => {
                let set = self.set(&format!("multipart/{name}"), sizes, own);
                Job::Multipart { set, part_bytes: work.part_bytes }
            }
            Operation::Mixed => {
                let (read, chooser) = if work.mix.reads() {
                    self.readable(sizes, work).await?
                } else {
                    (self.set(&format!("read/{name}"), sizes, own), Chooser::Uniform)
                };
                let written = self.set(&format!("mixed/{name}"), sizes, own);
                let (mix, fresh, page) = (work.mix.clone(), Mutex::default(), work.page);
                Job::Mixed(Mixed { mix, read, chooser, written, fresh, page })
            }
        })
    }

    async fn readable(
        &mut self,
        sizes: &SizeSpec,
        work: &Work,
    ) -> Result<(Arc<KeySet>, Chooser), BenchError> {
        let name = format!("read/{}", sizes.name());
        let set = self.set(&name, sizes, (work.order, work.prepare));
        let fits = (READ_BYTES_MAX / sizes.largest().max(1)).clamp(1, READ_KEYS_MAX);
        self.prepare(&set, work.keys.unwrap_or(fits)).await?;
        let chooser = chooser(&set, work.spread.unwrap_or(Spread::Uniform), work);
        Ok((set, chooser))
    }

    /// See to it that so many objects are there.
    async fn prepare(&mut self, set: &Arc<KeySet>, keys: u64) -> Result<(), BenchError> {
        let from = set.prepared.load(Ordering::Relaxed);
        if from >= keys || set.borrowed {
            set.prepared.store(keys.max(from), Ordering::Relaxed);
            return Ok(());
        }
        if self.target.hashes_first() {
            self.content.hash_ahead(set.sizes.sizes());
        }
        let limit = Limit { time: None, operations: Some(keys - from) };
        let phase = Phase::new(limit, &self.stop, Marking::default());
        let job = Arc::new(Job::Fill { set: Arc::clone(set), from });
        let workers = self.workers(HELPERS, 0)?;
        let title = format!("{}prepare {} x {}", self.label, keys - from, set.sizes);
        self.run(workers, phase, &job, title, &mut []).await?;
        set.prepared.store(keys, Ordering::Relaxed);
        Ok(())
    }

    fn workers(&self, count: usize, lanes: usize) -> Result<Vec<Worker>, BenchError> {
        let mut seeds = Rng::new(self.settings.seed);
        let mut place = 0;
        let mut next = || {
            place += 1;
            self.client(place - 1)
        };
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let client = next()?;
            let lanes = (0..lanes).map(|_| next()).collect::<Result<_, _>>()?;
            let Settings { verify, retry_slow_down, .. } = *self.settings;
            workers.push(Worker::new(client, lanes, seeds.fork(), verify, retry_slow_down));
        }
        Ok(workers)
    }

    async fn measured(
        &self,
        workers: Vec<Worker>,
        limit: Limit,
        marking: Marking,
        job: &Arc<Job>,
        title: String,
    ) -> Result<Measured, BenchError> {
        let watch = |pid: &u32| Watch::begin(*pid).map_err(BenchError::Server);
        let mut watches =
            self.settings.server_pids.iter().map(watch).collect::<Result<Vec<_>, _>>()?;
        let servers = watches.len();
        // Without /proc it can still be measured.
        watches.extend(Watch::begin(std::process::id()).ok());
        let phase = Phase::new(limit, &self.stop, marking);
        let (recorders, _, phase) = self.run(workers, phase, job, title, &mut watches).await?;
        let mut recorder = Recorder::default();
        for worker in recorders {
            recorder.merge(&worker.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let client = watches.split_off(servers).pop();
        let ended = match () {
            () if phase.is_stopped() => Ended::Stopped,
            () if phase.is_exhausted() => Ended::Exhausted,
            () => Ended::Limit,
        };
        let (elapsed, marks, threads) = (recorder.last(), phase.marks(), self.settings.threads);
        Ok(Measured { recorder, elapsed, ended, servers: watches, client, threads, marks })
    }

    /// Let the workers do the job until the phase is over.
    async fn run(
        &self,
        workers: Vec<Worker>,
        phase: Phase,
        job: &Arc<Job>,
        title: String,
        watches: &mut [Watch],
    ) -> Result<(Vec<Arc<Mutex<Recorder>>>, Vec<Worker>, Arc<Phase>), BenchError> {
        let mut progress = Progress::new(title);
        let phase = Arc::new(phase);
        let (mut tasks, mut back) = (JoinSet::new(), Vec::with_capacity(workers.len()));
        let mut recorders = Vec::with_capacity(workers.len());
        for mut worker in workers {
            recorders.push(worker.record());
            tasks.spawn(worker.run(Arc::clone(&phase), Arc::clone(job)));
        }
        let (mut look, mut stopped) = (tokio::time::interval(LOOK), None);
        let (mut told, mut before) = (0, (0, Duration::ZERO));
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(Ok(worker)) => back.push(worker),
                    // Cut off, below.
                    Some(Err(error)) if error.is_cancelled() => {}
                    Some(Err(error)) => return Err(BenchError::Broken(error.to_string())),
                },
                _ = look.tick() => {
                    progress.show(&phase);
                    watches.iter_mut().for_each(Watch::look);
                    for mark in phase.marks().iter().skip(told) {
                        progress.say(&mark.text(before));
                        (told, before) = (told + 1, (mark.done, mark.at));
                    }
                    if phase.is_stopped() {
                        let since = *stopped.get_or_insert_with(Instant::now);
                        if since.elapsed() > GRACE {
                            tasks.abort_all();
                        }
                    }
                }
            }
        }
        watches.iter_mut().for_each(Watch::look);
        match phase.fatal() {
            Some((key, failure)) => Err(BenchError::Prepare { key, what: failure.to_string() }),
            None => Ok((recorders, back, phase)),
        }
    }

    /// Delete what was made, and say what is left.
    pub(crate) async fn close(self) {
        let at = format!("bucket {} at {}", self.target.bucket, self.target.endpoint);
        if self.settings.keep {
            return;
        }
        let mut batches: Vec<(Arc<KeySet>, Range<u64>)> = Vec::new();
        for set in self.sets.iter().filter(|set| !set.borrowed) {
            let mut from = set.deleted.load(Ordering::Relaxed);
            while from < set.end() {
                let to = set.end().min(from + BATCH_KEYS);
                batches.push((Arc::clone(set), from..to));
                from = to;
            }
        }
        let left = match self.erase(batches).await {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = left {
            let prefix = &self.settings.prefix;
            eprintln_lossy(&format!("trine: objects below {prefix:?} are left in {at}: {error}"));
        } else if self.made_bucket {
            let Ok(mut client) = self.client(0) else { return };
            let (upload, expect) = (Upload::None, Expect::Document);
            let ask = Ask { method: Method::DELETE, key: "", query: "", upload, expect };
            if let Err(failure) = client.ask(ask).await {
                eprintln_lossy(&format!("trine: {at} is left: {failure}"));
            }
        }
    }

    async fn erase(&self, batches: Vec<(Arc<KeySet>, Range<u64>)>) -> Result<(), BenchError> {
        if batches.is_empty() {
            return Ok(());
        }
        let limit = Limit { time: None, operations: Some(batches.len() as u64) };
        // A stop that was wanted is over: the cleaning up is what comes of it.
        let phase = Phase::new(limit, &Arc::new(Stop::new()), Marking::default());
        let workers = self.workers(HELPERS.min(batches.len()), 0)?;
        let job = Arc::new(Job::Erase { batches });
        let title = format!("{}clean up", self.label);
        self.run(workers, phase, &job, title, &mut []).await?;
        Ok(())
    }
}

fn chooser(set: &KeySet, spread: Spread, work: &Work) -> Chooser {
    Chooser::new(spread, set.prepared.load(Ordering::Relaxed), work.zipf_exponent)
}

fn is_missing(failure: &Failure) -> bool {
    failure.code() == "NoSuchBucket" || matches!(failure, Failure::Refused { status: 404, .. })
}
