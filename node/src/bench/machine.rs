//! The machine that something was measured on, as results name it.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// What figures depend on. What cannot be found out is "unknown".
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// As /proc/cpuinfo names it.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Name and release.
    pub(crate) kernel: String,
    /// Type and device of the file system that was named, if one was.
    pub(crate) filesystem: Option<String>,
}

impl Machine {
    /// Describe this machine, and the file system that `data` is on.
    pub(crate) fn describe(data: Option<&Path>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kib| kib.saturating_mul(1024)),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            filesystem: data.map(|data| {
                let path = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
                filesystem(&read("/proc/self/mounts"), &path).unwrap_or_else(unknown)
            }),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.filter(|value| !value.is_empty())
}

/// The mount that holds a path: the longest that is above it, and of these the last.
fn filesystem(mounts: &str, path: &Path) -> Option<String> {
    let mut found: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(place), Some(kind)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Spaces in names are written so, in fstab(5).
        let place = place.replace("\\040", " ");
        let longest = found.as_ref().is_none_or(|(length, _)| place.len() >= *length);
        if path.starts_with(&place) && longest {
            found = Some((place.len(), format!("{kind} on {device}")));
        }
    }
    found.map(|(_, text)| text)
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        let Self { cpu, cores, kernel, .. } = self;
        write!(out, "{cpu}, {cores} cores, {gib:.1} GiB memory, {kernel}")?;
        match &self.filesystem {
            Some(filesystem) => write!(out, ", {filesystem}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_is_named() {
        let mounts = "overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\nodd\n\
                      tmpfs /data/a\\040b tmpfs rw 0 0\n";
        let of = |path: &str| filesystem(mounts, Path::new(path));
        assert_eq!(of("/data/x").as_deref(), Some("ext4 on /dev/sda"));
        assert_eq!(of("/database").as_deref(), Some("overlay on overlay"));
        assert_eq!(of("/data/a b/c").as_deref(), Some("tmpfs on tmpfs"));
        assert_eq!(filesystem("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::describe(Some(Path::new("/")));
        assert!(machine.cores > 0 && machine.memory_bytes > 0 && machine.filesystem.is_some());
        let text = machine.to_string();
        assert!(text.contains("GiB memory, Linux "), "{text}");
    }
}
