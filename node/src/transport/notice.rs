//! Log lines that would repeat with each attempt: each is told once, and again after a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use trine_core::time::Instant;

use crate::runtime::Runtime;

/// After this a line that still holds is told again.
const REPEAT: Duration = Duration::from_secs(60);
/// Subjects remembered; with more, the oldest is forgotten and may be told again early.
const SUBJECTS_MAX: usize = 256;

/// What was last said about each subject, and when.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<BTreeMap<String, (String, Instant)>>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Warn, if this is news.
    pub(crate) fn warn(&self, runtime: &impl Runtime, subject: String, text: String) {
        if self.is_news(runtime, &subject, &text) {
            tracing::warn!("{subject}: {text}");
        }
    }

    /// Tell of an error, if this is news.
    pub(crate) fn error(&self, runtime: &impl Runtime, subject: String, text: String) {
        if self.is_news(runtime, &subject, &text) {
            tracing::error!("{subject}: {text}");
        }
    }

    /// Forget what was said: from now on it is news again.
    pub(crate) fn settled(&self, subject: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }

    fn is_news(&self, runtime: &impl Runtime, subject: &str, text: &str) -> bool {
        let now = runtime.now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(subject).is_some_and(|(last, at)| last == text && now.since(*at) < REPEAT) {
            return false;
        }
        if said.len() >= SUBJECTS_MAX && !said.contains_key(subject) {
            let oldest = said.iter().min_by_key(|(_, (_, at))| *at).map(|(it, _)| it.clone());
            oldest.and_then(|oldest| said.remove(&oldest));
        }
        said.insert(subject.to_owned(), (text.to_owned(), now));
        true
    }
}
