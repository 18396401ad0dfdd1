//! A real browser: Debian's Chromium, driven over a pipe by the DevTools protocol.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A browser starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The protocol is spoken on descriptors 3 and 4, which a child gets only from a shell.
const ON_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >&2"#;
/// Its names: Debian's, others', and that of the one that it is made from.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one tab; killed when dropped.
#[derive(Debug)]
pub struct Browser {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    events: Vec<Value>,
}

/// A window: pixels of CSS, and how many of the screen one of them takes.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Pixels of the screen for one of CSS.
    pub scale: u32,
}

impl Browser {
    /// Starts one, if one is installed, with its files beneath `home`.
    pub async fn start(home: &Path) -> Option<Self> {
        for program in PROGRAMS {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().await.is_ok_and(|status| status.success()) {
                return Some(Self::of(program, home).await);
            }
        }
        None
    }

    async fn of(program: &str, home: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", ON_PIPES, program, "--headless=new", "--remote-debugging-pipe"]);
        // A sandbox of its own is not to be had as root, or in a container.
        command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--disable-background-networking", "--disable-component-update"]);
        command.args(["--no-first-run", "--hide-scrollbars", "about:blank"]);
        command.arg(format!("--user-data-dir={}", home.display())).env("HOME", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let from = BufReader::new(from);
        let mut browser =
            Self { _child: child, to, from, session: None, calls: 0, events: Vec::new() };
        let tab = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let target = json!({"targetId": tab["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", target).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Log", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// One call of the DevTools protocol; its result.
    pub async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{call}\0").as_bytes()).await.unwrap();
        loop {
            let told = self.next().await;
            if told["id"] == id {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].clone();
            }
            self.events.push(told);
        }
    }

    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = self.from.read_until(0, &mut message);
        assert!(timeout(PATIENCE, read).await.expect("a browser that answers").unwrap() > 0);
        message.pop();
        serde_json::from_slice(&message).unwrap()
    }

    /// Waits for an event, of those that came since the last page was opened.
    pub async fn event(&mut self, method: &str) -> Value {
        loop {
            if let Some(event) = self.events.iter().find(|event| event["method"] == method) {
                return event["params"].clone();
            }
            let told = self.next().await;
            self.events.push(told);
        }
    }

    /// Forgets the events so far.
    pub fn forget(&mut self) {
        self.events.clear();
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&mut self, url: &str) {
        self.forget();
        let opened = self.call("Page.navigate", json!({"url": url})).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        self.event("Page.loadEventFired").await;
    }

    /// What an expression is in the page; works where the page's own scripts are off, too.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let told = self.call("Runtime.evaluate", wanted).await;
        assert!(told["exceptionDetails"].is_null(), "{}", told["exceptionDetails"]);
        told["result"]["value"].clone()
    }

    /// Whether pages may run scripts.
    pub async fn allow_scripts(&mut self, allowed: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !allowed})).await;
    }

    /// What the reader prefers: a media feature such as `prefers-color-scheme`, and its value.
    pub async fn prefer(&mut self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// How large the window is.
    pub async fn resize(&mut self, window: Window) {
        let Window { width, height, scale } = window;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the browser complained about since the page was opened: violations of the content
    /// security policy, what could not be loaded, exceptions.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let is_one = |event: &&Value| {
            let method = event["method"].as_str().unwrap_or_default();
            matches!(
                method,
                "Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled"
            )
        };
        self.events.iter().filter(is_one).map(|event| event["params"].to_string()).collect()
    }

    /// The addresses that were requested since the page was opened.
    #[must_use]
    pub fn requested(&self) -> Vec<String> {
        let sent = self.events.iter();
        let sent = sent.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned))
            .collect()
    }

    /// What the window shows, as PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        decoded(taken["data"].as_str().unwrap())
    }
}

/// What base64 text stands for.
#[must_use]
pub fn decoded(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

/// Bytes as base64 text.
#[must_use]
pub fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
