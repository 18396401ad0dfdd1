//! The page at `/`, in a real browser, and who may have it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test reads what it likes, and asks which tools there are"
)]

#[path = "page/gallery.rs"]
mod gallery;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kong_cert_reloader::http::{self, Pages};
use kong_cert_reloader::metrics::Metrics;
use kong_cert_reloader::page::CONTENT_SECURITY_POLICY;
use kong_cert_reloader::status::Status;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Answer, Browser, CertifiedPair, Fault, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    Window, missing,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
const DESKTOP: Window = Window { width: 1280, height: 900, scale: 1 };
/// The narrowest that has to do (WCAG 2.2, 1.4.10).
const PHONE: Window = Window { width: 320, height: 640, scale: 2 };
/// What is left of a window at 200 %.
const DOUBLED: Window = Window { width: 640, height: 450, scale: 2 };

/// A status that stands still, served as the program does it.
struct Still {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Still {
    async fn new(status: Status, is_public: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, status) = watch::channel(Arc::new(status));
        let clock = Arc::new(|| gallery::NOW);
        let metrics = Metrics::default().exposition(status.clone(), clock.clone());
        let pages = Pages { status, metrics, pings: mpsc::channel(1).0, is_public, clock };
        let server = tokio::spawn(async move {
            http::serve(listener, pages).await;
        });
        Self { address, server }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn answer(&self, method: &str, path: &str, host: Option<&str>) -> Answer {
        let mut request = Request::new(method, path);
        request.headers.extend(host.map(|host| ("host".to_owned(), host.to_owned())));
        testkit::http_client::exchange(self.address, &request).await.unwrap()
    }

    /// The head of the answer to HEAD, which has no body.
    async fn head(&self, path: &str) -> Vec<(String, String)> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let lines = answer.strip_suffix("\r\n\r\n").unwrap().lines().skip(1);
        let headers = lines.filter_map(|line| line.split_once(": "));
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A browser, if there is one, and its home.
async fn browser() -> Option<(Browser, TempDir)> {
    let home = tempfile::tempdir().unwrap();
    let started = Browser::start(home.path()).await;
    if started.is_none() {
        missing("the page in a browser; chromium is not installed, .ci/run does it as root");
    }
    Some((started?, home))
}

/// A Kong, a directory of volumes, and the program between them.
struct Pod {
    kong: KongStandIn,
    certs: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        let (kong, certs) = (KongStandIn::start().await, tempfile::tempdir().unwrap());
        Self { kong, certs, pki: Pki::new() }
    }

    fn volume(&self, name: &str) -> SecretVolume {
        SecretVolume::mount(self.certs.path().join(name))
    }

    async fn sidecar(&self) -> SidecarProcess {
        let (url, certs) = (self.kong.admin_url(), self.certs.path().to_str().unwrap());
        SidecarProcess::start(PROGRAM, &[("ADMIN__URL", &*url), ("CERTS_DIR", certs)]).await
    }
}

fn publish(volume: &SecretVolume, cert: &CertifiedPair, key: &CertifiedPair) {
    let (cert, key) = (cert.chain_pem(), key.key_pem());
    assert!(volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]));
}

/// What the table says: of each row the name, the words of its state, and of its three places.
const ROWS: &str = r#"[...document.querySelectorAll("tbody tr")].map(row => ({
    name: row.querySelector("th .name").innerText,
    state: row.querySelector(".standing").innerText.trim(),
    file: row.querySelector(".file").innerText, kong: row.querySelector(".kong").innerText,
    served: row.querySelector(".served").innerText, all: row.innerText}))"#;

