//! What every command says of everything that there is to say something of, whatever Kong answers.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Answer, CertifiedPair, Fault, KeyKind, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    TlsFront, with_settings,
};
use tokio::time::timeout;

use crate::searcher::Searcher;
use crate::{HEADER, PROGRAM, TOKEN, license, pages};

const CREDENTIAL: &str = "cr3dential-of-a-consumer-0123456789-zyxwvutsrq";
const PATIENCE: Duration = Duration::from_secs(60);

/// A Kong behind TLS that demands all credentials there are, and files of every kind of binding:
/// one of each that can be served, and one that cannot.
struct Estate {
    kong: KongStandIn,
    _front: TlsFront,
    home: TempDir,
    settings: Vec<(String, String)>,
    secrets: Searcher,
    pki: Pki,
    /// The pair of one binding, whose key its renewals keep.
    pair: CertifiedPair,
    /// What Kong might repeat.
    echo: String,
}

impl Estate {
    async fn new(is_dbless: bool) -> Self {
        let (kong, admin, pki) = (KongStandIn::start().await, Pki::new(), Pki::new());
        let server = admin.leaf(&["localhost"]).ip([127, 0, 0, 1].into()).issue();
        let mut front = TlsFront::start(kong.admin_addr(), &server).await;
        front.demand_clients_of(admin.root());
        kong.require_header("Kong-Admin-Token", TOKEN, 401);
        kong.model().enterprise(true);
        kong.model().dbless(is_dbless);
        let (home, mut secrets) = (tempfile::tempdir().unwrap(), Searcher::default());
        for (name, text) in
            [("the token", TOKEN), ("the header", HEADER), ("a credential", CREDENTIAL)]
        {
            secrets.add_text(name, text);
        }
        let pairs = Pairs::issue(&pki, &mut secrets);
        let files = Files { home: home.path() };
        pairs.publish(&files);
        let keyed = pki.root().pem() + &pairs.odd.key_pem();
        let mut settings = bindings(&files);
        settings.extend(credentials(&files, &admin, &pairs.client));
        settings.extend([
            ("ADMIN__URL", front.url("127.0.0.1")),
            ("CA_CERTIFICATES__TRUST__FILE", files.write("ca.crt", &pki.root().pem())),
            ("CA_CERTIFICATES__KEYED__FILE", files.write("keyed.crt", &keyed)),
            ("LICENSES__EE__FILE", files.write("ee.json", &license(0, &mut secrets))),
        ]);
        if is_dbless {
            let config = configuration_with(&pairs.others).to_string();
            settings.push(("DECLARATIVE__FILE", files.write("kong.json", &config)));
        } else {
            let post = Request::json("POST", "/certificates", &object_with(&pairs.others));
            kong.model().elsewhere(|model| model.answer(&post));
        }
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let Pairs { pkcs8: pair, others, .. } = pairs;
        let echo = format!("{TOKEN} {CREDENTIAL} {} {}", pair.key_pem(), others.key_pem());
        Self { kong, _front: front, home, settings, secrets, pki, pair, echo }
    }

    /// What the Admin API answers: as Kong does, or with all that is secret in its words. And the
    /// state that a renewal comes to.
    fn answers(&self) -> [(&'static str, Option<Fault>); 4] {
        let echo = |status| {
            let fields = json!({ "key": self.echo, "@entity": [self.echo] });
            let body = json!({ "message": self.echo, "code": 2, "fields": fields });
            Fault::instead(Answer::json(status, &body)).always()
        };
        let to_writes = match self.is_dbless() {
            true => echo(400).only("POST"),
            false => echo(400).only("PUT"),
        };
        [
            ("refused", Some(to_writes)),
            ("unauthorized", Some(echo(401))),
            ("unreachable", Some(Fault::other_json(&json!({ "data": [self.echo] })).always())),
            ("in_sync", None),
        ]
    }

    fn is_dbless(&self) -> bool {
        self.settings.iter().any(|(name, _)| name == "DECLARATIVE__FILE")
    }

    fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(more.iter().copied()).collect()
    }

