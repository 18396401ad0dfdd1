//! The way to the Admin API: TLS in both directions, names, tokens and headers, and what is said
//! where one of them is wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "a test tells what it likes")]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use testkit::{CertifiedPair, KongStandIn, Pki, Request, SecretVolume, SidecarProcess, TlsFront};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// Of the Admin API's certificate, where nothing else is said.
const HOST: &str = "kong-admin.test";

/// A Kong behind TLS, a certificate for it to serve, and a sidecar's credentials.
struct Site {
    kong: KongStandIn,
    pki: Pki,
    admin_ca: Pki,
    front: TlsFront,
    home: TempDir,
    web: SecretVolume,
}

impl Site {
    /// The Admin API's certificate is good for 127.0.0.1.
    async fn new() -> Self {
        let admin_ca = Pki::new();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let pair = admin_ca.leaf(&["localhost"]).ip(loopback).issue();
        Self::with(admin_ca, &pair).await
    }

    /// The Admin API's certificate is good for these names alone.
    async fn named(names: &[&str]) -> Self {
        let admin_ca = Pki::new();
        let pair = admin_ca.pair(names);
        Self::with(admin_ca, &pair).await
    }

    async fn with(admin_ca: Pki, pair: &CertifiedPair) -> Self {
        let kong = KongStandIn::start().await;
        let front = TlsFront::start(kong.admin_addr(), pair).await;
        let home = tempfile::tempdir().unwrap();
        let web = SecretVolume::mount(home.path().join("certs/web"));
        let site = Self { kong, pki: Pki::new(), admin_ca, front, home, web };
        site.publish(&site.pki.pair(&["a.test"]));
        site
    }

    /// A file of the sidecar's, and where it is.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn admin_ca_file(&self) -> String {
        self.file("ca.crt", self.admin_ca.root().pem())
    }

    fn publish(&self, pair: &CertifiedPair) {
        assert!(self.web.publish_pair(pair));
    }

    /// By way of 127.0.0.1, if `settings` say nothing else.
    async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let (url, certs) = (self.front.url("127.0.0.1"), self.path("certs"));
        let mut all = vec![
            ("ADMIN__URL", url.as_str()),
            ("CERTS_DIR", certs.to_str().unwrap()),
            ("LOG__LEVEL", "debug"),
        ];
        all.extend(settings);
        SidecarProcess::start(PROGRAM, &all).await
    }

    /// A pass with whatever credentials there are now: the certificate is renewed, and Kong has it.
    async fn renews(&self, sidecar: &SidecarProcess) {
        let renewed = self.pki.pair(&["a.test"]);
        self.publish(&renewed);
        let leaf = colons(&renewed.leaf_sha256());
        let is_there = |shown: &Value| {
            shown["state"] == "in_sync" && shown["kong"]["leaf_sha256"][0] == leaf.as_str()
        };
        sidecar.until("web", is_there).await;
        let held = self.kong.model().answer(&Request::new("GET", "/certificates/a.test")).value();
        assert_eq!(held["cert"].as_str().unwrap().trim(), renewed.chain_pem().trim());
    }
}

fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn message(shown: &Value) -> String {
    shown["message"].as_str().unwrap().to_owned()
}

/// Still running, and it did not complain about itself.
async fn is_well(sidecar: &SidecarProcess) {
    assert_eq!(sidecar.page("/livez").await.0, 200);
    let lines = sidecar.lines();
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
}

fn told(sidecar: &SidecarProcess, message: &str) -> usize {
    sidecar.lines().iter().filter(|line| line.contains(message)).count()
}

// The Admin API's certificate.

#[tokio::test]
async fn an_admin_api_of_the_configured_ca_is_trusted() {
    let site = Site::new().await;
    let sidecar = site.sidecar(&[("ADMIN__CA_FILE", &site.admin_ca_file())]).await;
    sidecar.until_state("web", "in_sync").await;
    site.renews(&sidecar).await;
}

