//! What runs here, and as what, as [proc(5)] shows it.
//!
//! [proc(5)]: https://man7.org/linux/man-pages/man5/proc.5.html

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use procfs::{ProcError, ProcResult};

use super::NoReload;

/// Enough of a command line to tell what nginx calls the process, and a master's arguments.
const TITLE: u64 = 4096;
/// What comes before them.
const MASTER: &[u8] = b"nginx: master process";

/// A process, and no other that gets its number later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Clock ticks since the system started.
    pub(super) started: u64,
}

/// One process, as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) identity: Identity,
    parent: u32,
    role: Role,
}

/// What a process is to nginx, by its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Master {
        /// It was started as Kong starts its own.
        is_kongs: bool,
    },
    /// One that takes connections: not one that is shutting down.
    Worker,
    Other,
}

impl Process {
    /// `None` where there is no such process, or it may not be looked at.
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::seen(&opened(pid).ok()?).ok()
    }

    fn seen(process: &procfs::process::Process) -> ProcResult<Self> {
        let stat = process.stat()?;
        let mut title = Vec::new();
        process.open_relative("cmdline")?.take(TITLE).read_to_end(&mut title)?;
        Ok(Self {
            identity: Identity { pid: stat.pid.unsigned_abs(), started: stat.starttime },
            parent: stat.ppid.unsigned_abs(),
            role: Role::of(&title),
        })
    }

    /// Whether it is a master, and not we ourselves.
    pub(super) fn is_foreign_master(&self) -> bool {
        self.role.is_master() && self.identity.pid != std::process::id()
    }
}

impl Role {
    fn of(title: &[u8]) -> Self {
        if let Some(arguments) = title.strip_prefix(MASTER) {
            Self::Master { is_kongs: are_kongs(arguments) }
        } else if title.starts_with(b"nginx: worker process")
            && !title.starts_with(b"nginx: worker process is shutting down")
        {
            Self::Worker
        } else {
            Self::Other
        }
    }

    const fn is_master(self) -> bool {
        matches!(self, Self::Master { .. })
    }
}

/// Whether Kong starts its nginx so: `-p PREFIX -c nginx.conf`, as its [code], its container image
/// and its service for systemd do. After `kong prepare` the path may stand there whole.
///
/// [code]: https://github.com/Kong/kong/blob/3.9.3/kong/cmd/utils/nginx_signals.lua#L169
fn are_kongs(arguments: &[u8]) -> bool {
    let line = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line.split(' ').collect();
    let after = |flag| words.windows(2).find(|pair| pair[0] == flag).map(|pair| Path::new(pair[1]));
    let (Some(prefix), Some(file)) = (after("-p"), after("-c")) else { return false };
    prefix.join(file) == prefix.join("nginx.conf")
}

/// Whom a signal to `pid` needs to come from. The owner of its directory in /proc does not tell:
/// that is root where the program file has capabilities.
pub(super) fn owner_of(pid: u32) -> Option<u32> {
    Some(opened(pid).ok()?.status().ok()?.ruid)
}

fn opened(pid: u32) -> ProcResult<procfs::process::Process> {
    let pid = i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?;
    procfs::process::Process::new(pid)
}

/// All that can be seen at one moment.
#[derive(Debug)]
pub(super) struct Processes {
    all: BTreeMap<u32, Process>,
    ours: u32,
}

impl Processes {
    pub(super) fn here() -> Result<Self, NoReload> {
        let we = procfs::process::Process::myself().map_err(|_| NoReload::NoProc)?;
        let ours = std::process::id();
        // A /proc of another namespace has other numbers: they would lead to the wrong process.
        if we.pid.unsigned_abs() != ours {
            return Err(NoReload::NoProc);
        }
        let all = procfs::process::all_processes().map_err(|_| NoReload::NoProc)?;
        // Those that ended meanwhile, or may not be looked at, are left out.
        let all = all.filter_map(|process| Process::seen(&process.ok()?).ok());
        Ok(Self { all: all.map(|process| (process.identity.pid, process)).collect(), ours })
    }