#[tokio::test]
async fn the_program_shows_where_each_binding_stands_and_follows_it_without_scripts() {
    let Some((mut browser, _home)) = browser().await else { return };
    let pod = Pod::new().await;
    let (good, shop, odd) = (pod.volume("good"), pod.volume("shop"), pod.volume("odd"));
    let (first, second) = (pod.pki.pair(&["good.test"]), pod.pki.pair(&["shop.test"]));
    publish(&good, &first, &first);
    publish(&shop, &second, &second);
    let sidecar = pod.sidecar().await;
    sidecar.until_state("good", "in_sync").await;
    sidecar.until_state("shop", "in_sync").await;
    // A key of another certificate, and one that Kong does not take.
    publish(&shop, &pod.pki.pair(&["shop.test"]), &second);
    sidecar.until_state("shop", "invalid").await;
    pod.kong.inject(Fault::status(400).only("PUT").always());
    let third = pod.pki.pair(&["odd.test"]);
    publish(&odd, &third, &third);
    sidecar.until_state("odd", "refused").await;

    browser.allow_scripts(false).await;
    browser.resize(DESKTOP).await;
    let url = format!("http://{}/", sidecar.address());
    browser.open(&url).await;
    assert_eq!(
        browser.evaluate("document.title").await,
        "2 of 3 not in place, worst: invalid – kong-cert-reloader"
    );
    let rows = browser.evaluate(ROWS).await;
    let states: Vec<(&str, &str)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    let expected =
        [("shop", "Invalid key_mismatch"), ("odd", "Refused by_kong"), ("good", "In sync")];
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        states.iter().map(|(name, state)| (*name, spaced(state))).collect::<Vec<_>>(),
        expected.map(|(name, state)| (name, state.to_owned()))
    );
    let [shop_row, odd_row, good_row] = [0, 1, 2].map(|row| rows[row].clone());
    let digest = |pair: &CertifiedPair| pair.leaf_fingerprint()[..23].to_owned();
    assert!(told(&good_row, "file").contains(&digest(&first)), "{good_row}");
    assert_eq!(
        (told(&good_row, "kong"), told(&good_row, "served")),
        ("same as file", "same as file")
    );
    assert!(
        told(&shop_row, "all").contains("tls.key") && told(&shop_row, "all").contains("write both")
    );
    assert!(told(&shop_row, "file").contains("the last that could be served"), "{shop_row}");
    assert!(told(&odd_row, "file").contains(&digest(&third)), "{odd_row}");
    // The style is applied, and the browser was content with all of it.
    let width = "getComputedStyle(document.querySelector('table')).borderCollapse";
    assert_eq!(browser.evaluate(width).await, "collapse");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.requested(), [url]);

    // It comes again by itself, until it is told not to.
    pod.kong.clear_faults();
    let fourth = pod.pki.pair(&["odd.test"]);
    publish(&odd, &fourth, &fourth);
    sidecar.until_state("odd", "in_sync").await;
    browser.forget();
    browser.event("Page.loadEventFired").await;
    let title = browser.evaluate("document.title").await;
    assert_eq!(title, "1 of 3 not in place, worst: invalid – kong-cert-reloader");
}

fn told<'a>(row: &'a Value, place: &str) -> &'a str {
    row[place].as_str().unwrap().trim()
}

#[tokio::test]
async fn it_is_refreshed_unless_the_reader_wants_it_to_stand_still() {
    let still = Still::new(gallery::usual(), false).await;
    for (path, refresh) in
        [("/", Some("10")), ("/?state=held", Some("10")), ("/?refresh=off", None)]
    {
        let answer = still.answer("GET", path, None).await;
        assert_eq!((answer.status, header(&answer, "refresh")), (200, refresh), "{path}");
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut headers = answer.headers.iter();
    headers.find(|(found, _)| found == name).map(|(_, value)| &**value)
}

#[tokio::test]
async fn a_browser_may_do_nothing_with_it_but_show_it() {
    let still = Still::new(gallery::usual(), false).await;
    let whole = still.answer("GET", "/", None).await;
    let head = still.head("/").await;
    assert_eq!(head, whole.headers);
    {
        let answer = &whole;
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", CONTENT_SECURITY_POLICY),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(answer, name), Some(value), "{name}");
        }
    }
    let page = String::from_utf8(whole.body).unwrap();
    for external in ["http:", "https:", "src=", "<script", "<link", "style=", " on"] {
        let is_there = page.contains(external);
        // Words of messages, and no attributes.
        assert!(!is_there || external == " on", "{external}");
    }
    let policy = CONTENT_SECURITY_POLICY;
    let wanted =
        ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"];
    assert!(wanted.iter().all(|part| policy.contains(part)) && !policy.contains("unsafe"));
}

