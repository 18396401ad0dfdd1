//! The way to the Admin API: address, TLS, credentials, and the limits of a careful client.

mod credentials;
mod lost;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

pub use self::credentials::Unusable;
use self::credentials::{Files, server_name};
use self::lost::lost;
use super::elsewhere::Candidates;
use super::{Answer, Call, Elsewhere, Lost, Method, Wire};
use crate::allowance::allowance;
use crate::settings::{Admin, AdminUrl};
use crate::volume::{Identity, Mounted, Source};

/// Longer than any connection within a pod or a cluster takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that is idle for so long, or twice that, is closed: with it go its buffers, in which
/// keys are that were sent or echoed last. Calls of one pass follow each other faster.
const LONGEST_IDLE: Duration = Duration::from_millis(250);

/// Carries calls over HTTP: no proxy, no redirects, no decompression.
pub struct AdminClient {
    settings: Admin,
    url: AdminUrl,
    files: Option<Source>,
    ready: Result<Ready, Unusable>,
    /// No larger answer fits into our memory.
    allowance: usize,
    pub(super) elsewhere: Candidates,
}

/// All that comes from files.
struct Ready {
    client: Client,
    headers: HeaderMap,
    read: Option<Identity>,
}

impl AdminClient {
    /// Reads the credentials; where that fails, each call says so until they can be read.
    #[must_use]
    pub fn new(settings: &Admin, url: &AdminUrl) -> Self {
        let files = credentials::files(settings);
        let mut client = Self {
            settings: settings.clone(),
            url: url.clone(),
            files: (!files.is_empty()).then(|| Source::new(files)),
            ready: Err(Unusable::NotRead),
            allowance: allowance(),
            elsewhere: Candidates::beside(url),
        };
        client.ready = client.load();
        client
    }

    /// Reads all files at once: a certificate and a key of two generations are no pair.
    fn load(&self) -> Result<Ready, Unusable> {
        let read = self.files.as_ref().map(|files| files.read(&Mounted)).transpose();
        let files = Files(read.map_err(|unreadable| Unusable::File(Arc::new(unreadable)))?);
        Ok(Ready {
            client: client(&self.settings, &self.url, &files)?,
            headers: credentials::headers(&self.settings, &files)?,
            read: files.0.map(|generation| generation.identity()),
        })
    }

    fn target(&self, path: &str) -> Result<Url, Lost> {
        let mut url = self.url.as_url().clone();
        if let Some(ServerName::DnsName(name)) = server_name(&self.settings) {
            // The address stays that of the URL, see `Pinned`.
            url.set_host(Some(name.as_ref())).map_err(|_| Lost::Unusable(Unusable::ServerName))?;
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        url.set_query((!query.is_empty()).then_some(query));
        Ok(url)
    }
}

impl Wire for AdminClient {
    async fn call(&self, call: Call) -> Result<Answer, Lost> {
        let ready = self.ready.as_ref().map_err(|unusable| Lost::Unusable(unusable.clone()))?;
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Post => reqwest::Method::POST,
        };
        let mut request =
            ready.client.request(method, self.target(&call.path)?).headers(ready.headers.clone());
        if !call.more_time.is_zero() {
            request = request.timeout(self.settings.timeout + call.more_time);
        }
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| lost(&error))?;
        let is_echo = call.answer_is_unread && response.status().is_success();
        let keep = if is_echo { Keep::Nothing } else { Keep::Body };
        collect(response, call.limit.min(self.allowance), keep).await
    }

    fn refresh(&mut self) -> Result<(), Unusable> {
        let now = self.files.as_ref().map(|files| files.identity(&Mounted));
        if self.ready.as_ref().is_ok_and(|ready| ready.read == now) {
            return Ok(());
        }
        match self.load() {
            Ok(ready) => self.ready = Ok(ready),
            Err(unusable) => {
                // The last good ones stay.
                if self.ready.is_err() {
                    self.ready = Err(unusable.clone());
                }
                return Err(unusable);
            }
        }
        Ok(())
    }

    async fn find_elsewhere(&self) -> Option<Elsewhere> {
        self.elsewhere.ask(self).await
    }
}

/// What is kept of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Body,
    Nothing,
}

/// Reads an answer to its end; of one that is kept, at most `limit` bytes.
pub(super) async fn collect(
    mut response: reqwest::Response,
    limit: usize,
    keep: Keep,
) -> Result<Answer, Lost> {
    let status = response.status().as_u16();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let retry_after = text(RETRY_AFTER).and_then(|wish| wish.trim().parse().ok());
    // Kong tells the length: memory for that, and no more.
    let announced = response.content_length().unwrap_or(0);
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if keep == Keep::Body && announced > limit {
        return Err(Lost::TooLarge { limit, status });
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
        if keep == Keep::Nothing {
            continue;
        }
        if body.len() + chunk.len() > limit {
            return Err(Lost::TooLarge { limit, status });
        }
        append(&mut body, &chunk, announced, limit);
    }
    Ok(Answer { status, is_json, retry_after: retry_after.map(Duration::from_secs), body })
}