    /// The masters that were started as Kong starts its own.
    pub(super) fn kongs_masters(&self) -> Vec<u32> {
        let is_kongs = |pid: &u32| self.all[pid].role == Role::Master { is_kongs: true };
        self.masters().into_iter().filter(is_kongs).collect()
    }

    /// The masters, without their children: a child is called master, too, until it is a worker.
    pub(super) fn masters(&self) -> Vec<u32> {
        let is_master = |pid: &u32| {
            *pid != self.ours && self.all.get(pid).is_some_and(|it| it.role.is_master())
        };
        let is_outermost = |pid: &u32| !is_master(&self.all[pid].parent);
        self.all.keys().copied().filter(|pid| is_master(pid) && is_outermost(pid)).collect()
    }

    pub(super) fn has_master(&self, master: Identity) -> bool {
        let found = self.all.get(&master.pid);
        found.is_some_and(|found| found.role.is_master() && found.identity == master)
    }

    /// The workers of `master` that take connections.
    pub(super) fn workers_of(&self, master: Identity) -> BTreeSet<Identity> {
        let is_its = |it: &&Process| it.role == Role::Worker && it.parent == master.pid;
        self.all.values().filter(is_its).map(|worker| worker.identity).collect()
    }

    /// When the youngest of them was started.
    pub(super) fn loaded_at(&self, master: Identity) -> Option<SystemTime> {
        let started = self.workers_of(master).iter().map(|worker| worker.started).max()?;
        let ticks = procfs::ticks_per_second();
        let since_boot = Duration::from_millis(started.saturating_mul(1000) / ticks.max(1));
        let boot = procfs::boot_time_secs().ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot) + since_boot)
    }

    /// What may keep us from seeing a master that runs.
    pub(super) fn obstacle(&self) -> Option<NoReload> {
        // Every namespace has a first process for as long as it exists.
        if !self.all.contains_key(&1) {
            Some(NoReload::Hidden)
        } else if self.ours == 1 || self.are_ours() {
            Some(NoReload::Unshared)
        } else {
            None
        }
    }

    /// Whether all came from us, or we from them.
    fn are_ours(&self) -> bool {
        self.all.keys().all(|pid| self.is_above(*pid, self.ours) || self.is_above(self.ours, *pid))
    }

    fn is_above(&self, above: u32, pid: u32) -> bool {
        let mut next = pid;
        for _ in 0..=self.all.len() {
            if next == above {
                return true;
            }
            let Some(process) = self.all.get(&next) else { return false };
            next = process.parent;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// Pid, parent and title.
    type Row = (u32, u32, &'static str);

    const OURS: u32 = 20;

    /// Among them ours is [`OURS`].
    fn processes(all: &[Row]) -> Processes {
        let process = |&(pid, parent, title): &Row| {
            let identity = identity(pid);
            (pid, Process { identity, parent, role: Role::of(title.as_bytes()) })
        };
        let all = all.iter().map(process).collect();
        Processes { all, ours: OURS }
    }

    fn identity(pid: u32) -> Identity {
        Identity { pid, started: 100 + u64::from(pid) }
    }

    const MASTER: &str =
        "nginx: master process /usr/local/openresty/nginx/sbin/nginx -p /usr/local/kong";

    #[test]
    fn kongs_master_is_known_by_the_arguments_that_kong_starts_it_with() {
        let titles = [
            ("nginx -p /usr/local/kong -c nginx.conf", true),
            ("/usr/local/openresty/nginx/sbin/nginx -p /kong_prefix/ -c nginx.conf\0\0\0", true),
            ("nginx -p /usr/local/kong -c /usr/local/kong/nginx.conf", true),
            ("nginx -c nginx.conf -p /usr/local/kong", true),
            ("nginx -g daemon off;", false),
            ("nginx", false),
            ("/usr/sbin/nginx -c /etc/nginx/nginx.conf", false),
            ("nginx -c nginx.conf", false),
            ("nginx -p /usr/local/kong", false),
            ("nginx -p /usr/local/apisix -c /usr/local/apisix/conf/nginx.conf", false),
            ("nginx\0-p\0/usr/local/kong\0-c\0nginx.conf", false),
        ];
        for (arguments, is_kongs) in titles {
            let title = format!("nginx: master process {arguments}");
            assert_eq!(Role::of(title.as_bytes()), Role::Master { is_kongs }, "{title}");
            let found = processes(&[(7, 0, title.leak()), (8, 0, MASTER)]).kongs_masters();
            assert_eq!(found, if is_kongs { vec![7] } else { vec![] });
        }
    }
    const WORKER: &str = "nginx: worker process\0\0\0\0";
    const LEAVING: &str = "nginx: worker process is shutting down";
    const HELPER: &str = "nginx: privileged agent process";
    const PAUSE: Row = (1, 0, "/pause\0");
    const US: Row = (OURS, 0, "/kong-cert-reloader\0");

    #[test]
    fn a_master_is_what_calls_itself_one_and_is_neither_ours_nor_a_masters_child() {
        let cases: [(&str, &[Row], &[u32]); 6] = [
            ("nobody", &[PAUSE, US], &[]),
            ("one", &[PAUSE, US, (7, 0, MASTER), (9, 7, WORKER)], &[7]),
            ("one whose worker has not got its name yet", &[(7, 1, MASTER), (9, 7, MASTER)], &[7]),
            ("two", &[(7, 0, MASTER), (8, 0, MASTER)], &[7, 8]),
            ("we ourselves", &[(OURS, 0, MASTER)], &[]),
            ("its name alone", &[(7, 0, "nginx\0"), (8, 0, "vi\0nginx: master process\0")], &[]),
        ];
        for (case, all, masters) in cases {
            assert_eq!(processes(all).masters(), masters, "{case}");
        }
    }

    #[test]
    fn workers_are_the_children_of_the_master_that_take_connections() {
        let all = [
            (7, 0, MASTER),
            (8, 0, MASTER),
            (9, 7, WORKER),
            (10, 7, LEAVING),
            (11, 7, HELPER),
            (12, 8, WORKER),
            (13, 7, WORKER),
        ];
        let workers = processes(&all).workers_of(identity(7));
        assert_eq!(workers, [9, 13].map(identity).into());
    }

    #[test]
    fn a_master_is_the_same_only_while_it_lives_under_that_name() {
        let seen = processes(&[(7, 0, MASTER), (9, 7, WORKER)]);
        assert!(seen.has_master(identity(7)));
        assert!(!seen.has_master(Identity { pid: 7, started: 1 }));
        assert!(!seen.has_master(identity(9)));
        assert!(!seen.has_master(identity(8)));
    }

    #[test]
    fn what_hides_a_master_is_told_apart() {
        let cases: [(&str, &[Row], Option<NoReload>); 6] = [
            ("a pod that shares", &[PAUSE, US], None),
            ("compose that shares", &[(1, 0, "kong"), US], None),
            (
                "a wrapper of ours",
                &[(1, 0, "tini"), (OURS, 1, "us"), (21, OURS, "c")],
                Some(NoReload::Unshared),
            ),
            ("a host", &[(1, 0, "init"), (5, 1, "sshd"), (OURS, 1, "us")], None),
            ("no first process", &[US], Some(NoReload::Hidden)),
            ("parents in a circle", &[(1, 2, "a"), (2, 1, "b"), US], None),
        ];
        for (case, all, told) in cases {
            assert_eq!(processes(all).obstacle(), told, "{case}");
        }
        let first = Processes { ours: 1, ..processes(&[(1, 0, "us"), (30, 0, "a probe of ours")]) };
        assert_eq!(first.obstacle(), Some(NoReload::Unshared));
    }

    #[test]
    fn we_are_here_and_no_master() {
        let we = Process::read(std::process::id()).unwrap();
        assert!(!we.is_foreign_master());
        assert!(Processes::here().unwrap().all.contains_key(&std::process::id()));
    }
}
