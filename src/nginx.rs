//! The nginx that Kong runs in: what it read from files it reads anew when its master gets SIGHUP
//! ([signals]).
//!
//! The master is found by its PID file, by what Kong's Admin API tells, or among all processes, where
//! it has to have been started as Kong does it; a process that does not call itself a master is never
//! signalled. nginx does not answer a signal:
//! where it cannot take its files it keeps the old ones, and writes a line into its own log. That
//! new workers come is the only sign of success.
//!
//! Where more than one Kong runs here, or one that was started in another way, a PID file has to tell
//! which nginx is meant.
//!
//! [signals]: https://nginx.org/en/docs/control.html

mod master;
mod processes;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;
use thiserror::Error;

use self::master::Master;
use self::processes::{Identity, Processes};
use crate::volume::{Mounted, Reason, Source};

/// What makes nginx read its files anew. The program's is [`Nginx`]; tests have their own.
pub trait Reload: Send + Sync {
    /// Sends SIGHUP to the master. `named` is the pid that Kong's Admin API tells (`pids.master`),
    /// where that API is on loopback.
    ///
    /// # Errors
    ///
    /// Says why there is no master to signal, or why it may not be signalled; nothing was sent then.
    fn reload(&mut self, named: Option<u32>) -> Result<Reloading, NoReload>;

    /// Whether workers came that were not there before the signal: only then has nginx taken its
    /// files. `None` if that cannot be seen any more, as the master is gone.
    ///
    /// A worker that crashed and was started again looks the same, and so do those of a start or
    /// a reload that was under way when the signal was sent. The old workers go on taking
    /// connections beside the new ones for about 100 ms.
    fn has_new_workers(&self, reloading: &Reloading) -> Option<bool>;

    /// Whether a signal could be sent now. Sends none.
    ///
    /// # Errors
    ///
    /// Says why not, as [`Self::reload`] would.
    fn check(&self, named: Option<u32>) -> Result<(), NoReload>;

    /// When the youngest worker was started: by then nginx had read its files for the last time, if
    /// no worker crashed since. `None` if that cannot be seen.
    fn loaded_at(&self, named: Option<u32>) -> Option<SystemTime>;
}

/// The nginx beside us.
#[derive(Debug)]
pub struct Nginx {
    pid_file: Option<PathBuf>,
}

impl Nginx {
    /// `pid_file`, an absolute path, alone tells the master where it is set.
    #[must_use]
    pub const fn new(pid_file: Option<PathBuf>) -> Self {
        Self { pid_file }
    }

    fn master(&self, named: Option<u32>, seen: &Processes) -> Result<Master, NoReload> {
        if let Some(path) = &self.pid_file {
            return named_in(path, seen);
        }
        let Some(pid) = named else { return the_only_one(seen) };
        // Another master here would be another's.
        let gone = || {
            let obstacle = seen.obstacle().filter(|_| seen.masters().is_empty());
            obstacle.unwrap_or(NoReload::Gone { pid })
        };
        Master::open(pid)?.ok_or_else(gone)
    }
}

impl Reload for Nginx {
    fn reload(&mut self, named: Option<u32>) -> Result<Reloading, NoReload> {
        let before = Processes::here()?;
        let master = self.master(named, &before)?;
        master.hang_up()?;
        let (master, workers) = (master.identity(), before.workers_of(master.identity()));
        Ok(Reloading { master, workers })
    }

    fn has_new_workers(&self, reloading: &Reloading) -> Option<bool> {
        reloading.has_new_workers(&Processes::here().ok()?)
    }

    fn check(&self, named: Option<u32>) -> Result<(), NoReload> {
        self.master(named, &Processes::here()?)?.check()
    }

    fn loaded_at(&self, named: Option<u32>) -> Option<SystemTime> {
        let seen = Processes::here().ok()?;
        let master = self.master(named, &seen).ok()?;
        seen.loaded_at(master.identity())
    }
}