#[tokio::test]
async fn what_is_wrong_with_its_certificate_is_told_with_the_mend() {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let (ours, other) = (Pki::new(), Pki::new());
    let cases = [
        ("another CA", other.leaf(&["x"]).ip(loopback).issue(), "invalid peer", "ADMIN__CA_FILE"),
        ("another name", ours.pair(&[HOST]), HOST, "ADMIN__SERVER_NAME"),
        ("no name", ours.leaf(&[HOST]).no_san().issue(), "not valid", "ADMIN__SERVER_NAME"),
        (
            "expired",
            ours.leaf(&["x"]).ip(loopback).not_after(1_600_000_000).issue(),
            "expired",
            "renew the Admin API's certificate",
        ),
    ];
    for (case, pair, cause, mend) in cases {
        let site = Site::with(ours.clone(), &pair).await;
        let sidecar = site.sidecar(&[("ADMIN__CA_FILE", &site.admin_ca_file())]).await;
        let shown = sidecar.until_state("web", "unreachable").await;
        let said = message(&shown);
        assert!(said.contains(cause) && said.contains(mend), "{case}: {said}");
        assert_eq!(site.kong.model().requests().len(), 0, "{case}");
        is_well(&sidecar).await;
    }
}

#[tokio::test]
async fn its_certificate_may_be_for_another_name_than_the_url_s() {
    let site = Site::named(&[HOST]).await;
    let ca = site.admin_ca_file();
    let settings = [("ADMIN__CA_FILE", ca.as_str()), ("ADMIN__SERVER_NAME", HOST)];
    let sidecar = site.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
}

#[tokio::test]
async fn its_certificate_may_be_for_an_address_and_the_url_s_is_called() {
    let admin_ca = Pki::new();
    // 192.0.2.0/24 and 2001:db8::/32 are for documentation: nobody is there.
    for name in ["192.0.2.7", "2001:db8::7"] {
        let pair = admin_ca.leaf(&[]).ip(name.parse().unwrap()).issue();
        let site = Site::with(admin_ca.clone(), &pair).await;
        let ca = site.admin_ca_file();
        let settings = [("ADMIN__CA_FILE", ca.as_str()), ("ADMIN__SERVER_NAME", name)];
        let sidecar = site.sidecar(&[&settings[..], &[("ADMIN__TIMEOUT", "2s")]].concat()).await;
        let shown = sidecar.until("web", |shown| shown["state"] != "pending").await;
        assert_eq!(shown["state"], "in_sync", "{shown}");
    }
}

#[tokio::test]
async fn an_address_that_its_certificate_does_not_have_is_not_called() {
    let site = Site::new().await;
    let ca = site.admin_ca_file();
    let settings = [("ADMIN__CA_FILE", ca.as_str()), ("ADMIN__SERVER_NAME", "192.0.2.7")];
    let sidecar = site.sidecar(&[&settings[..], &[("ADMIN__TIMEOUT", "2s")]].concat()).await;
    let said = message(&sidecar.until_state("web", "unreachable").await);
    assert!(said.contains("192.0.2.7") && said.contains("ADMIN__SERVER_NAME"), "{said}");
    assert_eq!(site.kong.model().requests().len(), 0);
}

#[tokio::test]
async fn no_certificate_is_looked_at_where_that_is_asked_for() {
    let site = Site::named(&["elsewhere.test"]).await;
    let sidecar = site.sidecar(&[("ADMIN__INSECURE_SKIP_VERIFY", "true")]).await;
    sidecar.until_state("web", "in_sync").await;
    drop(sidecar);
    // Whatever name is set: the keys go to the address of the URL.
    let settings = [("ADMIN__INSECURE_SKIP_VERIFY", "true"), ("ADMIN__SERVER_NAME", "192.0.2.7")];
    let sidecar = site.sidecar(&[&settings[..], &[("ADMIN__TIMEOUT", "2s")]].concat()).await;
    let shown = sidecar.until("web", |shown| shown["state"] != "pending").await;
    assert_eq!(shown["state"], "in_sync", "{shown}");
}

