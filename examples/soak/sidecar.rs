//! The program as a process of its own, and what it takes of the machine.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::http_client::exchange;
use testkit::{Request, with_settings};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::{Outcome, PATIENCE, SIDECAR};

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// So much of the log is shown where something went wrong.
const LAST_LINES: usize = 30;
/// Has glibc give large buffers back, as the allocator of the image does: else it keeps up to 32 MB
/// after it has seen one, or does not, and that is nothing that the program holds.
const ALLOCATOR: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072");

/// A running sidecar: this program again, told to be one. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Sidecar {
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl Sidecar {
    /// Starts it and waits until it listens. `log` is what it writes.
    pub(crate) async fn start(settings: Vec<(String, String)>, log: PathBuf) -> Outcome<Self> {
        let child = spawn(&settings, &log)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sidecar = Self { settings, log, child, address };
        sidecar.address = sidecar.listens_at().await?;
        Ok(sidecar)
    }

    /// Ends it, and waits for the end.
    pub(crate) async fn end(&mut self, signal: Signal) -> Outcome {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.ok_or("a sidecar ended by itself")?;
        kill_process(pid, signal).map_err(|error| format!("cannot signal a sidecar: {error}"))?;
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if signal != Signal::TERM || status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("a sidecar ended with {status} on SIGTERM")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("a sidecar does not end".to_owned()),
        }
    }

    /// Starts it once more, after its end.
    pub(crate) async fn start_again(&mut self) -> Outcome {
        self.child = spawn(&self.settings, &self.log)?;
        self.address = self.listens_at().await?;
        Ok(())
    }

    /// Waits until every binding is in sync.
    pub(crate) async fn in_sync(&self) -> Outcome {
        let began = Instant::now();
        loop {
            let status = self.status().await?;
            let bindings = status["bindings"].as_object().into_iter().flatten();
            let others: Vec<String> = bindings
                .filter(|(_, shown)| shown["state"] != "in_sync")
                .map(|(name, shown)| format!("{name} is {}: {}", shown["state"], shown["message"]))
                .collect();
            if others.is_empty() {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("not in sync: {}", others.join("; ")));
            }
            sleep(PAUSE * 10).await;
        }
    }

    /// `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The end of what it wrote.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    async fn status(&self) -> Outcome<Value> {
        let request = Request::new("GET", "/status");
        let answer = timeout(PATIENCE, exchange(self.address, &request)).await;
        let answer = answer.map_err(|_| "/status does not answer")?;
        Ok(answer.map_err(|error| format!("/status: {error}"))?.value())
    }

    async fn listens_at(&self) -> Outcome<SocketAddr> {
        let listening = async {
            loop {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                if let Some(address) = log.lines().rev().find_map(address_in) {
                    return address;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, listening).await.map_err(|_| "a sidecar does not listen".to_owned())
    }
}

/// Begins the log anew: of a life before nothing is read.
fn spawn(settings: &[(String, String)], log: &Path) -> Outcome<Child> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut command: Command = with_settings(&program, &settings);
    let log = File::create(log)
        .and_then(|_| OpenOptions::new().append(true).open(log))
        .map_err(|error| error.to_string())?;
    command
        .env(SIDECAR, "")
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.kill_on_drop(true).spawn().map_err(|error| error.to_string())
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["message"] == "listening").then(|| event["address"].as_str()?.parse().ok())?
}

/// What a process takes. Descriptors and what they are can be seen by root alone: the sidecar is
/// not dumpable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
    /// The most that it ever was.
    pub(crate) high_water: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: Option<u64>,
    pub(crate) sockets: Option<u64>,
    /// What inotify watches.
    pub(crate) watches: Option<u64>,
}

impl Figures {
    /// `None` where there is no such process.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        let links = names(&process.join("fd")).map(|numbers| {
            let target = |number: &String| fs::read_link(process.join("fd").join(number)).ok();
            numbers.iter().filter_map(target).collect::<Vec<PathBuf>>()
        });
        let count = |links: &Vec<PathBuf>| links.len() as u64;
        let sockets = |links: &Vec<PathBuf>| {
            links.iter().filter(|link| link.to_string_lossy().starts_with("socket:")).count() as u64
        };
        Some(Self {
            resident: field("VmRSS")?,
            high_water: field("VmHWM")?,
            threads: field("Threads")?,
            descriptors: links.as_ref().map(count),
            sockets: links.as_ref().map(sockets),
            watches: watches(&process.join("fdinfo")),
        })
    }
}

fn watches(directory: &Path) -> Option<u64> {
    let texts = names(directory)?;
    let texts = texts.iter().filter_map(|number| fs::read_to_string(directory.join(number)).ok());
    let of = |text: String| text.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
    Some(texts.map(of).sum())
}

fn names(directory: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(directory).ok()?;
    Some(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
