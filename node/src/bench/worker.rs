//! A worker: one connection, one operation after another.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use trine_core::rng::Rng;

use super::client::answer::{Answer, Failure, count, text};
use super::client::{Ask, Client, Expect, From, Upload, list_query};
use super::measure::Recorder;
use super::phase::Phase;
use super::upload;
use super::workload::{Chooser, KeySet, Kind, Mix};

/// Between attempts to connect to a server that is not there.
const RECONNECT: Duration = Duration::from_millis(50);
/// After a first SlowDown; twice as long after each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How often a request is sent again.
const RETRIES_MAX: u32 = 20;
/// How often the writing of an object is tried that must be there.
const PREPARE_TRIES: u32 = 10;

/// What the workers of a phase do.
pub(crate) enum Job {
    /// Put every number of the set from `from` on, and try again what fails.
    Fill {
        set: Arc<KeySet>,
        from: u64,
    },
    /// Put new objects; or, if there is a chooser, some of so many.
    Put {
        set: Arc<KeySet>,
        of: Option<(Chooser, u64)>,
    },
    Get {
        set: Arc<KeySet>,
        chooser: Chooser,
    },
    Head {
        set: Arc<KeySet>,
        chooser: Chooser,
    },
    /// Pages; one after another, or from anywhere if there is a chooser.
    List {
        set: Arc<KeySet>,
        page: u32,
        chooser: Option<Chooser>,
    },
    Delete {
        set: Arc<KeySet>,
    },
    Multipart {
        set: Arc<KeySet>,
        part_bytes: u64,
    },
    Mixed(Mixed),
    /// Delete these numbers of the sets, in batches.
    Erase {
        batches: Vec<(Arc<KeySet>, std::ops::Range<u64>)>,
    },
}

/// A mixed load.
pub(crate) struct Mixed {
    pub(crate) mix: Mix,
    /// What is read; there from the begin.
    pub(crate) read: Arc<KeySet>,
    pub(crate) chooser: Chooser,
    /// What is put and deleted.
    pub(crate) written: Arc<KeySet>,
    /// Numbers that were put and not yet deleted.
    pub(crate) fresh: Mutex<Vec<u64>>,
    pub(crate) page: u32,
}