#[tokio::test]
async fn a_site_that_has_its_name_point_here_gets_nothing() {
    let still = Still::new(gallery::usual(), false).await;
    let public = Still::new(gallery::usual(), true).await;
    for path in ["/", "/status"] {
        for (host, status) in [
            ("localhost", 200),
            ("LOCALHOST:9797", 200),
            ("127.0.0.1:9797", 200),
            ("[::1]:9797", 200),
            ("10.1.2.3:8080", 200),
            ("evil.test", 403),
            ("evil.test:9797", 403),
            ("localhost.evil.test", 403),
            ("127.0.0.1.evil.test", 403),
            ("", 403),
            ("a b", 403),
        ] {
            assert_eq!(still.answer("GET", path, Some(host)).await.status, status, "{path} {host}");
            assert_eq!(public.answer("GET", path, Some(host)).await.status, 200, "{path} {host}");
        }
    }
    // Probes and scrapers come by any name.
    assert_eq!(still.answer("GET", "/metrics", Some("pod.monitoring.svc")).await.status, 200);
    let elsewhere = still.answer("GET", "/nothing", None).await;
    assert_eq!(elsewhere.status, 404);
    assert!(elsewhere.body.starts_with(b"there are /, "));
}

#[tokio::test]
async fn what_is_written_is_what_a_browser_reads() {
    let Some((mut browser, _home)) = browser().await else { return };
    for status in [gallery::usual(), gallery::everything(), gallery::nothing()] {
        let still = Still::new(status, false).await;
        browser.open(&still.url("/?refresh=off")).await;
        let read = browser.evaluate("document.documentElement.outerHTML").await;
        let written =
            String::from_utf8(still.answer("GET", "/?refresh=off", None).await.body).unwrap();
        let written = written.trim_start_matches("<!doctype html>\n");
        // Escapes that a browser does not need; a parser that mends something moves more than these.
        let bare = |html: &str| html.replace("&#39;", "'").replace("&quot;", "\"");
        assert_eq!(bare(read.as_str().unwrap()), bare(written));
        assert_eq!(browser.evaluate("document.compatMode").await, "CSS1Compat");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}

/// What is wider than its cell.
const STICKS_OUT: &str = r#"[...document.querySelectorAll("th *, td *")].filter(part =>
    part.checkVisibility() && part.getBoundingClientRect().right
        > part.closest("th, td").getBoundingClientRect().right).map(part => part.outerHTML)"#;

