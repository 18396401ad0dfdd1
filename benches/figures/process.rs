//! What the kernel says of a running process.

use std::fs;
use std::time::Duration;

/// Memory in KiB, and what the process did so far; `None` for what may not be seen.
pub(crate) struct Figures {
    /// Pages that it alone has.
    pub(crate) uss: Option<u64>,
    pub(crate) rss: u64,
    /// The most that was ever resident.
    pub(crate) peak: u64,
    /// Of all its threads.
    pub(crate) wake_ups: u64,
    pub(crate) cpu: Duration,
    pub(crate) descriptors: Option<usize>,
}

impl Figures {
    pub(crate) fn of(pid: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status").unwrap_or_default();
        let rollup = read("smaps_rollup").ok().filter(|rollup| !rollup.is_empty());
        let own =
            |rollup: String| field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
        Self {
            uss: rollup.map(own),
            rss: field(&status, "VmRSS:"),
            peak: field(&status, "VmHWM:"),
            wake_ups: wake_ups(pid),
            cpu: cpu(&read("stat").unwrap_or_default()),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count),
        }
    }
}

/// The number after a name in one of the kernel's tables.
fn field(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// How often its threads waited for something, and went on.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    status.map(|status| field(&status, "voluntary_ctxt_switches:")).sum()
}

/// Its time on a processor, in the kernel and out of it.
fn cpu(stat: &str) -> Duration {
    // The name of the program is in parentheses, and may hold anything.
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second for all that ask.
    Duration::from_millis(ticks * 10)
}