/// One operation.
enum Task<'a> {
    Put { set: &'a KeySet, number: u64 },
    Get { set: &'a KeySet, number: u64 },
    Head { set: &'a KeySet, number: u64 },
    List { set: &'a KeySet, page: u32, after: Option<u64> },
    Delete { set: &'a KeySet, number: u64 },
    Multipart { set: &'a KeySet, number: u64, part_bytes: u64 },
}

/// See the module.
pub(crate) struct Worker {
    client: Client,
    /// More connections, for parts of an upload.
    lanes: Vec<Client>,
    rng: Rng,
    verify: bool,
    retry_slow_down: bool,
    /// Where a walk through pages goes on.
    token: Option<String>,
    /// Shared, so that what was measured outlives a worker that is cut off.
    recorder: Arc<Mutex<Recorder>>,
}

impl Worker {
    pub(crate) fn new(
        client: Client,
        lanes: Vec<Client>,
        rng: Rng,
        verify: bool,
        retry_slow_down: bool,
    ) -> Self {
        let recorder = Arc::default();
        Self { client, lanes, rng, verify, retry_slow_down, token: None, recorder }
    }

    /// Where the next phase's measurements go, which begin anew.
    pub(crate) fn record(&mut self) -> Arc<Mutex<Recorder>> {
        self.recorder = Arc::default();
        Arc::clone(&self.recorder)
    }

    /// A poisoned lock would be a panic elsewhere, which has been told.
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work until the phase is over.
    pub(crate) async fn run(mut self, phase: Arc<Phase>, job: Arc<Job>) -> Self {
        while let Some(ticket) = phase.ticket() {
            self.step(&phase, &job, ticket).await;
            let requests = std::mem::take(&mut self.client.requests);
            self.recorder().requests += requests;
        }
        self
    }

    async fn step(&mut self, phase: &Arc<Phase>, job: &Job, ticket: u64) {
        let task = match job {
            Job::Fill { set, from } => return self.fill(phase, set, from + ticket).await,
            Job::Erase { batches } => return self.erase(phase, batches, ticket).await,
            Job::Mixed(mixed) => return self.mixed(phase, mixed).await,
            Job::Put { set, of } => {
                let number = match of {
                    None => set.next.fetch_add(1, Ordering::Relaxed),
                    Some((chooser, keys)) => {
                        set.next.fetch_max(*keys, Ordering::Relaxed);
                        chooser.choose(*keys, &mut self.rng)
                    }
                };
                Task::Put { set, number }
            }
            Job::Get { set, chooser } => Task::Get { set, number: self.choose(set, chooser) },
            Job::Head { set, chooser } => Task::Head { set, number: self.choose(set, chooser) },
            Job::List { set, page, chooser } => {
                let after = chooser.as_ref().map(|chooser| self.page_start(set, *page, chooser));
                Task::List { set, page: *page, after }
            }
            Job::Delete { set } => {
                let number = set.deleted.fetch_add(1, Ordering::Relaxed);
                if number >= set.prepared.load(Ordering::Relaxed) {
                    set.deleted.fetch_sub(1, Ordering::Relaxed);
                    return phase.exhaust();
                }
                Task::Delete { set, number }
            }
            Job::Multipart { set, part_bytes } => {
                let number = set.next.fetch_add(1, Ordering::Relaxed);
                Task::Multipart { set, number, part_bytes: *part_bytes }
            }
        };
        // What failed has been recorded.
        let _ = self.carry_out(phase, &task).await;
    }

    /// A number of an object that is there.
    fn choose(&mut self, set: &KeySet, chooser: &Chooser) -> u64 {
        chooser.choose(set.prepared.load(Ordering::Relaxed).max(1), &mut self.rng)
    }

    /// Behind which object a page begins, so that it is full if there are enough.
    fn page_start(&mut self, set: &KeySet, page: u32, chooser: &Chooser) -> u64 {
        let keys = set.prepared.load(Ordering::Relaxed).saturating_sub(page.into());
        chooser.choose(keys.max(1), &mut self.rng)
    }

    async fn mixed(&mut self, phase: &Arc<Phase>, mixed: &Mixed) {
        let lock = || mixed.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, written) = (&*mixed.read, &*mixed.written);
        let kind = mixed.mix.choose(&mut self.rng);
        // Nothing to delete yet: a put comes first.
        let deletable = if kind == Kind::Delete { lock().pop() } else { None };
        let task = match (kind, deletable) {
            (Kind::Delete, Some(number)) => Task::Delete { set: written, number },
            (Kind::Get, _) => Task::Get { set: read, number: self.choose(read, &mixed.chooser) },
            (Kind::Head, _) => Task::Head { set: read, number: self.choose(read, &mixed.chooser) },
            (Kind::List, _) => {
                let after = Some(self.page_start(read, mixed.page, &mixed.chooser));
                Task::List { set: read, page: mixed.page, after }
            }
            _ => Task::Put { set: written, number: written.next.fetch_add(1, Ordering::Relaxed) },
        };
        let result = self.carry_out(phase, &task).await;
        if let (Task::Put { number, .. }, Ok(())) = (task, result) {
            lock().push(number);
        }
    }

    /// Carry out one operation and measure it.
    async fn carry_out(&mut self, phase: &Arc<Phase>, task: &Task<'_>) -> Result<(), Failure> {
        let (kind, began) = (task.kind(), Instant::now());
        let mut tries = 0;
        let failure = loop {
            let failure = match self.perform(phase, task).await {
                Ok(bytes) => {
                    let at = phase.began.elapsed();
                    self.recorder().success(kind, at, began.elapsed(), bytes);
                    phase.count(bytes);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            if !failure.is_slow_down() {
                break failure;
            }
            self.recorder().slow_down(kind, phase.began.elapsed());
            if !self.retry_slow_down || tries == RETRIES_MAX || phase.is_over() {
                break failure;
            }
            tokio::time::sleep(back_off(tries)).await;
            tries += 1;
        };
        if failure != Failure::Stopped {
            self.recorder().failure(kind, phase.began.elapsed(), &failure);
            phase.failed.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(failure, Failure::Connect(_) | Failure::Tls(_)) {
            tokio::time::sleep(RECONNECT).await;
        }
        Err(failure)
    }

    /// One attempt: the bytes of the body that was sent or received.
    async fn perform(&mut self, phase: &Arc<Phase>, task: &Task<'_>) -> Result<u64, Failure> {
        match task {
            Task::Put { set, number } => self.put(set, *number).await,
            Task::Get { set, number } => self.read(Method::GET, set, *number).await,
            Task::Head { set, number } => self.read(Method::HEAD, set, *number).await,
            Task::List { set, page, after } => self.list(set, *page, *after).await,
            Task::Delete { set, number } => {
                let key = set.key(*number);
                let upload = Upload::None;
                self.ask(Method::DELETE, &key, "", upload).await.map(|_| 0)
            }
            Task::Multipart { set, number, part_bytes } => {
                let (client, lanes) = (&mut self.client, &mut self.lanes);
                let recorder = &self.recorder;
                upload::upload(client, lanes, set, *number, *part_bytes, phase, recorder).await
            }
        }
    }

    async fn put(&mut self, set: &KeySet, number: u64) -> Result<u64, Failure> {
        let body = self.client.content().object(set.sizes.sizes(), number);
        let len = body.len();
        self.ask(Method::PUT, &set.key(number), "", Upload::Body(body)).await?;
        Ok(len)
    }

    async fn read(&mut self, method: Method, set: &KeySet, number: u64) -> Result<u64, Failure> {
        let body = self.client.content().object(set.sizes.sizes(), number);
        let expect = Expect::Object { body, verify: self.verify };
        let key = set.key(number);
        let upload = Upload::None;
        let ask = Ask { method, key: &key, query: "", upload, expect };
        self.client.ask(ask).await.map(|answer| answer.received)
    }

    async fn list(&mut self, set: &KeySet, page: u32, after: Option<u64>) -> Result<u64, Failure> {
        let after = after.map(|number| set.key(number));
        let from = match (&after, &self.token) {
            (Some(key), _) => From::After(key),
            (None, Some(token)) => From::Token(token),
            (None, None) => From::Start,
        };
        let listed = list_page(&mut self.client, &set.prefix, page, &from).await;
        // A walk that fails begins again.
        self.token = None;
        let listed = listed?;
        if after.is_none() {
            self.token = listed.token;
        }
        Ok(listed.bytes)
    }

    async fn ask(
        &mut self,
        method: Method,
        key: &str,
        query: &str,
        upload: Upload,
    ) -> Result<Answer, Failure> {
        self.client.ask(Ask { method, key, query, upload, expect: Expect::Document }).await
    }

    /// Put an object that must be there.
    async fn fill(&mut self, phase: &Arc<Phase>, set: &KeySet, number: u64) {
        // Before the attempt, so that what is cut off is cleaned up as well.
        set.next.fetch_max(number + 1, Ordering::Relaxed);
        let task = Task::Put { set, number };
        let mut turn = 0;
        while let Err(failure) = self.carry_out(phase, &task).await {
            if phase.is_over() {
                return;
            }
            turn += 1;
            if turn == PREPARE_TRIES {
                return phase.give_up(set.key(number), failure);
            }
            tokio::time::sleep(back_off(turn)).await;
        }
    }

    /// Delete a batch; object by object, if the server cannot do it at once.
    async fn erase(
        &mut self,
        phase: &Phase,
        batches: &[(Arc<KeySet>, std::ops::Range<u64>)],
        ticket: u64,
    ) {
        let batch = usize::try_from(ticket).ok().and_then(|place| batches.get(place));
        let Some((set, numbers)) = batch else { return phase.exhaust() };
        let mut document = String::from("<Delete><Quiet>true</Quiet>");
        for number in numbers.clone() {
            let key = set.key(number);
            let key = quick_xml::escape::escape(key.as_str());
            for part in ["<Object><Key>", &key, "</Key></Object>"] {
                document.push_str(part);
            }
        }
        document.push_str("</Delete>");
        let upload = Upload::Document(Bytes::from(document));
        let answer = self.ask(Method::POST, "", "delete=", upload).await;
        let whole = answer.is_ok_and(|answer| count(&answer.body, "Error") == 0);
        if whole {
            return phase.count(0);
        }
        for number in numbers.clone() {
            let key = set.key(number);
            if let Err(failure) = self.ask(Method::DELETE, &key, "", Upload::None).await {
                // What is not there need not be deleted.
                if failure.code() != "NoSuchKey" && failure.code() != "HTTP 404" {
                    return phase.give_up(key, failure);
                }
            }
        }
        phase.count(0);
    }
}

impl Task<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Put { .. } => Kind::Put,
            Self::Get { .. } => Kind::Get,
            Self::Head { .. } => Kind::Head,
            Self::List { .. } => Kind::List,
            Self::Delete { .. } => Kind::Delete,
            Self::Multipart { .. } => Kind::Multipart,
        }
    }
}

/// A LIST page.
pub(crate) struct Listed {
    pub(crate) keys: u64,
    /// If there is more.
    pub(crate) token: Option<String>,
    pub(crate) bytes: u64,
}

/// Ask for a page and check that it is one.
pub(crate) async fn list_page(
    client: &mut Client,
    prefix: &str,
    page: u32,
    from: &From<'_>,
) -> Result<Listed, Failure> {
    let query = list_query(page, prefix, from);
    let (upload, expect) = (Upload::None, Expect::Document);
    let ask = Ask { method: Method::GET, key: "", query: &query, upload, expect };
    let answer = client.ask(ask).await?;
    let keys = count(&answer.body, "Contents");
    let token = match text(&answer.body, "IsTruncated").as_deref() {
        Some("false") => None,
        Some("true") => {
            let token = text(&answer.body, "NextContinuationToken");
            Some(token.ok_or(Failure::Wrong("a truncated page without token"))?)
        }
        _ => return Err(Failure::Wrong("a page without IsTruncated")),
    };
    if keys > u64::from(page) || (token.is_some() && keys != u64::from(page)) {
        return Err(Failure::Wrong("number of keys in a page"));
    }
    Ok(Listed { keys, token, bytes: answer.received })
}

/// How long to wait before another attempt.
pub(crate) fn back_off(tries: u32) -> Duration {
    (BACK_OFF_MIN * 2_u32.pow(tries.min(10))).min(BACK_OFF_MAX)
}