/// Where the length was not `announced`, the buffer doubles, but not beyond `limit`.
fn append(body: &mut Vec<u8>, chunk: &[u8], announced: usize, limit: usize) {
    let length = body.len() + chunk.len();
    if length > body.capacity() {
        let room = (2 * body.capacity()).min(limit).max(announced).max(length);
        body.reserve_exact(room - body.len());
    }
    body.extend_from_slice(chunk);
}

fn client(settings: &Admin, url: &AdminUrl, files: &Files) -> Result<Client, Unusable> {
    let host = url.as_url().host_str().unwrap_or_default();
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .http1_only()
        .timeout(settings.timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
        .pool_max_idle_per_host(settings.concurrency.get())
        .pool_idle_timeout(LONGEST_IDLE)
        .user_agent(concat!("kong-cert-reloader/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Pinned { host: host.trim_matches(['[', ']']).to_owned() }))
        .tls_backend_preconfigured(credentials::tls(settings, files)?)
        .build()
        .map_err(|_| Unusable::Tls)
}
/// Looks up the host of the URL whatever name stands in the request, and `localhost` never by DNS.
#[derive(Clone)]
struct Pinned {
    host: String,
}

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = if host.eq_ignore_ascii_case("localhost") {
                vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]
            } else if let Ok(address) = host.parse::<IpAddr>() {
                vec![(address, 0).into()]
            } else {
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect()
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminClient({})", self.url)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};

    use testkit::{Pki, SecretVolume, pem_block};

    use super::credentials::TOKEN_HEADER;
    use super::*;
    use crate::settings::{ClientFiles, Credential};

    fn client_of(admin: &Admin) -> AdminClient {
        AdminClient::new(admin, &"https://127.0.0.1".parse().unwrap())
    }

    /// Loads what `settings` make of a file with this content.
    fn loaded(
        content: impl AsRef<[u8]>,
        settings: impl Fn(PathBuf) -> Admin,
    ) -> (Result<HeaderMap, String>, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, content).unwrap();
        let ready = client_of(&settings(path.clone())).ready;
        (ready.map(|ready| ready.headers).map_err(|unusable| unusable.to_string()), path)
    }

    #[test]
    fn calls_go_beneath_the_path_of_the_url_with_their_query() {
        for (url, path, called) in [
            ("http://kong:8001", "/", "http://kong:8001/"),
            ("http://kong:8001", "/certificates?size=9", "http://kong:8001/certificates?size=9"),
            ("http://kong/a/b", "/", "http://kong/a/b/"),
            ("http://kong/a/b/", "/snis/%2A.a.test", "http://kong/a/b/snis/%2A.a.test"),
            ("https://[::1]/a%20b", "/c?d=e%26f&g=?", "https://[::1]/a%20b/c?d=e%26f&g=?"),
        ] {
            let client = AdminClient::new(&Admin::default(), &url.parse().unwrap());
            assert_eq!(client.target(path).unwrap().as_str(), called);
        }
    }

    #[tokio::test]
    async fn what_was_never_connected_is_no_call_without_an_answer() {
        // It takes connections, and says nothing of TLS.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let admin = Admin { timeout: Duration::from_millis(100), ..Admin::default() };
        let client = AdminClient::new(&admin, &url.parse().unwrap());
        let more_time = Duration::from_secs(60);
        let call = Call { more_time, ..Call::new(Method::Post, "/config", None) };
        let lost = client.call(call).await.err();
        assert!(matches!(lost, Some(Lost::Connect { .. })), "{lost:?}");
    }

    #[test]
    fn a_line_that_is_no_header_is_told_by_file_and_line_and_not_shown() {
        let cases: [(&[u8], usize); 6] = [
            (b"s3cret", 1),
            (b"# ours\n\nx-a: 1\ns3cret\n", 4),
            (b"x-a: 1\r\nx s3cret: 2\r\n", 2),
            (b": s3cret", 1),
            (b"x-a: s3cret\x01", 1),
            (b"x-a: 1\nx-b: s3cret \xff\n", 2),
        ];
        for (content, line) in cases {
            let settings = |path| Admin { headers_file: Some(path), ..Admin::default() };
            let (headers, path) = loaded(content, settings);
            let said = headers.unwrap_err();
            let place = format!("{} line {line} is not", path.display());
            assert!(said.starts_with(&place) && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn a_header_that_is_ours_to_say_is_told_by_file_and_line() {
        let settings = |path| Admin { headers_file: Some(path), ..Admin::default() };
        let (headers, path) = loaded("x-a: 1\nContent-Type: text/plain", settings);
        let said = headers.unwrap_err();
        let place = format!("{} line 2: header Content-Type is not yours", path.display());
        assert!(said.starts_with(&place), "{said}");
    }

    #[test]
    fn lines_that_are_headers_are_sent_with_each_call() {
        let settings = |path| Admin { headers_file: Some(path), ..Admin::default() };
        let text = "# ours\n\n X-A:1 \r\nx-b: Bearer a:b\nX-Empty:";
        let headers = loaded(text, settings).0.unwrap();
        let sent = ["x-a", "x-b", "x-empty"].map(|name| headers[name].to_str().unwrap());
        assert_eq!((sent, headers.len()), (["1", "Bearer a:b", ""], 3));
        assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
    }

    #[test]
    fn a_token_file_holds_one_line_of_text() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"t0ken", Some("t0ken")),
            (b"t0ken\n", Some("t0ken")),
            (b"t0ken\r\n", Some("t0ken")),
            (b" t0ken\n\n", Some("t0ken")),
            (b"", None),
            (b" \n", None),
            (b"t0\nken", None),
            (b"t0ken\xff", None),
            (b"t0ken\0", None),
        ];
        for (content, token) in cases {
            let settings = |path| Admin { token: Some(Credential::File(path)), ..Admin::default() };
            let (headers, path) = loaded(content, settings);
            let told = format!(
                "{} holds no token: one line of visible ASCII; write the token alone into it",
                path.display()
            );
            let sent = headers.map(|headers| headers[TOKEN_HEADER].to_str().unwrap().to_owned());
            assert_eq!(sent, token.map(str::to_owned).ok_or(told), "{content:?}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_told_by_name() {
        let pair = Pki::new().pair(&["a.test"]);
        for content in [
            String::new(),
            "no PEM".to_owned(),
            pair.key_pem(),
            pair.chain_pem().replace("-----END", "-----"),
            pair.chain_pem().replace("MII", "M!I"),
            pem_block("CERTIFICATE", b"no certificate"),
        ] {
            let settings = |path| Admin { ca_file: Some(path), ..Admin::default() };
            let (headers, path) = loaded(&content, settings);
            let told = format!(
                "{} holds no PEM certificates; mount the CA or the chain there",
                path.display()
            );
            assert_eq!(headers.unwrap_err(), told, "{content}");
        }
    }

    #[test]
    fn what_the_system_says_about_a_file_is_told() {
        let ca_file = Some(Path::new("/").join("x".repeat(300)));
        let said = client_of(&Admin { ca_file, ..Admin::default() }).ready.err().unwrap();
        assert!(said.to_string().contains("File name too long"), "{said}");
    }

    #[test]
    fn a_ca_that_is_not_looked_at_need_not_be_there() {
        let ca_file = Some(PathBuf::from("/nothing/here"));
        let admin = Admin { ca_file, insecure_skip_verify: true, ..Admin::default() };
        assert!(client_of(&admin).ready.is_ok());
    }

    #[test]
    fn certificate_and_key_are_of_one_generation_however_often_they_are_swapped() {
        let home = tempfile::tempdir().unwrap();
        let volume = SecretVolume::mount(home.path());
        let pki = Pki::new();
        let pairs = [pki.pair(&["client.test"]), pki.pair(&["client.test"])];
        // Beneath a directory of the volume, where `..data` is not beside the files.
        let publish = |turn: usize| {
            let (cert, key) = (pairs[turn % 2].chain_pem(), pairs[turn % 2].key_pem());
            volume.publish(&[("admin/tls.crt", cert.as_bytes()), ("admin/tls.key", key.as_bytes())])
        };
        publish(0);
        let admin = home.path().join("admin");
        let files = ClientFiles { cert: admin.join("tls.crt"), key: admin.join("tls.key") };
        let mut client = client_of(&Admin { client: Some(files), ..Admin::default() });
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                (1..400).for_each(|turn| assert!(publish(turn)));
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                match client.refresh() {
                    // A file may be gone between two looks, and is there again at the next.
                    Ok(()) | Err(Unusable::File(_)) => {}
                    Err(torn) => panic!("{torn}"),
                }
            }
        });
        client.refresh().unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_said_at_each_refresh_and_the_last_good_stays() {
        let home = tempfile::tempdir().unwrap();
        let token = home.path().join("token");
        fs::write(&token, "t0ken").unwrap();
        let settings = Admin { token: Some(Credential::File(token.clone())), ..Admin::default() };
        let mut client = client_of(&settings);
        let sent = |client: &AdminClient| client.ready.as_ref().unwrap().headers.clone();
        let before = sent(&client);
        fs::write(&token, "").unwrap();
        for _ in 0..2 {
            assert!(client.refresh().is_err());
            assert_eq!(sent(&client), before);
        }
        fs::write(&token, "an0ther").unwrap();
        client.refresh().unwrap();
        assert_eq!(sent(&client)[TOKEN_HEADER], "an0ther");
    }
}
