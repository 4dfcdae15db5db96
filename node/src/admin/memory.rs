//! What a process holds in memory: as its machines count it, and as the operating system does.

use trine_core::gateway::GatewayReport;
use trine_core::memory::MemoryAccount;
use trine_s3::Room;

use super::schema::{MemoryKind, ProcessMemory};

/// This process.
pub(super) fn of_process(gateway: Option<&GatewayReport>, documents: &Room) -> ProcessMemory {
    let (resident_bytes, peak_bytes) = resident();
    let mut kinds = gateway.map(|report| of_machine(&report.memory)).unwrap_or_default();
    let (bytes, limit) = documents.bytes();
    kinds.push(MemoryKind { name: "documents".to_owned(), bytes, limit: Some(limit) });
    ProcessMemory {
        resident_bytes,
        peak_bytes,
        requests: gateway.map(|report| report.requests).unwrap_or_default(),
        requests_max: gateway.map(|report| report.requests_max).unwrap_or_default(),
        tenants: gateway.map(|report| report.tenants).unwrap_or_default(),
        bodies_waiting: gateway.map(|report| report.bodies_waiting).unwrap_or_default(),
        slowed_down: gateway.map(|report| report.slowed_down).unwrap_or_default(),
        kinds,
    }
}

/// A machine's own account.
pub(super) fn of_machine(account: &MemoryAccount) -> Vec<MemoryKind> {
    let kind = |one: &trine_core::memory::MemoryUse| MemoryKind {
        name: one.name.to_owned(),
        bytes: one.bytes,
        limit: one.limit,
    };
    account.uses.iter().map(kind).collect()
}

/// Bytes that are resident, and the most that ever were; nothing where the system does not say so
/// (proc(5), `/proc/pid/status`).
fn resident() -> (Option<u64>, Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    (field(&status, "VmRSS:"), field(&status, "VmHWM:"))
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_read_in_bytes() {
        let text = "Name:\ttrine\nVmHWM:\t  204800 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(field(text, "VmHWM:"), Some(200 << 20));
        assert_eq!(field(text, "VmRSS:"), Some(1 << 20));
        assert_eq!(field(text, "VmSwap:"), None);
    }
}
