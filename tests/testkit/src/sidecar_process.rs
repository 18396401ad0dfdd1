//! The program itself, run as a process of its own and watched from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::http_client::exchange;
use crate::kong_model::Request;

/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// A running sidecar; killed when dropped.
#[derive(Debug)]
pub struct SidecarProcess {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
}

/// All that the process wrote.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Notify,
}

impl SidecarProcess {
    /// Starts `program` with nothing in its environment but `settings` (names without the prefix
    /// `CERT_RELOADER__`), JSON logs unless they say otherwise, and a free port to listen on; waits until it listens.
    pub async fn start(program: impl AsRef<Path>, settings: &[(&str, &str)]) -> Self {
        let common = [("LOG__FORMAT", "json"), ("LISTEN", "127.0.0.1:0")];
        Self::spawn(with_settings(program.as_ref(), &[&common, settings].concat())).await
    }

    /// Starts `command` as it is; waits until it listens.
    pub async fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        tokio::spawn(gather(out, Arc::clone(&log)));
        tokio::spawn(gather(err, Arc::clone(&log)));
        let placeholder = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sidecar = Self { child, log, address: placeholder };
        sidecar.address = sidecar.line_with("an address", address_in).await;
        sidecar
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every line it wrote, to both outputs.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first log line with this message.
    pub async fn logged(&self, message: &str) -> Value {
        self.logged_where(message, |_| true).await
    }

    /// Waits for the first log line with this message for which `is_it` holds.
    pub async fn logged_where(&self, message: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let event_in = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["message"] == message && is_it(&event)).then_some(event)
        };
        self.line_with(message, event_in).await
    }

    /// Waits for the first line in which something is found.
    async fn line_with<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let found = async {
            loop {
                let grown = self.log.grown.notified();
                if let Some(found) = self.lines().iter().find_map(|line| find(line)) {
                    return found;
                }
                grown.await;
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("nothing of {what:?} in\n{}", self.lines().join("\n")),
        }
    }

    /// One GET.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = exchange(self.address, &Request::new("GET", path)).await.unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    /// `/status`.
    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.page("/status").await.1).unwrap()
    }

    /// Waits until `/status` shows `binding` as `is_so` wants it; returns what it shows.
    pub async fn until(&self, binding: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let shown = async {
            loop {
                last = self.status().await["bindings"][binding].clone();
                if is_so(&last) {
                    return last.clone();
                }
                sleep(PAUSE).await;
            }
        };
        match timeout(PATIENCE, shown).await {
            Ok(shown) => shown,
            Err(_) => panic!("{binding} is {last:#} in\n{}", self.lines().join("\n")),
        }
    }

    /// Waits until `binding` is in `state`.
    pub async fn until_state(&self, binding: &str, state: &str) -> Value {
        self.until(binding, |shown| shown["state"] == state).await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        self.ended().await
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("an end").unwrap()
    }
}

/// Where it listens, if the line tells that, in JSON or in text.
fn address_in(line: &str) -> Option<SocketAddr> {
    match serde_json::from_str::<Value>(line) {
        Ok(event) if event["message"] == "listening" => event["address"].as_str()?.parse().ok(),
        Ok(_) => None,
        Err(_) => line.split_once("listening address=")?.1.split(' ').next()?.parse().ok(),
    }
}

/// `program` with nothing in its environment but `settings` (names without the prefix
/// `CERT_RELOADER__`).
#[must_use]
pub fn with_settings(program: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for (name, value) in settings {
        command.env(format!("CERT_RELOADER__{name}"), value);
    }
    command
}

async fn gather(output: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        log.grown.notify_waiters();
    }
}
