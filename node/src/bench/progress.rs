//! The progress bar, on standard error and only if that is a terminal.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::phase::Phase;

/// Steps of the bar.
const STEPS: u32 = 1000;

/// Shows how far a phase is, and how fast.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// What was shown last: when, operations, bytes.
    last: (Instant, u64, u64),
}

impl Progress {
    /// A bar for something called `what`; it shows nothing where nobody looks.
    pub(crate) fn new(what: String) -> Self {
        let bar = ProgressBar::new(STEPS.into());
        // A template is text of ours; the default style does if it were wrong.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        Self { bar, last: (Instant::now(), 0, 0) }
    }

    /// Show where the phase is.
    #[allow(clippy::cast_precision_loss, reason = "rates for the eye")]
    pub(crate) fn show(&mut self, phase: &Phase) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let (done, bytes) =
            (phase.done.load(Ordering::Relaxed), phase.bytes.load(Ordering::Relaxed));
        let (then, done_then, bytes_then) = std::mem::replace(&mut self.last, (now, done, bytes));
        let seconds = (now - then).max(Duration::from_millis(1)).as_secs_f64();
        let rate = (done - done_then.min(done)) as f64 / seconds;
        let mib = (bytes - bytes_then.min(bytes)) as f64 / seconds / f64::from(1 << 20);
        let failed = phase.failed.load(Ordering::Relaxed);
        let errors = if failed > 0 { format!(", {failed} ERRORS") } else { String::new() };
        self.bar.set_message(format!("{done} done, {rate:.0}/s, {mib:.1} MiB/s{errors}"));
        let share = phase.share().unwrap_or(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        self.bar.set_position((share * f64::from(STEPS)) as u64);
    }

    /// Say something above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln_lossy(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Print to standard error, which may be gone.
pub(crate) fn eprintln_lossy(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
