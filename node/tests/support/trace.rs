//! Reads what `strace` saw, and finds out what was durable when.

use std::path::Path;
use std::process::Command;

/// The calls that matter for durability, and those by which a process tells something.
const CALLS: &str = "openat,mkdir,mkdirat,rename,renameat,renameat2,ftruncate,fsync,fdatasync,\
                     pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg";

/// A command that runs `program` under strace, which writes to `log`.
///
/// # Panics
/// If there is no strace: the test cannot prove anything without it.
pub(crate) fn strace(log: &Path, program: &Path) -> Command {
    let found = Command::new("strace").arg("-V").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "this test needs strace: install it (apt-get install strace, dnf install strace)"
    );
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "16384", "-e", &format!("trace={CALLS}"), "-o"]);
    command.arg(log).arg(program);
    command
}

/// A finished system call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The thread that made it.
    pub(crate) thread: u32,
    /// `fdatasync`.
    pub(crate) name: String,
    /// What stands in the parentheses; descriptors as `9</path>`.
    pub(crate) arguments: String,
    /// `0`, `4096`, `-1 ENOSPC (...)`.
    pub(crate) result: String,
    /// The place in the log where it began...
    pub(crate) began: usize,
    /// ...and where it was done. Calls of other threads may stand in between.
    pub(crate) ended: usize,
}

impl Call {
    fn succeeded(&self) -> bool {
        !self.result.starts_with('-')
    }

    /// The first argument, if it is a descriptor: `9</path>`.
    fn descriptor(&self) -> &str {
        self.arguments.split([',', '[', ')']).next().unwrap_or_default().trim()
    }

    /// Whether the first argument is a descriptor of `path`.
    fn is_on(&self, path: &Path) -> bool {
        self.descriptor().ends_with(&format!("<{}>", path.display()))
    }
}

/// All calls of a run that succeeded, in the order of their ends.
#[derive(Debug)]
pub(crate) struct Trace {
    calls: Vec<Call>,
}

impl Trace {
    /// Read strace's log.
    ///
    /// # Panics
    /// If there is none, or nothing in it: mostly because tracing is forbidden here.
    pub(crate) fn read(log: &Path) -> Self {
        let text = std::fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut calls: Vec<Call> = Vec::new();
        let mut unfinished: Vec<Call> = Vec::new();
        for (place, line) in text.lines().enumerate() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let (Ok(thread), rest) = (thread.parse::<u32>(), rest.trim_start()) else { continue };
            if let Some(resumed) = rest.strip_prefix("<... ") {
                let Some(index) = unfinished.iter().position(|call| call.thread == thread) else {
                    continue;
                };
                let begun = unfinished.swap_remove(index);
                let rest = resumed.split_once("resumed>").map_or("", |(_, rest)| rest);
                let (arguments, result) = split_result(rest);
                let arguments = format!("{}{arguments}", begun.arguments);
                calls.push(Call { arguments, result, ended: place, ..begun });
            } else if let Some((name, rest)) = rest.split_once('(') {
                let name = name.to_owned();
                let (began, ended) = (place, place);
                if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
                    let (arguments, result) = (arguments.to_owned(), String::new());
                    unfinished.push(Call { thread, name, arguments, result, began, ended });
                } else {
                    let (arguments, result) = split_result(rest);
                    calls.push(Call { thread, name, arguments, result, began, ended });
                }
            }
        }
        assert!(!calls.is_empty(), "strace saw nothing; may this user trace processes (ptrace)?");
        calls.retain(Call::succeeded);
        Self { calls }
    }

    /// The process's first thread.
    pub(crate) fn process(&self) -> u32 {
        self.calls[0].thread
    }

    /// The first call that tells the outside `marker`, on a socket, a pipe or a terminal.
    pub(crate) fn told(&self, marker: &str) -> &Call {
        self.calls
            .iter()
            .find(|call| {
                ["write", "writev", "sendto", "sendmsg"].contains(&call.name.as_str())
                    && call.arguments.contains(marker)
            })
            .unwrap_or_else(|| panic!("{marker:?} was never told"))
    }

    /// Assert what [`durable_before`](Self::durable_before) finds.
    pub(crate) fn assert_durable_before(&self, file: &Path, data: &str, marker: &str) {
        self.durable_before(file, data, marker).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// Whether bytes which contain `data` were written to `file`, and a `fdatasync` of the file, by
    /// whatever descriptor, began after that and ended, all before `marker` was told; else what was amiss.
    /// (`fsync(2)`: all modified data of the file referred to by the descriptor.)
    pub(crate) fn durable_before(
        &self,
        file: &Path,
        data: &str,
        marker: &str,
    ) -> Result<(), String> {
        let told = self.told(marker);
        let write = self
            .calls
            .iter()
            .find(|call| {
                call.name.starts_with("pwrite") && call.is_on(file) && call.arguments.contains(data)
            })
            .ok_or_else(|| format!("{data:?} was never written to {}", file.display()))?;
        if write.ended >= told.began {
            return Err(format!("{marker:?} is told before {data:?} is written"));
        }
        let sync = self
            .calls
            .iter()
            .find(|call| call.name == "fdatasync" && call.is_on(file) && call.began > write.ended);
        let sync = sync.ok_or_else(|| format!("{} is never synced after", file.display()))?;
        if sync.ended >= told.began {
            return Err(format!("{marker:?} is told before {data:?} is synced"));
        }
        Ok(())
    }

    /// Assert that `file` was made, and its directory synced after that, before `marker` was told.
    pub(crate) fn assert_made_durably_before(&self, file: &Path, marker: &str) {
        let told = self.told(marker);
        let quoted = format!("\"{}\"", file.display());
        let made = self
            .calls
            .iter()
            .find(|call| match call.name.as_str() {
                "openat" => call.arguments.contains(&quoted) && call.arguments.contains("O_CREAT"),
                "mkdir" | "mkdirat" => call.arguments.contains(&quoted),
                // The new name comes last.
                "rename" | "renameat" | "renameat2" => {
                    call.arguments.rfind(&quoted).is_some_and(|place| place > 0)
                }
                _ => false,
            })
            .unwrap_or_else(|| panic!("{} was never made", file.display()));
        let directory = file.parent().expect("it is in a directory");
        let synced = self.calls.iter().any(|call| {
            call.name == "fsync"
                && call.is_on(directory)
                && call.began > made.ended
                && call.ended < told.began
        });
        assert!(synced, "{} is not synced before {marker:?} is told", directory.display());
    }

    /// Assert that `file` itself was synced (`fsync`) before `marker` was told.
    pub(crate) fn assert_synced_before(&self, file: &Path, marker: &str) {
        let told = self.told(marker);
        let synced = self
            .calls
            .iter()
            .any(|call| call.name == "fsync" && call.is_on(file) && call.ended < told.began);
        assert!(synced, "{} is not synced before {marker:?} is told", file.display());
    }
}

/// `args) = result` → both.
fn split_result(rest: &str) -> (String, String) {
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, ""));
    (arguments.trim_end().trim_end_matches(')').to_owned(), result.trim().to_owned())
}