#[tokio::test]
async fn localhost_is_this_host_whatever_the_resolver_says() {
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "true"]);
    if !probe.output().await.is_ok_and(|output| output.status.success()) {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"not tested: no namespaces may be made here\n",
        );
        return;
    }
    let site = Site::new().await;
    let hosts = site.file("hosts", "192.0.2.7 localhost\n");
    let ca = site.admin_ca_file();
    let mut command = Command::new("unshare");
    let script = r#"mount --bind "$0" /etc/hosts && exec "$1""#;
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, &hosts, PROGRAM]);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    for (name, value) in [
        ("LISTEN", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
        ("CERTS_DIR", site.path("certs").to_str().unwrap()),
        ("ADMIN__URL", &site.front.url("localhost")),
        ("ADMIN__CA_FILE", &ca),
        ("ADMIN__TIMEOUT", "2s"),
    ] {
        command.env(format!("CERT_RELOADER__{name}"), value);
    }
    let sidecar = SidecarProcess::spawn(command).await;
    let shown = sidecar.until("web", |shown| shown["state"] != "pending").await;
    assert_eq!(shown["state"], "in_sync", "{shown}");
}

// The wrong protocol.

#[tokio::test]
async fn plain_text_to_a_tls_port_is_told_to_use_https() {
    let site = Site::new().await;
    let url = site.front.url("127.0.0.1").replace("https", "http");
    let sidecar = site.sidecar(&[("ADMIN__URL", &url)]).await;
    let said = message(&sidecar.until_state("web", "unreachable").await);
    assert!(said.contains("use https://"), "{said}");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_told_to_use_http() {
    let site = Site::new().await;
    let (ca, url) = (site.admin_ca_file(), site.kong.admin_url().replace("http", "https"));
    let sidecar = site.sidecar(&[("ADMIN__URL", &url), ("ADMIN__CA_FILE", &ca)]).await;
    let said = message(&sidecar.until_state("web", "unreachable").await);
    assert!(said.contains("use http://"), "{said}");
}

// Our certificate.

/// A site that demands client certificates, and the CA that they are of.
async fn closed_site() -> (Site, Pki) {
    let mut site = Site::new().await;
    let clients = Pki::new();
    site.front.demand_clients_of(clients.root());
    (site, clients)
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_demanded() {
    let (site, clients) = closed_site().await;
    let pair = clients.leaf_from(&clients.intermediate("Clients"), &["client.test"]).issue();
    let ca = site.admin_ca_file();
    let (cert, key) =
        (site.file("client.crt", pair.chain_pem()), site.file("client.key", pair.key_pem()));
    let settings = [
        ("ADMIN__CA_FILE", ca.as_str()),
        ("ADMIN__CLIENT_CERT_FILE", &cert),
        ("ADMIN__CLIENT_KEY_FILE", &key),
    ];
    let sidecar = site.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
    site.renews(&sidecar).await;
}

#[tokio::test]
async fn without_the_client_certificate_that_is_demanded_the_settings_to_mend_are_told() {
    let (site, clients) = closed_site().await;
    let ca = site.admin_ca_file();
    let strangers = Pki::new().pair(&["client.test"]);
    let expired = clients.leaf(&["client.test"]).not_after(1_600_000_000).issue();
    for (case, pair) in
        [("none", None), ("a stranger's", Some(strangers)), ("expired", Some(expired))]
    {
        let files = pair.map(|pair| {
            [site.file("client.crt", pair.chain_pem()), site.file("client.key", pair.key_pem())]
        });
        let mut settings = vec![("ADMIN__CA_FILE", ca.as_str())];
        if let Some([cert, key]) = &files {
            settings.push(("ADMIN__CLIENT_CERT_FILE", cert));
            settings.push(("ADMIN__CLIENT_KEY_FILE", key));
        }
        let sidecar = site.sidecar(&settings).await;
        let said = message(&sidecar.until_state("web", "unreachable").await);
        assert!(said.contains("ADMIN__CLIENT_CERT_FILE"), "{case}: {said}");
        assert_eq!(site.kong.model().requests().len(), 0, "{case}");
        is_well(&sidecar).await;
    }
}

#[tokio::test]
async fn files_that_are_no_credentials_are_told_by_name_and_taken_when_they_are_mended() {
    let (site, clients) = closed_site().await;
    let pair = clients.pair(&["client.test"]);
    let ca = site.admin_ca_file();
    let other_key = clients.pair(&["client.test"]).key_pem();
    let cases = [
        ("ca.crt", site.admin_ca.root().pem(), String::new(), "no PEM certificates"),
        ("client.crt", pair.chain_pem(), "no PEM".to_owned(), "no PEM certificates"),
        ("client.key", pair.key_pem(), other_key, "mount a pair that matches"),
        ("token", "t0ken".to_owned(), "\n".to_owned(), "holds no token"),
        ("headers", "a: b".to_owned(), "a: b\nc".to_owned(), "line 2"),
    ];
    let [_, cert, key, token, headers] =
        cases.each_ref().map(|(name, good, ..)| site.file(name, good));
    let settings = [
        ("ADMIN__CA_FILE", ca.as_str()),
        ("ADMIN__CLIENT_CERT_FILE", &cert),
        ("ADMIN__CLIENT_KEY_FILE", &key),
        ("ADMIN__TOKEN_FILE", &token),
        ("ADMIN__HEADERS_FILE", &headers),
    ];
    for (name, good, bad, problem) in &cases {
        let path = site.file(name, bad);
        let sidecar = site.sidecar(&settings).await;
        let shown = sidecar.until_state("web", "unauthorized").await;
        assert_eq!(shown["reason"], "credentials_unusable", "{name}");
        let said = message(&shown);
        assert!(said.contains(&path) && said.contains(problem), "{name}: {said}");
        sidecar.logged("credentials cannot be used").await;
        site.file(name, good);
        sidecar.until_state("web", "in_sync").await;
    }
}

// Rotation.

/// Everything that opens the way to Kong, of one generation.
struct Credentials {
    server: CertifiedPair,
    server_ca: Pki,
    client: CertifiedPair,
    client_ca: Pki,
    token: String,
}

impl Credentials {
    fn new(token: &str) -> Self {
        let (server_ca, client_ca) = (Pki::new(), Pki::new());
        Self {
            server: server_ca.leaf(&[HOST]).ip(IpAddr::from([127, 0, 0, 1])).issue(),
            client: client_ca.pair(&["client.test"]),
            server_ca,
            client_ca,
            token: token.to_owned(),
        }
    }

    fn files(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ca.crt", self.server_ca.root().pem()),
            ("tls.crt", self.client.chain_pem()),
            ("tls.key", self.client.key_pem()),
            ("token", self.token.clone()),
            ("headers", format!("X-Token: {}\n", self.token)),
        ]
    }

    /// Kong lets in who has these, and nobody else.
    fn required_by(&self, site: &mut Site) {
        site.front.serve(&self.server);
        site.front.demand_clients_of(self.client_ca.root());
        site.kong.require_header("Kong-Admin-Token", &self.token, 401);
    }

    fn settings(directory: &Path) -> Vec<(&'static str, String)> {
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        vec![
            ("ADMIN__CA_FILE", path("ca.crt")),
            ("ADMIN__CLIENT_CERT_FILE", path("tls.crt")),
            ("ADMIN__CLIENT_KEY_FILE", path("tls.key")),
            ("ADMIN__TOKEN_FILE", path("token")),
            ("ADMIN__HEADERS_FILE", path("headers")),
        ]
    }
}

#[tokio::test]
async fn rotated_credentials_are_taken_without_a_restart() {
    // Plain files, a volume, and a volume whose `..data` is not beside the files.
    for (case, within) in
        [("plain", None), ("volume", Some("")), ("deep volume", Some("kong/admin/"))]
    {
        let mut site = Site::new().await;
        let directory = site.path("credentials");
        let volume = SecretVolume::mount(&directory);
        let publish = |credentials: &Credentials| {
            let files = credentials.files();
            let Some(within) = within else {
                files
                    .iter()
                    .for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
                return;
            };
            let files: Vec<_> =
                files.iter().map(|(name, text)| (format!("{within}{name}"), text)).collect();
            let files: Vec<_> =
                files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
            assert!(volume.publish(&files));
        };
        let first = Credentials::new("first");
        first.required_by(&mut site);
        publish(&first);
        let settings = Credentials::settings(&directory.join(within.unwrap_or_default()));
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let sidecar = site.sidecar(&settings).await;
        sidecar.until_state("web", "in_sync").await;
        // The files first, as cert-manager does it with a CA that is followed by its certificates …
        let second = Credentials::new("second");
        publish(&second);
        second.required_by(&mut site);
        site.renews(&sidecar).await;
        // … and Kong first.
        let third = Credentials::new("third");
        third.required_by(&mut site);
        site.publish(&site.pki.pair(&["a.test"]));
        sidecar.until_state("web", "unreachable").await;
        publish(&third);
        site.renews(&sidecar).await;
        assert_eq!(told(&sidecar, "credentials cannot be used"), 0, "{case}");
    }
}

#[tokio::test]
async fn credentials_that_become_unreadable_stay_in_use_and_are_told_once() {
    let mut site = Site::new().await;
    let directory = site.path("credentials");
    let volume = SecretVolume::mount(&directory);
    let good = Credentials::new("t0ken");
    good.required_by(&mut site);
    let publish = |files: &[(&str, String)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        assert!(volume.publish(&files));
    };
    publish(&good.files());
    let settings = Credentials::settings(&directory);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sidecar = site.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
    let without_token: Vec<_> =
        good.files().into_iter().filter(|(name, _)| *name != "token").collect();
    publish(&without_token);
    for _ in 0..3 {
        site.renews(&sidecar).await;
    }
    volume.unmount();
    for _ in 0..3 {
        site.renews(&sidecar).await;
    }
    assert_eq!(told(&sidecar, "credentials cannot be used"), 1, "{:?}", sidecar.lines());
    let problem = sidecar.logged("credentials cannot be used").await["problem"].to_string();
    assert!(problem.contains(volume.root().join("token").to_str().unwrap()), "{problem}");
    // Once they can be read again, the next trouble is news.
    volume.remount();
    publish(&good.files());
    site.renews(&sidecar).await;
    publish(&without_token);
    site.renews(&sidecar).await;
    assert_eq!(told(&sidecar, "credentials cannot be used"), 2);
}

// Headers and paths.

#[tokio::test]
async fn configured_headers_are_sent() {
    let site = Site::new().await;
    let ca = site.admin_ca_file();
    let headers = site.file("headers", "# for the gateway\n\nX-Route:  admin \r\nX-Other: b\n");
    let settings = [
        ("ADMIN__CA_FILE", ca.as_str()),
        ("ADMIN__HEADERS__X_API_KEY", "k3y"),
        ("ADMIN__HEADERS_FILE", &headers),
    ];
    site.kong.require_header("X-Api-Key", "k3y", 401);
    let sidecar = site.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
    for (name, value) in [("X-Route", "admin"), ("X-Other", "b")] {
        site.kong.require_header(name, value, 401);
        site.renews(&sidecar).await;
    }
    site.kong.require_header("X-Route", "another", 403);
    site.publish(&site.pki.pair(&["a.test"]));
    let shown = sidecar.until_state("web", "unauthorized").await;
    assert_eq!(shown["reason"], "credentials");
}

#[tokio::test]
async fn in_a_workspace_every_object_is_called_beneath_its_name() {
    let site = Site::new().await;
    site.kong.model().workspace("team-a");
    let ca = site.admin_ca_file();
    let settings = [("ADMIN__CA_FILE", ca.as_str()), ("ADMIN__WORKSPACE", "team-a")];
    let sidecar = site.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
    let paths: Vec<_> = site.kong.model().requests().iter().map(|seen| seen.path.clone()).collect();
    let is_of_node = |path: &str| ["/", "/status"].contains(&path);
    assert!(paths.iter().all(|path| is_of_node(path) || path.starts_with("/team-a/")), "{paths:?}");
    assert!(paths.iter().any(|path| path.starts_with("/team-a/certificates/")), "{paths:?}");
}

#[tokio::test]
async fn a_workspace_that_kong_does_not_have_is_told() {
    let site = Site::new().await;
    let ca = site.admin_ca_file();
    let settings = [("ADMIN__CA_FILE", ca.as_str()), ("ADMIN__WORKSPACE", "ws")];
    let sidecar = site.sidecar(&settings).await;
    let shown = sidecar.until_state("web", "unreachable").await;
    assert_eq!(shown["reason"], "no_such_path");
    let said = message(&shown);
    for part in ["/ws/certificates/", "ADMIN__WORKSPACE", "Enterprise"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let paths: Vec<_> = site.kong.model().requests().iter().map(|seen| seen.path.clone()).collect();
    assert!(paths.iter().all(|path| path == "/" || path.starts_with("/ws/")), "{paths:?}");
}
