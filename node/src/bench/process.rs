//! What processes cost: CPU time and memory, from /proc.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// A look at a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// User and system time of all threads since the process began.
    pub(crate) cpu: Duration,
    /// Resident memory now, in bytes.
    pub(crate) rss_bytes: u64,
    /// The most that it ever was (`VmHWM`), in bytes.
    pub(crate) rss_peak_bytes: u64,
}

/// What a process did while something was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    /// Its process id.
    pub(crate) pid: u32,
    /// CPU seconds, user and system.
    pub(crate) cpu_s: f64,
    /// CPU seconds for 1,000 HTTP requests, if there were any.
    pub(crate) cpu_s_per_1000_requests: Option<f64>,
    /// The most resident memory that was seen meanwhile, in bytes, looking four times a second.
    pub(crate) rss_max_bytes: u64,
    /// The most that the process ever had (`VmHWM`), in bytes.
    pub(crate) rss_peak_bytes: u64,
    /// False if the process ended meanwhile: what is told is then what was last seen.
    pub(crate) lived: bool,
}

/// Watches one process.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pid: u32,
    first: Sample,
    last: Sample,
    rss_max_bytes: u64,
    lived: bool,
}

impl Sample {
    /// Look at a process.
    ///
    /// # Errors
    /// A text for the user, if there is no such process, or /proc does not show it.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).map_err(|error| format!("process {pid}: {path}: {error}"))
        };
        let ticks = cpu_ticks(&read("stat")?);
        let ticks = ticks.ok_or_else(|| format!("process {pid}: /proc/{pid}/stat is odd"))?;
        let status = read("status")?;
        let rss_bytes = status_bytes(&status, "VmRSS:").unwrap_or_default();
        let rss_peak_bytes = status_bytes(&status, "VmHWM:").unwrap_or_default();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(per_second);
        let cpu = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Ok(Self { cpu, rss_bytes, rss_peak_bytes })
    }
}

impl Watch {
    /// Begin to watch.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub(crate) fn begin(pid: u32) -> Result<Self, String> {
        let first = Sample::of(pid)?;
        let rss_max_bytes = first.rss_bytes;
        Ok(Self { pid, first, last: first, rss_max_bytes, lived: true })
    }

    /// Look again. A process that has ended keeps what was last seen of it.
    pub(crate) fn look(&mut self) {
        match Sample::of(self.pid) {
            Ok(sample) => {
                self.rss_max_bytes = self.rss_max_bytes.max(sample.rss_bytes);
                self.last = sample;
            }
            Err(_) => self.lived = false,
        }
    }

    /// What it did since the begin, which took `requests` HTTP requests.
    pub(crate) fn usage(&self, requests: u64) -> Usage {
        let cpu_s = self.last.cpu.saturating_sub(self.first.cpu).as_secs_f64();
        Usage {
            pid: self.pid,
            cpu_s,
            cpu_s_per_1000_requests: per_1000(cpu_s, requests),
            rss_max_bytes: self.rss_max_bytes,
            rss_peak_bytes: self.last.rss_peak_bytes,
            lived: self.lived,
        }
    }
}

/// Something divided by thousands of requests, if there were any.
#[allow(clippy::cast_precision_loss, reason = "numbers of requests are below 2^53")]
pub(crate) fn per_1000(sum: f64, requests: u64) -> Option<f64> {
    (requests > 0).then(|| sum / requests as f64 * 1000.0)
}

/// `utime` + `stime` of proc_pid_stat(5). The name, in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    // The state is field 3, the times are 14 and 15.
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// A line of proc_pid_status(5), which is in KiB.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_stat_may_hold_anything() {
        let fields = "S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        for name in ["trine", "a b", "x) S 9 9 (", "((("] {
            assert_eq!(cpu_ticks(&format!("42 ({name}) {fields}")), Some(300), "{name}");
        }
        for odd in ["", "42", "42 (x)", "42 (x) S 1 2", "42 (x) S a b c d e f g h i j k l m"] {
            assert_eq!(cpu_ticks(odd), None, "{odd}");
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
        assert_eq!(status_bytes("VmHWM: 1 MB\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_is_seen_and_one_that_is_not_there_is_named() {
        let mut watch = Watch::begin(std::process::id()).unwrap();
        watch.look();
        let usage = watch.usage(0);
        assert!(usage.lived && usage.rss_max_bytes > 0 && usage.rss_peak_bytes > 0);
        assert_eq!(usage.cpu_s_per_1000_requests, None);
        assert!(Sample::of(u32::MAX).unwrap_err().contains("process 4294967295"));
    }
}
