//! A real nginx, run as a process of its own: what Kong's is underneath.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::tls_client::TlsClient;

/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(5);
/// So often are other ports taken, where someone else was quicker.
const STARTS: usize = 5;
/// As many workers as it has, unless a reload is under way.
const WORKERS: usize = 2;

/// A running nginx; stopped when dropped. What it wrote stays in its directory.
#[derive(Debug)]
pub struct NginxProcess {
    master: Child,
    home: PathBuf,
    ports: Vec<u16>,
}

impl NginxProcess {
    /// Where the program is; `None` where there is none that runs.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // The second is not in the PATH of ordinary users, the third is where `.ci/run` puts it.
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ci/usr/sbin");
        let others = [PathBuf::from("/usr/sbin"), fetched];
        let mut places = std::env::split_paths(&path).chain(others);
        places.find_map(|place| Some(place.join("nginx")).filter(|program| runs(program)))
    }

    /// Starts `program` in the directory `home`, with a port for each pair of certificate and key
    /// file, that answers each request with `200` and its number; waits until all workers answer.
    pub async fn start(program: &Path, home: &Path, pairs: &[(PathBuf, PathBuf)]) -> Self {
        for _ in 0..STARTS {
            let mut nginx = Self::spawn(program, home, pairs);
            if nginx.is_up().await {
                return nginx;
            }
            let log = nginx.error_log();
            assert!(log.contains("Address already in use"), "nginx did not start:\n{log}");
        }
        panic!("no port stayed free");
    }

    fn spawn(program: &Path, home: &Path, pairs: &[(PathBuf, PathBuf)]) -> Self {
        let ports = free_ports(pairs.len());
        let (settings, log) = (home.join("nginx.conf"), home.join("error.log"));
        fs::write(&settings, configuration(home, &ports, pairs)).unwrap();
        let mut command = Command::new(program);
        // As Kong starts its own.
        command.arg("-p").arg(home).args(["-c", "nginx.conf"]).arg("-e").arg(&log);
        let errors = File::create(home.join("stderr.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // A group of its own, so that no worker is left.
        let master = command.process_group(0).spawn().unwrap();
        Self { master, home: home.to_path_buf(), ports }
    }

    /// Waits until it answers; `false` where it ended.
    async fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.workers().len() < WORKERS || !self.answers().await {
            if self.master.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "nginx does not answer:\n{}", self.error_log());
            tokio::time::sleep(PAUSE).await;
        }
        true
    }

    async fn answers(&self) -> bool {
        for server in 0..self.ports.len() {
            if TlsClient::new().chain(self.address(server)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The process id of its master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// The file that holds the same.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.home.join("nginx.pid")
    }

    /// The port of the `server`-th pair.
    #[must_use]
    pub fn port(&self, server: usize) -> u16 {
        self.ports[server]
    }

    /// Where the `server`-th pair is served.
    #[must_use]
    pub fn address(&self, server: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(server)))
    }

    /// Its workers that take connections.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.filter(|pid| title(*pid) == "nginx: worker process").collect()
    }

    /// Where it writes what happens.
    #[must_use]
    pub fn error_log_file(&self) -> PathBuf {
        self.home.join("error.log")
    }

    /// What it wrote so far.
    #[must_use]
    pub fn error_log(&self) -> String {
        let text = |name| fs::read_to_string(self.home.join(name)).unwrap_or_default();
        text("stderr.log") + &text("error.log")
    }

    /// Waits until a line that it wrote behind the first `skipped` bytes contains `words`.
    pub async fn logged(&self, words: &str, skipped: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.error_log()[skipped..].contains(words) {
            assert!(Instant::now() < deadline, "no {words:?} in\n{}", self.error_log());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stops it at once, as Kong ends when its pod does, and waits for the end.
    pub fn stop(&mut self) {
        if self.signal("-TERM", &self.pid().to_string()) && self.ends() {
            return;
        }
        self.signal("-KILL", &format!("-{}", self.pid()));
        let _ = self.master.wait();
    }

    fn signal(&self, signal: &str, whom: &str) -> bool {
        Command::new("kill")
            .args([signal, "--", whom])
            .status()
            .is_ok_and(|status| status.success())
    }

    fn ends(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.master.try_wait() {
                Ok(None) => thread::sleep(PAUSE),
                ended => return ended.is_ok(),
            }
        }
        false
    }
}

impl Drop for NginxProcess {
    fn drop(&mut self) {
        if let Ok(None) = self.master.try_wait() {
            self.stop();
        }
    }
}

fn runs(program: &Path) -> bool {
    let output = Command::new(program).arg("-v").output();
    output.is_ok_and(|output| output.status.success())
}

/// Ports that nobody listens on at this moment.
fn free_ports(count: usize) -> Vec<u16> {
    let free: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    free.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Nothing of it lies outside of `home`, so that it runs as any user.
fn configuration(home: &Path, ports: &[u16], pairs: &[(PathBuf, PathBuf)]) -> String {
    let at = |name: &str| home.join(name).display().to_string();
    let mut text = format!(
        "daemon off; master_process on; worker_processes {WORKERS};\n\
         pid {pid}; error_log {log} notice;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n",
        pid = at("nginx.pid"),
        log = at("error.log"),
    );
    if is_root() {
        // Workers of another user could not write to our directories.
        text.insert_str(0, "user root root;\n");
    }
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "  {kind}_temp_path {};", at(kind)).unwrap();
    }
    for (number, (port, (cert, key))) in ports.iter().zip(pairs).enumerate() {
        let (cert, key) = (cert.display(), key.display());
        writeln!(
            text,
            "  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; \
             ssl_certificate_key {key}; location / {{ return 200 \"{number}\\n\"; }} }}"
        )
        .unwrap();
    }
    text + "}\n"
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|we| we.uid() == 0)
}

/// What a process calls itself.
fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
