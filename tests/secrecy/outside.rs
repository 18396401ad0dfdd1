//! What others may see of the process: nothing of its memory, and no core when it crashes.
//!
//! As root the sidecar and those who look run as another user; else as the user of the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testkit::{SidecarProcess, not_tested, with_settings};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::PROGRAM;

/// Nobody's id on every Linux.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that is everybody's, with the program in it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        fs::copy(PROGRAM, directory.path().join("program")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program with these settings and without a limit on cores, as far as that may be lifted.
    fn program(&self, settings: &[(&str, &str)]) -> Command {
        let mut command = with_settings(Path::new("/bin/sh"), settings);
        let lifted = "ulimit -c unlimited 2>/dev/null || true; exec \"$0\"";
        command.arg("-c").arg(lifted).arg(self.path("program"));
        command.current_dir(self.directory.path());
        as_user(command)
    }

    async fn sidecar(&self) -> SidecarProcess {
        let certs = self.path("certs");
        fs::create_dir(&certs).unwrap();
        let settings = [
            ("ADMIN__URL", "http://127.0.0.1:1"),
            ("CERTS_DIR", certs.to_str().unwrap()),
            ("LISTEN", "127.0.0.1:0"),
        ];
        SidecarProcess::spawn(self.program(&settings)).await
    }
}

fn as_user(mut command: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// What the same user gets to read of a process.
async fn read(pid: u32, file: &str) -> Output {
    let mut reader = Command::new("cat");
    reader.env("LC_ALL", "C").arg(format!("/proc/{pid}/{file}"));
    as_user(reader).output().await.unwrap()
}

/// A process of the same user that hides nothing.
fn other() -> Child {
    let mut other = Command::new("sleep");
    other.arg("60").env("HIDDEN", "nothing").kill_on_drop(true);
    as_user(other).spawn().unwrap()
}

fn is_dumpable(pid: u32) -> bool {
    // The files of a process that is not dumpable are root's; root's own are so in any case.
    let owner = fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    owner
        == if rustix::process::geteuid().is_root() {
            NOBODY
        } else {
            rustix::process::geteuid().as_raw()
        }
}

fn core_limit(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap().split_whitespace().take(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_process_of_the_same_user_reads_its_memory_or_environment() {
    let place = Place::new();
    let sidecar = place.sidecar().await;
    let (pid, other) = (sidecar.pid(), other());
    // The kernel asks the same before it reads memory for `/proc/PID/mem` as for ptrace.
    for file in ["mem", "environ", "maps", "smaps", "auxv", "stack", "syscall"] {
        let output = read(pid, file).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("ermi"), "{file}: {said}");
        assert!(output.stdout.is_empty(), "{file}");
    }
    let environ = read(other.id().unwrap(), "environ").await.stdout;
    assert!(String::from_utf8_lossy(&environ).contains("HIDDEN=nothing"), "nobody may read here");
    assert!(!is_dumpable(pid) && is_dumpable(other.id().unwrap()));
    assert_eq!(core_limit(pid), ["0", "0"]);
}

#[tokio::test]
async fn its_memory_is_closed_before_it_reads_settings() {
    let place = Place::new();
    let pipe = place.path("settings.yaml");
    assert!(
        Command::new("mkfifo").args(["-m", "666"]).arg(&pipe).status().await.unwrap().success()
    );
    let settings = [("CONFIG", pipe.to_str().unwrap())];
    let mut command = place.program(&settings);
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut waiting = command.spawn().unwrap();
    let pid = waiting.id().unwrap();
    // There is a writer as soon as the program waits for what it writes.
    let path = pipe.clone();
    let writer = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(path));
    let writer = timeout(PATIENCE, writer).await.expect("a reader").unwrap().unwrap();
    assert!(!is_dumpable(pid), "it reads a token, and others may read it");
    assert_eq!(core_limit(pid), ["0", "0"]);
    drop(writer);
    waiting.kill().await.unwrap();
}

#[tokio::test]
async fn a_crash_leaves_no_core() {
    let place = Place::new();
    let aborted = place.crash("kill -ABRT $$").await;
    if !aborted.core_dumped() {
        return not_tested("that a crash leaves no core: none leaves one here");
    }
    for signal in ["-ABRT", "-FPE", "-QUIT"] {
        let place = Place::new();
        let mut sidecar = place.sidecar().await;
        let pid = sidecar.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let ended = sidecar.ended().await;
        assert!(ended.signal().is_some() && !ended.core_dumped(), "{signal}: {ended}");
        let mut left: Vec<_> = fs::read_dir(place.directory.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["certs", "program"], "{signal}");
    }
}

impl Place {
    /// How a shell ends that does this without a limit on cores.
    async fn crash(&self, how: &str) -> ExitStatus {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -c unlimited 2>/dev/null || true; {how}"));
        shell.current_dir(self.directory.path());
        as_user(shell).status().await.unwrap()
    }
}