/// The master that a PID file names.
fn named_in(path: &Path, seen: &Processes) -> Result<Master, NoReload> {
    let pid = pid_in(path)?;
    Master::open(pid)?.ok_or_else(|| {
        let stale = NoReload::Stale { path: path.to_path_buf(), pid };
        seen.obstacle().unwrap_or(stale)
    })
}

fn pid_in(path: &Path) -> Result<u32, NoReload> {
    let file = || path.to_path_buf();
    let read = Source::new([file()]).read(&Mounted).map_err(|problem| match problem.reason() {
        Reason::Missing => NoReload::NoPidFile { path: file() },
        _ => NoReload::PidFileUnreadable { problem: problem.with_cause() },
    })?;
    let text = std::str::from_utf8(read.content(path)).ok();
    let pid = text.and_then(|text| text.trim().parse::<NonZeroU32>().ok());
    pid.map(NonZeroU32::get).ok_or_else(|| NoReload::NotAPid { path: file() })
}

fn the_only_one(seen: &Processes) -> Result<Master, NoReload> {
    match (&seen.kongs_masters()[..], seen.masters()) {
        ([], others) if others.is_empty() => Err(seen.obstacle().unwrap_or(NoReload::NotRunning)),
        ([], pids) => Err(NoReload::Foreign { pids }),
        ([pid], _) => Master::open(*pid)?.ok_or(NoReload::Gone { pid: *pid }),
        (pids, _) => Err(NoReload::Several { pids: pids.to_vec() }),
    }
}

/// A signal that was sent, and what ran before it. The default is that of no nginx at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloading {
    master: Identity,
    workers: BTreeSet<Identity>,
}

impl Reloading {
    /// The process id of the master that was signalled.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.master.pid
    }

    fn has_new_workers(&self, now: &Processes) -> Option<bool> {
        let workers = now.workers_of(self.master);
        now.has_master(self.master).then(|| !workers.is_subset(&self.workers))
    }
}

/// Why nginx was not signalled; each names what to mend.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoReload {
    /// There is no nginx.
    #[error("no nginx is running here (yet); it is looked for again")]
    NotRunning,
    /// We are alone here.
    #[error(
        "this container sees no processes but its own, so no nginx; let it share Kong's: shareProcessNamespace: true in the pod's spec (Kubernetes), or pid: service:kong (compose)"
    )]
    Unshared,
    /// Other users' processes cannot be seen.
    #[error(
        "/proc hides processes of other users (hidepid), and of those that are seen none is nginx's master; run the sidecar as Kong's user, usually runAsUser: 1000"
    )]
    Hidden,
    /// No processes can be seen.
    #[error(
        "/proc does not show this container's processes; mount a proc file system of its own there"
    )]
    NoProc,
    /// Those that are here were not started by Kong.
    #[error("of the nginx masters here ({pids}) none was started as Kong starts its own (-p PREFIX -c nginx.conf); if one of them is Kong's, set CERT_RELOADER__RELOAD__PID_FILE to its PID file, pids/nginx.pid in Kong's prefix", pids = listed(.pids))]
    Foreign {
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// More than one Kong.
    #[error("several nginx masters of Kong are running here ({pids}); set CERT_RELOADER__RELOAD__PID_FILE to the PID file of Kong's, pids/nginx.pid in its prefix", pids = listed(.pids))]
    Several {
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// No such file.
    #[error("the PID file {path} does not exist: nginx is not running yet, or Kong's prefix is not mounted there; mount it, or set CERT_RELOADER__RELOAD__PID_FILE to the file that Kong's nginx writes", path = path.display())]
    NoPidFile {
        /// The file.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("the PID file cannot be read: {problem}")]
    PidFileUnreadable {
        /// The file, why, and the mend.
        problem: String,
    },
    /// Its content is of another kind.
    #[error("{path} holds no process id; set CERT_RELOADER__RELOAD__PID_FILE to the PID file of Kong's nginx, pids/nginx.pid in its prefix", path = path.display())]
    NotAPid {
        /// The file.
        path: PathBuf,
    },
    /// Its process id is no master's.
    #[error("the PID file {path} names process {pid}, which is no nginx master here: it was left behind, or written in another process namespace; start Kong again, or share its processes (shareProcessNamespace: true)", path = path.display())]
    Stale {
        /// The file.
        path: PathBuf,
        /// What it names.
        pid: u32,
    },
    /// It ended, perhaps while it was looked at.
    #[error("nginx's master {pid} is gone; it is looked for again")]
    Gone {
        /// Its process id.
        pid: u32,
    },
    /// We are another user.
    #[error(
        "uid {ours} may not signal nginx's master {pid}, which is of uid {owner}; run the sidecar as that user, runAsUser: {owner} in its securityContext"
    )]
    Denied {
        /// The master.
        pid: u32,
        /// Its user.
        owner: u32,
        /// Our user.
        ours: u32,
    },
    /// Users are equal, and something else forbids it.
    #[error(
        "a security profile forbids to signal nginx's master {pid}; give the sidecar the AppArmor, SELinux and seccomp profiles of Kong's container"
    )]
    Confined {
        /// The master.
        pid: u32,
    },
    /// Without it a process id may be another process's by the time of the signal.
    #[error(
        "this system has no pidfd, which a safe signal needs; use Linux 5.3 or later, with a seccomp profile that allows pidfd_open and pidfd_send_signal"
    )]
    NoPidfd,
    /// Anything else the system says.
    #[error("nginx's master {pid} cannot be signalled: {problem}; it is tried again")]
    System {
        /// The master.
        pid: u32,
        /// The system's words.
        problem: Errno,
    },
}