    /// Runs a command to its end; all that it says.
    async fn said_by(&self, arguments: &[&str], more: &[(&str, &str)]) -> String {
        let mut command = with_settings(Path::new(PROGRAM), &self.settings(more));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.expect("an end").unwrap();
        // A panic would end with 101, and a signal without a code.
        let code = output.status.code();
        assert!(code.is_some_and(|code| code <= 3), "{arguments:?}: {code:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn assert_no_secret(&self, what: &str, said: &str) {
        let found = said.lines().find_map(|line| Some((self.secrets.finds(line)?, line)));
        assert!(found.is_none() && self.secrets.finds(said).is_none(), "{what}: {found:?}");
    }
}

/// All pairs with keys that nobody may say.
struct Pairs {
    pkcs8: CertifiedPair,
    sec1: CertifiedPair,
    /// Both of one binding.
    dual: [CertifiedPair; 2],
    odd: CertifiedPair,
    /// Of another kind than the certificate beside which its key is put.
    other: CertifiedPair,
    client: CertifiedPair,
    reloaded: CertifiedPair,
    /// In Kong already, and someone else's.
    others: CertifiedPair,
}

impl Pairs {
    fn issue(pki: &Pki, secrets: &mut Searcher) -> Self {
        let mut issue = |name: &str, kind| {
            let pair = pki.leaf(&[&format!("{name}.test")]).kind(kind).issue();
            for pem in pair.key().pem_encodings() {
                secrets.add_pem(&format!("the key of {name}"), &pem);
            }
            pair
        };
        Self {
            pkcs8: issue("pkcs8", KeyKind::Rsa2048),
            sec1: issue("sec1", KeyKind::P384),
            dual: [issue("dual", KeyKind::Rsa2048), issue("dual", KeyKind::P256)],
            odd: issue("odd", KeyKind::Rsa2048),
            other: issue("odd", KeyKind::P256),
            client: issue("client", KeyKind::Rsa2048),
            reloaded: issue("reloaded", KeyKind::Rsa2048),
            others: issue("others", KeyKind::Rsa2048),
        }
    }

