//! A process as the kernel sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{sleep, timeout};

/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// One of ours.
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap().count()
    }

    /// Waits until it has so few open.
    pub(crate) async fn until_descriptors(&self, most: usize) {
        let few = async {
            while self.descriptors() > most {
                sleep(PAUSE).await;
            }
        };
        let open = || panic!("{} descriptors are open", self.descriptors());
        timeout(PATIENCE, few).await.unwrap_or_else(|_| open());
    }

    /// What it occupies, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has occupied.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// A control group with a memory limit.
pub(crate) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// `None` where none can be made.
    pub(crate) fn with_limit(bytes: u64) -> Option<Self> {
        let name = format!("kong-cert-reloader-{}", std::process::id());
        for (root, sign, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "cgroup.controllers", "memory.max"),
        ] {
            let (root, group) = (Path::new(root), Path::new(root).join(&name));
            if !root.join(sign).exists() || fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Self(group);
            let is_held = group.0.join(limit).exists()
                && fs::write(group.0.join(limit), bytes.to_string()).is_ok()
                && Command::new("/bin/sh")
                    .args(group.enter("/bin/true"))
                    .status()
                    .unwrap()
                    .success();
            if is_held {
                return Some(group);
            }
        }
        None
    }

    /// What a shell is to be told to become `program` within it.
    pub(crate) fn enter(&self, program: &str) -> [String; 4] {
        let enter = r#"echo $$ > "$1/cgroup.procs" && exec "$0""#;
        ["-c", enter, program, self.0.to_str().unwrap()].map(str::to_owned)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was killed takes a moment to go.
        let began = Instant::now();
        while fs::remove_dir(&self.0).is_err() && began.elapsed() < PATIENCE {
            thread::sleep(PAUSE);
        }
    }
}

/// A test opens as many connections as it needs.
pub(crate) fn raise_own_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