#[tokio::test]
async fn it_fits_narrow_windows_and_a_doubled_zoom() {
    let Some((mut browser, _home)) = browser().await else { return };
    for status in [gallery::everything(), gallery::nothing()] {
        let still = Still::new(status, false).await;
        for window in [DESKTOP, PHONE, DOUBLED, Window { width: 1030, height: 700, scale: 1 }] {
            browser.resize(window).await;
            browser.open(&still.url("/?refresh=off")).await;
            let wide = browser.evaluate("document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(window.width), "{wide} in {window:?}");
            let out = browser.evaluate(STICKS_OUT).await;
            assert_eq!(out, json!([]), "{window:?}");
        }
    }
}

#[tokio::test]
async fn it_is_light_or_dark_as_the_reader_prefers() {
    let Some((mut browser, _home)) = browser().await else { return };
    let still = Still::new(gallery::usual(), false).await;
    let ground = "getComputedStyle(document.body).backgroundColor";
    browser.open(&still.url("/?refresh=off")).await;
    browser.prefer("prefers-color-scheme", "light").await;
    assert_eq!(browser.evaluate(ground).await, "rgb(246, 247, 248)");
    browser.prefer("prefers-color-scheme", "dark").await;
    assert_eq!(browser.evaluate(ground).await, "rgb(17, 20, 23)");
}

/// What each row is for those who hear it: links and headings have names, cells have heads.
#[tokio::test]
async fn it_is_a_table_for_those_who_hear_it_in_any_window() {
    let Some((mut browser, _home)) = browser().await else { return };
    let still = Still::new(gallery::usual(), false).await;
    for window in [DESKTOP, PHONE] {
        browser.resize(window).await;
        browser.open(&still.url("/?refresh=off")).await;
        browser.call("Accessibility.enable", json!({})).await;
        let tree = browser.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().unwrap();
        let seen: Vec<&Value> = nodes.iter().filter(|node| node["ignored"] == false).collect();
        let count = |role: &str| seen.iter().filter(|node| node["role"]["value"] == role).count();
        let counts =
            ["banner", "main", "navigation", "table", "caption", "columnheader", "rowheader"];
        assert_eq!(counts.map(count), [1, 1, 1, 1, 1, 5, 6], "{window:?}");
        assert_eq!((count("row"), count("cell"), count("heading")), (7, 24, 1), "{window:?}");
        let links = seen.iter().filter(|node| node["role"]["value"] == "link");
        assert!(links.clone().count() > 3);
        assert!(links.clone().all(|link| link["name"]["value"] != ""), "{links:?}");
    }
    assert_eq!(browser.evaluate("document.documentElement.lang").await, "en");
    let first_focus = "document.querySelector('a, summary, button').innerText";
    assert_eq!(browser.evaluate(first_focus).await, "Refresh by itself");
}

/// Axe finds what a machine can find of WCAG 2.2 A and AA.
#[tokio::test]
async fn axe_finds_no_violation() {
    let Some(axe) = axe() else { return };
    let Some((mut browser, _home)) = browser().await else { return };
    let run = r#"axe.run(document, {resultTypes: ["violations"], runOnly: {type: "tag", values:
        ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}).then(
        found => ({passes: found.passes.length, violations: found.violations.map(
            one => one.id + ": " + one.nodes.map(node => node.html).join(" "))}))"#;
    for status in [gallery::everything(), gallery::nothing()] {
        let still = Still::new(status, false).await;
        for scheme in ["light", "dark"] {
            for window in [DESKTOP, PHONE] {
                browser.prefer("prefers-color-scheme", scheme).await;
                browser.resize(window).await;
                browser.open(&still.url("/?refresh=off")).await;
                browser.evaluate(&axe).await;
                let found = browser.evaluate(run).await;
                assert!(found["passes"].as_u64().unwrap() > 10, "{found}");
                assert_eq!(found["violations"], json!([]), "{scheme} {window:?}: {found:#}");
            }
        }
    }
}

/// The text of axe-core, if it was fetched.
fn axe() -> Option<String> {
    let Some(path) = std::env::var_os("AXE_CORE") else {
        missing("the page with axe-core, which AXE_CORE does not name; .ci/run fetches it");
        return None;
    };
    Some(std::fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn a_thousand_bindings_are_shown_with_the_one_in_trouble_first() {
    let Some((mut browser, _home)) = browser().await else { return };
    let still = Still::new(gallery::thousand(), false).await;
    browser.resize(DESKTOP).await;
    let url = still.url("/?refresh=off");
    timeout(Duration::from_secs(20), browser.open(&url)).await.expect("a page within 20 s");
    let first = browser.evaluate("document.querySelector('tbody .name').innerText").await;
    let rows = browser.evaluate("document.querySelectorAll('tbody tr').length").await;
    assert_eq!((first, rows), (json!("site-700"), json!(1000)));
    browser.open(&still.url("/?state=refused")).await;
    assert_eq!(browser.evaluate("document.querySelectorAll('tbody tr').length").await, 1);
}

/// Draws the pictures of the README anew: `PAGE_PICTURES=docs cargo test --test page pictures`, and
/// then `pngquant --force --ext .png docs/page-*.png`. (Those that are there: with Noto Sans.)
#[tokio::test]
async fn pictures_are_drawn_on_demand() {
    let Some(directory) = std::env::var_os("PAGE_PICTURES").map(PathBuf::from) else { return };
    let Some((mut browser, _home)) = browser().await else { return };
    let still = Still::new(gallery::usual(), false).await;
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme).await;
        browser.resize(DESKTOP).await;
        browser.open(&still.url("/")).await;
        let height = browser.evaluate("document.documentElement.scrollHeight").await;
        let height = u32::try_from(height.as_u64().unwrap()).unwrap();
        browser.resize(Window { height, ..DESKTOP }).await;
        let picture = browser.picture().await;
        std::fs::write(directory.join(format!("page-{scheme}.png")), picture).unwrap();
    }
}