    fn publish(&self, files: &Files<'_>) {
        let Self { pkcs8, sec1, dual: [rsa, ec], odd, other, reloaded, .. } = self;
        files.publish("certs/pkcs8", &pkcs8.chain_pem(), &pkcs8.key_pem());
        files.publish("certs/sec1", &sec1.chain_pem(), &sec1.key().sec1_pem().unwrap());
        files.publish("certs/odd", &odd.chain_pem(), &other.key_pem());
        files.publish("certs/swapped", &other.key_pem(), &other.chain_pem());
        files.publish_dual("certs/dual", rsa, ec);
        files.publish("reload/good", &reloaded.chain_pem(), &reloaded.key_pem());
        files.publish("reload/odd", &reloaded.chain_pem(), &odd.key_pem());
    }
}

type Setting = (&'static str, String);

/// Where the bindings of pairs are, and what else is the same for all.
fn bindings(files: &Files<'_>) -> Vec<Setting> {
    vec![
        ("CERTS_DIR", files.path("certs")),
        ("CERTIFICATES__DUAL__CERT_ALT", "ec.crt".to_owned()),
        ("CERTIFICATES__DUAL__KEY_ALT", "ec.key".to_owned()),
        ("RELOAD__FILES__NGINX__DIR", files.path("reload/good")),
        ("RELOAD__FILES__NGINX_ODD__DIR", files.path("reload/odd")),
        // Of no process: no nginx of this machine is signalled.
        ("RELOAD__PID_FILE", files.path("nginx.pid")),
        ("LOG__LEVEL", "trace".to_owned()),
        ("LISTEN", "127.0.0.1:0".to_owned()),
    ]
}

/// All that an Admin API may ask for.
fn credentials(files: &Files<'_>, admin: &Pki, client: &CertifiedPair) -> [Setting; 6] {
    [
        ("ADMIN__TIMEOUT", "2s".to_owned()),
        ("ADMIN__TOKEN_FILE", files.write("token", TOKEN)),
        ("ADMIN__HEADERS_FILE", files.write("headers", &format!("X-Api-Key: {HEADER}\n"))),
        ("ADMIN__CA_FILE", files.write("admin.crt", &admin.root().pem())),
        ("ADMIN__CLIENT_CERT_FILE", files.write("client.crt", &signed(admin, client))),
        ("ADMIN__CLIENT_KEY_FILE", files.write("client.key", &client.key_pem())),
    ]
}

/// As it stands in a database.
fn object_with(others: &CertifiedPair) -> Value {
    json!({
        "id": "11111111-1111-4111-8111-111111111111", "cert": others.chain_pem(),
        "key": others.key_pem(), "snis": ["others.test"],
    })
}

fn configuration_with(others: &CertifiedPair) -> Value {
    let mut certificate = object_with(others);
    certificate["snis"] = json!([{ "name": "others.test" }]);
    json!({
        "_format_version": "3.0",
        "consumers": [{ "username": "ann", "keyauth_credentials": [{ "key": CREDENTIAL }] }],
        "certificates": [certificate],
    })
}

/// Where the files of an estate are.
struct Files<'a> {
    home: &'a Path,
}

impl Files<'_> {
    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn publish(&self, name: &str, cert: &str, key: &str) {
        let files = [("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())];
        SecretVolume::mount(self.path(name)).publish(&files);
    }

    fn publish_dual(&self, name: &str, rsa: &CertifiedPair, ec: &CertifiedPair) {
        let texts = [rsa.chain_pem(), rsa.key_pem(), ec.chain_pem(), ec.key_pem()];
        let names = ["tls.crt", "tls.key", "ec.crt", "ec.key"];
        let files: Vec<_> =
            names.into_iter().zip(&texts).map(|(name, text)| (name, text.as_bytes())).collect();
        SecretVolume::mount(self.path(name)).publish(&files);
    }
}

/// A certificate for the client's key from the CA that the Admin API goes by.
fn signed(admin: &Pki, client: &CertifiedPair) -> String {
    admin.leaf(&["client.test"]).key(client.key()).issue().chain_pem()
}

/// Each command that looks at files, Kong or settings, with each form of its output.
const COMMANDS: [&[&str]; 9] = [
    &["diff", "-v", "-o", "table", "--timeout", "500ms"],
    &["diff", "-v", "-o", "json", "--timeout", "500ms"],
    &["check", "-o", "table"],
    &["check", "-o", "json"],
    &["probe", "readyz"],
    &["probe", "livez"],
    &["sync", "-v", "-o", "table", "--timeout", "500ms"],
    &["sync", "-v", "-o", "json", "--timeout", "500ms"],
    &["sync", "-v", "--timeout", "1s", "--force", "pkcs8", "--force", "trust"],
];

async fn no_command_says_a_secret(is_dbless: bool) {
    let estate = Estate::new(is_dbless).await;
    for (number, (answer, fault)) in estate.answers().into_iter().enumerate() {
        estate.kong.clear_faults();
        fault.into_iter().for_each(|fault| estate.kong.inject(fault));
        let formats = if number % 2 == 0 { ["text", "json"] } else { ["json", "text"] };
        for (arguments, format) in COMMANDS.into_iter().zip(formats.into_iter().cycle()) {
            let said = estate.said_by(arguments, &[("LOG__FORMAT", format)]).await;
            assert!(!said.is_empty(), "{arguments:?} says nothing");
            estate.assert_no_secret(&format!("{arguments:?}, {answer}"), &said);
        }
    }
    let directory = estate.home.path().join("certs");
    for name in ["odd", "swapped", "dual"] {
        let said = estate.said_by(&["check", directory.join(name).to_str().unwrap()], &[]).await;
        estate.assert_no_secret("check DIR", &said);
    }
    for arguments in [&["--help"][..], &["sync", "--help"], &["completions", "bash"]] {
        let said = estate.said_by(arguments, &[]).await;
        estate.assert_no_secret(&format!("{arguments:?}"), &said);
    }
    // Whoever gives a key by mistake, and what stands around it, does not find it in the output.
    let echo = &*estate.echo;
    for arguments in [&["sync", "--timeout", echo][..], &["probe", echo], &[echo]] {
        let said = estate.said_by(arguments, &[]).await;
        assert!(said.contains("an argument holds PEM"), "{said}");
        estate.assert_no_secret("an argument", &said);
    }
}

#[tokio::test]
async fn no_command_says_a_secret_beside_a_database() {
    no_command_says_a_secret(false).await;
}

#[tokio::test]
async fn no_command_says_a_secret_without_a_database() {
    no_command_says_a_secret(true).await;
}

#[tokio::test]
async fn the_sidecar_says_no_secret_with_every_kind_of_binding_and_credential() {
    for (is_dbless, format) in [(false, "json"), (true, "text"), (true, "json"), (false, "text")] {
        let estate = Estate::new(is_dbless).await;
        let more =
            [("LOG__FORMAT", format), ("RESYNC_INTERVAL", "1s"), ("RELOAD__MIN_INTERVAL", "1s")];
        let mut sidecar = SidecarProcess::start(PROGRAM, &estate.settings(&more)).await;
        for (name, state) in [
            ("pkcs8", "in_sync"),
            ("sec1", "in_sync"),
            ("dual", "in_sync"),
            ("odd", "invalid"),
            ("swapped", "invalid"),
            ("trust", "in_sync"),
            ("keyed", "invalid"),
            ("ee", "in_sync"),
            ("nginx_odd", "invalid"),
        ] {
            sidecar.until_state(name, state).await;
        }
        let mut said = pages(&sidecar).await;
        let address = sidecar.address().to_string();
        for arguments in [&["probe", "livez"][..], &["probe", "readyz"]] {
            said.push(estate.said_by(arguments, &[("LISTEN", &address)]).await);
        }
        for (state, fault) in estate.answers() {
            estate.kong.clear_faults();
            fault.into_iter().for_each(|fault| estate.kong.inject(fault));
            let renewed = estate.pki.leaf(&["pkcs8.test"]).key(estate.pair.key()).issue();
            let files = Files { home: estate.home.path() };
            files.publish("certs/pkcs8", &renewed.chain_pem(), &renewed.key_pem());
            sidecar.until_state("pkcs8", state).await;
            said.extend(pages(&sidecar).await);
        }
        assert!(sidecar.terminate().await.success());
        said.extend(sidecar.lines());
        estate.assert_no_secret(&format!("run, {format}"), &said.join("\n"));
    }
}