impl NoReload {
    /// Whether it may only be that nginx has not started yet.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NotRunning | Self::NoPidFile { .. } | Self::Stale { .. } | Self::Gone { .. }
        )
    }

    /// Whether it goes without anyone who mends it.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        self.is_absence() || matches!(self, Self::Foreign { .. } | Self::System { .. })
    }

    /// The kind of trouble, as it stands in labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotRunning => "not_running",
            Self::Unshared => "processes_not_shared",
            Self::Hidden => "processes_hidden",
            Self::NoProc => "no_proc",
            Self::Foreign { .. } => "foreign_master",
            Self::Several { .. } => "several_masters",
            Self::NoPidFile { .. } => "no_pid_file",
            Self::PidFileUnreadable { .. } => "pid_file_unreadable",
            Self::NotAPid { .. } => "pid_file_garbled",
            Self::Stale { .. } => "pid_file_stale",
            Self::Gone { .. } => "master_gone",
            Self::Denied { .. } => "permission_denied",
            Self::Confined { .. } => "security_profile",
            Self::NoPidfd => "no_pidfd",
            Self::System { .. } => "system_error",
        }
    }
}

fn listed(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;
    use std::io::{self, Read as _, Write as _};
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command, Output, Stdio};
    use std::thread;

    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    use tempfile::TempDir;

    use super::*;

    const MASTER: &str = "nginx: master process /usr/sbin/nginx -p /usr/local/kong -c nginx.conf";
    const FOREIGN: &str = "nginx: master process nginx -g daemon off;";
    const NOBODY: u32 = 65534;

    /// A process that waits for its end, and calls itself as it is told. SIGHUP ends it.
    struct Fake(Child);

    impl Fake {
        fn named(title: &str) -> Self {
            let mut shell = Command::new("sh");
            shell.arg0(title).args(["-c", "echo; read line"]);
            let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // It has its name only a moment after it was started.
            shell.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            Self(shell)
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        /// Ends it, unless a signal is under way already; tells whether SIGHUP was it.
        fn was_hung_up(mut self) -> bool {
            self.0.stdin.take();
            self.0.wait().unwrap().signal() == Some(rustix::process::Signal::HUP.as_raw())
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// An nginx whose PID file holds `text`.
    fn with_pid_file(text: &str) -> (TempDir, Nginx) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("nginx.pid");
        fs::write(&path, text).unwrap();
        (home, Nginx::new(Some(path)))
    }

    fn no_reload(nginx: &mut Nginx, told: Option<u32>) -> NoReload {
        nginx.reload(told).unwrap_err()
    }

    /// What is told of a PID file that names `pid`, wrongly. In a container the tests are alone.
    fn stale(nginx: &Nginx, pid: u32) -> NoReload {
        let stale = NoReload::Stale { path: nginx.pid_file.clone().unwrap(), pid };
        Processes::here().unwrap().obstacle().unwrap_or(stale)
    }

    #[test]
    fn the_master_that_the_pid_file_names_gets_sighup() {
        let fake = Fake::named(MASTER);
        let (_home, mut nginx) = with_pid_file(&format!("{}\n", fake.pid()));
        let reloading = nginx.reload(None).unwrap();
        assert_eq!(reloading.pid(), fake.pid());
        assert!(fake.was_hung_up());
        assert_eq!(nginx.has_new_workers(&reloading), None);
    }

    #[test]
    fn the_master_that_kong_told_gets_sighup() {
        let fake = Fake::named(MASTER);
        assert_eq!(Nginx::new(None).reload(Some(fake.pid())).unwrap().pid(), fake.pid());
        assert!(fake.was_hung_up());
    }

    #[test]
    fn the_pid_file_wins_over_what_kong_told() {
        let (named, told) = (Fake::named(MASTER), Fake::named(MASTER));
        let (_home, mut nginx) = with_pid_file(&named.pid().to_string());
        assert_eq!(nginx.reload(Some(told.pid())).unwrap().pid(), named.pid());
        assert!(!told.was_hung_up());
    }

    #[test]
    fn what_does_not_call_itself_a_master_is_never_signalled() {
        let titles = [
            "nginx",
            "nginx: worker process",
            "NGINX: master process",
            "vi nginx: master process",
            "nginx: master proces",
        ];
        for title in titles {
            let fake = Fake::named(title);
            let (_home, mut nginx) = with_pid_file(&fake.pid().to_string());
            assert_eq!(no_reload(&mut nginx, None), stale(&nginx, fake.pid()));
            assert!(!fake.was_hung_up(), "{title}");
        }
    }

    #[test]
    fn we_never_signal_ourselves() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = run_ignored(command.arg0(MASTER), "we_call_ourselves_a_master").unwrap();
        assert!(has_passed(&output), "{output:?}");
    }

    #[test]
    #[ignore = "runs where we have a master's name"]
    fn we_call_ourselves_a_master() {
        let ours = std::process::id();
        let (_home, mut nginx) = with_pid_file(&ours.to_string());
        assert_eq!(no_reload(&mut nginx, None), stale(&nginx, ours));
    }

    #[test]
    fn a_pid_file_that_was_left_behind_is_told_with_its_pid() {
        let fake = Fake::named(MASTER);
        let pid = fake.pid();
        drop(fake);
        for pid in [pid, i32::MAX.unsigned_abs(), u32::MAX] {
            let (_home, mut nginx) = with_pid_file(&pid.to_string());
            assert_eq!(no_reload(&mut nginx, None), stale(&nginx, pid));
        }
    }

    #[test]
    fn a_pid_file_that_holds_no_pid_is_told() {
        for text in ["", "\n", "nginx", "0", "-1", "12 13", "99999999999", "\u{0}7"] {
            let (_home, mut nginx) = with_pid_file(text);
            assert_eq!(no_reload(&mut nginx, None).as_str(), "pid_file_garbled", "{text:?}");
        }
    }

    #[test]
    fn a_pid_file_that_is_missing_or_no_file_is_told() {
        let home = tempfile::tempdir().unwrap();
        let mut nginx = Nginx::new(Some(home.path().join("nginx.pid")));
        assert_eq!(no_reload(&mut nginx, None).as_str(), "no_pid_file");
        let mut nginx = Nginx::new(Some(home.path().to_path_buf()));
        assert_eq!(no_reload(&mut nginx, None).as_str(), "pid_file_unreadable");
    }

    #[test]
    fn another_users_master_is_told_with_that_user() {
        if !rustix::process::geteuid().is_root() {
            not_tested("a master of another user; only root can become another user");
            return;
        }
        let fake = Fake::named(MASTER);
        let pid = fake.pid();
        let told = as_nobody(move || no_reload(&mut Nginx::new(None), Some(pid)));
        assert_eq!(told, NoReload::Denied { pid, owner: 0, ours: NOBODY });
        assert!(told.to_string().contains("runAsUser: 0"), "{told}");
        assert!(!fake.was_hung_up());
    }

    /// What comes of `act` in a thread of another user.
    fn as_nobody<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let act = move || {
            // With group 0 nothing is hidden.
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            act()
        };
        thread::spawn(act).join().unwrap()
    }

    // What is found among all processes: these run where there are no others.

    #[test]
    fn among_all_processes_the_only_master_is_found() {
        alone("an_unshared_namespace_one_master_and_two", r#"exec "$@""#);
    }

    #[test]
    #[ignore = "runs where it is the first process"]
    fn an_unshared_namespace_one_master_and_two() {
        assert_eq!(std::process::id(), 1);
        let mut nginx = Nginx::new(None);
        assert_eq!(no_reload(&mut nginx, None), NoReload::Unshared);
        // What Kong tells is of its own namespace, and so it may name anyone here.
        assert_eq!(no_reload(&mut nginx, Some(1)), NoReload::Unshared);
        let (_home, mut named) = with_pid_file("1");
        assert_eq!(no_reload(&mut named, None), NoReload::Unshared);

        let (one, other) = (Fake::named(MASTER), Fake::named("sleep"));
        let gone = NoReload::Gone { pid: other.pid() };
        assert_eq!(no_reload(&mut nginx, Some(other.pid())), gone);
        assert_eq!(nginx.reload(None).unwrap().pid(), one.pid());
        assert!(one.was_hung_up() && !other.was_hung_up());

        let other = Fake::named(FOREIGN);
        let foreign = NoReload::Foreign { pids: vec![other.pid()] };
        assert_eq!(no_reload(&mut nginx, None), foreign);
        let one = Fake::named(MASTER);
        assert_eq!(nginx.reload(None).unwrap().pid(), one.pid());
        assert!(one.was_hung_up());
        // Named, it is signalled.
        assert_eq!(nginx.reload(Some(other.pid())).unwrap().pid(), other.pid());
        assert!(other.was_hung_up());

        let (one, other) = (Fake::named(MASTER), Fake::named(MASTER));
        let several = NoReload::Several { pids: vec![one.pid(), other.pid()] };
        assert_eq!(no_reload(&mut nginx, None), several);
        assert!(!one.was_hung_up() && !other.was_hung_up());
    }

    #[test]
    fn processes_that_are_hidden_are_told() {
        if !rustix::process::geteuid().is_root() {
            not_tested("hidden processes; only root can become another user");
            return;
        }
        for hidden in ["hidepid=1", "hidepid=2"] {
            let script = format!(r#"mount -o remount,{hidden} /proc; "$@"; exit $?"#);
            alone("a_proc_that_hides_processes_of_other_users", &script);
        }
    }

    #[test]
    #[ignore = "runs where processes are hidden"]
    fn a_proc_that_hides_processes_of_other_users() {
        let fake = Fake::named(MASTER);
        let pid = fake.pid();
        for told in [None, Some(pid)] {
            let said = as_nobody(move || no_reload(&mut Nginx::new(None), told));
            assert_eq!(said, NoReload::Hidden);
        }
        assert!(!fake.was_hung_up());
    }

    #[test]
    fn a_proc_of_another_namespace_is_not_taken_for_ours() {
        alone("a_proc_with_other_numbers", r#"exec unshare --pid --fork -- "$@""#);
    }

    #[test]
    #[ignore = "runs where /proc is not of its namespace"]
    fn a_proc_with_other_numbers() {
        // So many that the number of one is that of another in /proc.
        let fakes: Vec<Fake> = (0..20).map(|_| Fake::named(MASTER)).collect();
        for told in fakes.iter().map(|fake| Some(fake.pid())).chain([None]) {
            assert_eq!(no_reload(&mut Nginx::new(None), told), NoReload::NoProc);
        }
        assert!(!fakes.into_iter().any(Fake::was_hung_up));
    }

    /// Runs the ignored test `name` as `script` does, whose arguments are its command, in a
    /// process namespace of its own.
    fn alone(name: &str, script: &str) {
        let is_root = rustix::process::geteuid().is_root();
        let user: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
        let run = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(user).args(["--pid", "--fork", "--mount-proc", "--"]);
            command.args(["sh", "-euc", script, "sh"]).arg(std::env::current_exe().unwrap());
            run_ignored(&mut command, name)
        };
        match run(&script.replace(r#""$@""#, "true")) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return not_tested(&format!("a process namespace of its own; {cause}"));
            }
            Err(cause) => {
                return not_tested(&format!("a process namespace of its own; unshare: {cause}"));
            }
        }
        let output = run(script).unwrap();
        assert!(has_passed(&output), "{output:?}");
    }

    /// Runs one test by `command`, which ends in the program of these tests.
    fn run_ignored(command: &mut Command, name: &str) -> io::Result<Output> {
        command.args(["--ignored", "--exact", &format!("nginx::tests::{name}")]).output()
    }

    fn has_passed(output: &Output) -> bool {
        let said = String::from_utf8_lossy(&output.stdout);
        output.status.success() && said.contains("1 passed")
    }

    /// Seen even where the output of tests is captured.
    fn not_tested(what: &str) {
        let _ = io::stderr().write_fmt(format_args!("not tested: {what}\n"));
    }

    #[test]
    fn each_trouble_has_a_word_of_its_own_and_a_sentence() {
        let path = PathBuf::from("/run/nginx.pid");
        let all = [
            NoReload::NotRunning,
            NoReload::Unshared,
            NoReload::Hidden,
            NoReload::NoProc,
            NoReload::Foreign { pids: vec![7, 8] },
            NoReload::Several { pids: vec![7, 8] },
            NoReload::NoPidFile { path: path.clone() },
            NoReload::PidFileUnreadable { problem: "/run is a directory".to_owned() },
            NoReload::NotAPid { path: path.clone() },
            NoReload::Stale { path, pid: 7 },
            NoReload::Gone { pid: 7 },
            NoReload::Denied { pid: 7, owner: 1000, ours: 65532 },
            NoReload::Confined { pid: 7 },
            NoReload::NoPidfd,
            NoReload::System { pid: 7, problem: Errno::NOMEM },
        ];
        let words: BTreeSet<_> = all.iter().map(NoReload::as_str).collect();
        assert_eq!(words.len(), all.len());
        for trouble in &all {
            let (word, said) = (trouble.as_str(), trouble.to_string());
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
            assert!(!said.ends_with('.') && !said.contains('\n'), "{said}");
        }
        assert!(all[4].to_string().contains("(7, 8)"));
    }

    #[test]
    fn no_nginx_has_no_new_workers() {
        assert_eq!(Nginx::new(None).has_new_workers(&Reloading::default()), None);
    }
}
