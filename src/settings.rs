//! Every setting, as a type that cannot be wrong; the only reader of the environment.
//!
//! `CERT_RELOADER__ADMIN__URL` and the file's `admin.url` are one setting, and the environment wins.
//! Empty means not set, but for `ADMIN__URL` (there is no Admin API), `PROXY__ADDRESS` (there is no
//! proof) and `RELOAD__FILES__<NAME>__ADDRESS` (no port shows this file).
//!
//! ```text
//! environment ┐
//!             ├▶ tree ▶ reader ▶ Settings, or all Mistakes
//! file        ┘
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::names::{FoldedName, Instance};
use crate::quote::Quoted;

mod admin;
mod authority;
mod binding;
mod certificate;
mod declarative;
mod environment;
mod file;
mod license;
mod mistake;
mod path;
mod proxy;
mod reader;
mod reload;
mod secret;
mod spelling;
mod table;
mod tree;
mod yaml;

pub(crate) use admin::TAKEN_HEADERS;
pub use admin::{Admin, AdminMode, AdminUrl, AdminUrlError, ClientFiles, Credential};
pub use authority::AuthoritySettings;
pub use certificate::{CertificateSettings, RenewBy};
pub use declarative::Declarative;
pub use license::LicenseSettings;
pub use mistake::{Fault, Mistake, Mistakes};
pub(crate) use path::path_of;
pub use proxy::{HostPort, Proxy, ProxyAddress, ProxyProtocol};
pub use reload::{Reload, ReloadFile};
pub use secret::{Secret, SecretError};
pub use table::{SETTINGS, Setting};

use binding::reject_shared_names;
use reader::Reader;
use tree::Tree;

/// All settings. What they mean stands in [`SETTINGS`], their limits here.
///
/// A name is there once among `certificates`, `authorities`, `licenses` and `reload.files`, and is
/// not [`Declarative::NAME`] where there is such a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Kong's Admin API.
    pub admin: Admin,
    /// Kong's proxy port, where handshakes prove what it serves.
    pub proxy: Proxy,
    /// The group of replicas that we belong to.
    pub instance: Instance,
    /// Where certificates are looked for.
    pub certs_dir: PathBuf,
    /// What is set for single certificates.
    pub certificates: BTreeMap<FoldedName, CertificateSettings>,
    /// CA certificates.
    pub authorities: BTreeMap<FoldedName, AuthoritySettings>,
    /// Licences of Kong Enterprise.
    pub licenses: BTreeMap<FoldedName, LicenseSettings>,
    /// Files that Kong itself reads.
    pub reload: Reload,
    /// The configuration of a Kong without a database.
    pub declarative: Declarative,
    /// Quiet time before files outside of Kubernetes volumes are read: 10 ms to a minute.
    pub debounce: Duration,
    /// How often files are looked at without an event: 10 ms to a week.
    pub poll_interval: Duration,
    /// How often Kong is compared without an event: 10 ms to a week.
    pub resync_interval: Duration,
    /// How long to wait where another replica may be ahead: at most a week.
    pub hold: Duration,
    /// Write nothing to Kong.
    pub dry_run: bool,
    /// Where probes, metrics and status are served.
    pub listen: Listen,
    /// The status pages.
    pub status: StatusSettings,
    /// The readiness probe.
    pub ready: Ready,
    /// The log.
    pub log: Log,
}

impl Settings {
    /// Reads this process's environment, and the file that it names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load() -> Result<Self, Mistakes> {
        #[expect(clippy::disallowed_methods, reason = "the one place where it is read")]
        Self::from_env(std::env::vars_os())
    }

    /// Reads `vars` as the environment, and the file that they name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn from_env(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let tree = Tree::merged(vars, &mut mistakes);
        let settings = Self::read(&mut Reader::new(&tree, &mut mistakes));
        Mistakes::none_of(mistakes)?;
        Ok(settings)
    }

    fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        reject_shared_names(reader);
        Self {
            admin: Admin::read(reader),
            proxy: Proxy::read(reader),
            instance: reader.text("instance", Instance::from_str).unwrap_or(default.instance),
            certs_dir: absolute(reader.path("certs_dir").unwrap_or(default.certs_dir)),
            certificates: CertificateSettings::read_all(reader),
            authorities: AuthoritySettings::read_all(reader),
            licenses: LicenseSettings::read_all(reader),
            reload: Reload::read(reader),
            declarative: Declarative::read(reader),
            debounce: reader.duration("debounce", DEBOUNCE).unwrap_or(default.debounce),
            poll_interval: reader
                .duration("poll_interval", INTERVAL)
                .unwrap_or(default.poll_interval),
            resync_interval: reader
                .duration("resync_interval", INTERVAL)
                .unwrap_or(default.resync_interval),
            hold: reader.duration("hold", WAIT).unwrap_or(default.hold),
            dry_run: reader.truth("dry_run").unwrap_or(default.dry_run),
            listen: reader.text("listen", Listen::from_str).unwrap_or(default.listen),
            status: StatusSettings {
                public: reader.truth("status.public").unwrap_or(default.status.public),
            },
            ready: Ready {
                strict: reader.truth("ready.strict").unwrap_or(default.ready.strict),
                timeout: reader.duration("ready.timeout", WAIT).unwrap_or(default.ready.timeout),
            },
            log: Log {
                level: reader.choice("log.level", &LEVELS).map_or(default.log.level, LogLevel),
                format: reader.choice("log.format", &FORMATS).unwrap_or(default.log.format),
            },
        }
    }
}

/// The kernel names what changed by absolute paths.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// What holds where nothing is set.
impl Default for Settings {
    fn default() -> Self {
        Self {
            admin: Admin::default(),
            proxy: Proxy::default(),
            instance: Instance::default(),
            certs_dir: PathBuf::from("/etc/kong-certs"),
            certificates: BTreeMap::new(),
            authorities: BTreeMap::new(),
            licenses: BTreeMap::new(),
            reload: Reload::default(),
            declarative: Declarative::default(),
            debounce: Duration::from_millis(250),
            poll_interval: Duration::from_secs(30),
            resync_interval: Duration::from_secs(300),
            hold: Duration::from_secs(300),
            dry_run: false,
            listen: Listen::Default,
            status: StatusSettings { public: false },
            ready: Ready { strict: false, timeout: Duration::from_secs(60) },
            log: Log { level: LogLevel(LevelFilter::INFO), format: LogFormat::Auto },
        }
    }
}

/// Where probes, metrics and status are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `[::]:9797`, or `0.0.0.0:9797` where there is no IPv6.
    Default,
    /// This address alone.
    Address(SocketAddr),
}

/// Takes `ip:port` and `[ip]:port`; port 0 is any free one.
impl FromStr for Listen {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        text.parse().map(Self::Address).map_err(|_| Fault::Listen(Quoted::new(text)))
    }
}

/// The status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusSettings {
    /// Answer other hosts, too.
    pub public: bool,
}

/// The readiness probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Ready only when every certificate is in place.
    pub strict: bool,
    /// Ready after this long in any case, unless strict: at most a week.
    pub timeout: Duration,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least that is logged.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// The least that is logged; `OFF` for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

/// More than a week is a slip, and some centuries would overflow timers; less than 10 ms is a spin.
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(10);
const INTERVAL: RangeInclusive<Duration> = SHORTEST..=WEEK;
const DEBOUNCE: RangeInclusive<Duration> = SHORTEST..=Duration::from_secs(60);
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=WEEK;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;
    use tempfile::NamedTempFile;

    use super::*;
    use spelling::PREFIX;

    #[test]
    fn without_any_setting_the_defaults_hold() {
        let settings = read([]).unwrap();
        assert_eq!(settings, Settings::default());
        let admin = &settings.admin;
        assert_eq!(admin.url.as_ref().unwrap().to_string(), "http://127.0.0.1:8001");
        assert_eq!((admin.mode, admin.concurrency.get()), (AdminMode::Auto, 4));
        assert_eq!(admin.timeout, Duration::from_secs(10));
        assert_eq!((&admin.token, admin.headers.len()), (&None, 0));
        assert!(!admin.insecure_skip_verify && !admin.allow_insecure);
        assert_eq!(settings.instance.as_str(), "default");
        assert_eq!(settings.certs_dir, PathBuf::from("/etc/kong-certs"));
        assert_eq!((settings.authorities.len(), settings.licenses.len()), (0, 0));
        let reload = &settings.reload;
        assert_eq!((reload.files.len(), &reload.pid_file), (0, &None));
        assert_eq!(reload.min_interval, Duration::from_secs(30));
        let poll = Duration::from_secs(2);
        assert_eq!(settings.declarative, Declarative { file: None, poll, force: false });
        assert_eq!(settings.debounce, Duration::from_millis(250));
        assert_eq!(settings.poll_interval, Duration::from_secs(30));
        assert_eq!(settings.resync_interval, Duration::from_secs(300));
        assert_eq!(settings.hold, Duration::from_secs(300));
        assert_eq!((settings.listen, settings.dry_run), (Listen::Default, false));
        assert_eq!(settings.ready, Ready { strict: false, timeout: Duration::from_secs(60) });
        assert_eq!(settings.log.level, LogLevel(LevelFilter::INFO));
        assert_eq!((settings.log.format, settings.status.public), (LogFormat::Auto, false));
    }

    #[test]
    fn the_defaults_in_the_table_are_those_that_hold() {
        let stated = SETTINGS.iter().filter(|setting| !setting.default.is_empty());
        let stated = stated.filter(|setting| setting.name != "LISTEN");
        let stated: Vec<(String, &str)> =
            stated.map(|setting| (named(setting.name), setting.default)).collect();
        let mut vars: Vec<(&str, &str)> =
            stated.iter().map(|(name, text)| (&**name, *text)).collect();
        vars.push(("RELOAD__FILES__PORT__DIR", "/x"));
        let port = read([("RELOAD__FILES__PORT__DIR", "/x")]).unwrap().reload;
        let web = ("web".parse().unwrap(), CertificateSettings::default());
        let expected = Settings { certificates: [web].into(), reload: port, ..Settings::default() };
        assert_eq!(read(vars).unwrap(), expected);
    }

    #[test]
    fn every_setting_of_the_table_is_read() {
        let file = yaml("");
        for setting in SETTINGS {
            let name = named(setting.name);
            let value = match (name.as_str(), setting.default) {
                ("CONFIG", _) => file.path().to_str().unwrap(),
                ("ADMIN__URL", _) => "http://localhost",
                ("PROXY__ADDRESS" | "RELOAD__FILES__PORT__ADDRESS", _) => "localhost:1",
                ("PROXY__PROTOCOL", _) => "v1",
                ("PROXY__TIMEOUT", _) => "11s",
                ("ADMIN__MODE", _) => "database",
                ("ADMIN__WORKSPACE" | "INSTANCE", _) => "other",
                ("ADMIN__SERVER_NAME" | "CERTIFICATES__WEB__SNIS", _) => "a.example.com",
                (name, _) if name.ends_with("__TAGS") => "other",
                (name, _) if name.ends_with("__ID") => "22222222-2222-4222-8222-222222222222",
                ("LISTEN", _) => "127.0.0.1:0",
                ("LOG__LEVEL", _) => "off",
                ("LOG__FORMAT", _) => "json",
                ("ADMIN__CONCURRENCY" | "CERTIFICATES__WEB__RENEW_BY", _) => "1",
                (_, "true") => "no",
                (_, "false") => "on",
                (_, default) if default.ends_with(['s', 'm']) => "11s",
                _ => "/x",
            };
            let partner = match name.as_str() {
                "ADMIN__CLIENT_CERT_FILE" => Some("ADMIN__CLIENT_KEY_FILE"),
                "ADMIN__CLIENT_KEY_FILE" => Some("ADMIN__CLIENT_CERT_FILE"),
                "CERTIFICATES__WEB__CERT_ALT" => Some("CERTIFICATES__WEB__KEY_ALT"),
                "CERTIFICATES__WEB__KEY_ALT" => Some("CERTIFICATES__WEB__CERT_ALT"),
                "CA_CERTIFICATES__ROOT__ID" | "CA_CERTIFICATES__ROOT__TAGS" => {
                    Some("CA_CERTIFICATES__ROOT__FILE")
                }
                "LICENSES__KONG__ID" => Some("LICENSES__KONG__FILE"),
                "RELOAD__FILES__PORT__CERT"
                | "RELOAD__FILES__PORT__KEY"
                | "RELOAD__FILES__PORT__ADDRESS" => Some("RELOAD__FILES__PORT__DIR"),
                _ => None,
            };
            let partner = partner.map(|partner| (partner, "/x"));
            // A partner that cannot be alone is read as nothing.
            let before = read(partner).unwrap_or_default();
            let settings = read(partner.into_iter().chain([(&*name, value)])).unwrap();
            let without = CertificateSettings::default();
            let unread =
                settings == before || settings.certificates.values().any(|web| *web == without);
            assert_eq!(unread, name == "CONFIG", "{name}");
        }
    }

    #[test]
    fn values_are_read_in_all_their_forms() {
        let settings = read([
            ("ADMIN__URL", "https://kong-admin:8444/api"),
            ("ADMIN__CA_FILE", "/ca.pem"),
            ("ADMIN__TOKEN_FILE", "/token"),
            ("ADMIN__HEADERS__X_API_KEY", "one"),
            ("ADMIN__HEADERS__Authorization", "Bearer two"),
            ("ADMIN__CLIENT_CERT_FILE", "/c.pem"),
            ("ADMIN__CLIENT_KEY_FILE", "/k.pem"),
            ("ADMIN__SERVER_NAME", "10.0.0.1"),
            ("DRY_RUN", "YES"),
            ("LISTEN", "[::1]:80"),
            ("LOG__LEVEL", "Off"),
            ("HOLD", "1h 30m"),
        ])
        .unwrap();
        let admin = settings.admin;
        assert_eq!(admin.url.unwrap().to_string(), "https://kong-admin:8444/api");
        assert_eq!(admin.token, Some(Credential::File("/token".into())));
        let secret = |text: &str| text.parse::<Secret>().unwrap();
        let headers = [("authorization", "Bearer two"), ("x-api-key", "one")];
        assert_eq!(admin.headers, headers.map(|(name, text)| (name.to_owned(), secret(text))));
        assert_eq!(admin.client, Some(ClientFiles { cert: "/c.pem".into(), key: "/k.pem".into() }));
        assert_eq!(admin.server_name.as_deref(), Some("10.0.0.1"));
        assert!(settings.dry_run);
        assert_eq!(settings.listen, Listen::Address("[::1]:80".parse().unwrap()));
        assert_eq!(settings.log.level, LogLevel(LevelFilter::OFF));
        assert_eq!(settings.hold, Duration::from_secs(5400));
    }

    #[test]
    fn a_file_to_reload_is_two_absolute_paths() {
        for (vars, cert, key) in [
            (vec![("DIR", "/d")], "/d/tls.crt", "/d/tls.key"),
            (vec![("DIR", "/d"), ("CERT", "a/b.crt")], "/d/a/b.crt", "/d/tls.key"),
            (vec![("DIR", "/d"), ("KEY", "/k/b.key")], "/d/tls.crt", "/k/b.key"),
            (vec![("CERT", "/a.pem"), ("KEY", "/a.pem")], "/a.pem", "/a.pem"),
        ] {
            let vars: Vec<(String, &str)> = vars
                .into_iter()
                .map(|(field, value)| (format!("RELOAD__FILES__PORT__{field}"), value))
                .collect();
            let settings = read(vars.iter().map(|(name, value)| (&**name, *value))).unwrap();
            let port = &settings.reload.files[&"port".parse().unwrap()];
            assert_eq!((&*port.cert, &*port.key), (cert.as_ref(), key.as_ref()));
            assert_eq!(port.address, Some(ProxyAddress::Auto));
        }
    }

    #[test]
    fn a_file_has_the_other_kinds_of_material_too() {
        let id = "22222222-2222-4222-8222-222222222222";
        let settings = read_yaml(&format!(
            r"
admin: {{url: '', mode: Control_Plane}}
ca_certificates:
  Root-1: {{file: /ca/ca.crt, id: {id}, tags: [one, two]}}
licenses:
  kong: {{file: /licence.json, id: {id}}}
reload:
  files:
    port: {{dir: /d, address: 'localhost:8444'}}
    client: {{dir: /c, address: ''}}
  pid-file: /nginx.pid
  min_interval: 1m
declarative: {{file: /kong.yml, poll: 1s, force: true}}
"
        ))
        .unwrap();
        assert_eq!((settings.admin.url, settings.admin.mode), (None, AdminMode::ControlPlane));
        let root = &settings.authorities[&"root_1".parse().unwrap()];
        assert_eq!((&*root.file, root.id), ("/ca/ca.crt".as_ref(), id.parse().ok()));
        assert_eq!(root.tags, ["one", "two"].map(|tag| tag.parse().unwrap()).into());
        let licence = LicenseSettings { file: "/licence.json".into(), id: id.parse().ok() };
        assert_eq!(settings.licenses, [("kong".parse().unwrap(), licence)].into());
        let addresses = settings.reload.files.into_values().map(|file| file.address);
        let addresses: Vec<_> = addresses.collect();
        assert_eq!(addresses, [None, "localhost:8444".parse().ok()]);
        assert_eq!(settings.reload.pid_file, Some("/nginx.pid".into()));
        assert_eq!(settings.reload.min_interval, Duration::from_secs(60));
        let poll = Duration::from_secs(1);
        let declarative = Declarative { file: Some("/kong.yml".into()), poll, force: true };
        assert_eq!(settings.declarative, declarative);
    }

    #[test]
    fn one_id_may_be_that_of_two_kinds() {
        let id = "22222222-2222-4222-8222-222222222222";
        let settings = read([
            ("CERTIFICATES__WEB__ID", id),
            ("CA_CERTIFICATES__ROOT__ID", id),
            ("CA_CERTIFICATES__ROOT__FILE", "/ca.crt"),
            ("LICENSES__KONG__ID", id),
            ("LICENSES__KONG__FILE", "/licence.json"),
        ]);
        assert!(settings.is_ok(), "{settings:?}");
    }

    #[test]
    fn the_name_of_the_declarative_file_is_free_where_there_is_none() {
        let name = ("LICENSES__DECLARATIVE_FILE__FILE", "/a");
        assert_eq!(read([name, ("DECLARATIVE__FILE", "")]).unwrap().licenses.len(), 1);
        let settings = read([("LICENSES__KONG__FILE", "/a"), ("DECLARATIVE__FILE", "/b")]);
        assert_eq!(settings.unwrap().declarative.file, Some("/b".into()));
    }

    #[test]
    fn an_empty_variable_is_not_set_but_for_the_addresses_of_kong() {
        let file = yaml("debounce: 1s");
        let mut vars = vec![("CONFIG", file.path().to_str().unwrap())];
        vars.extend([("DEBOUNCE", ""), ("ADMIN__TOKEN", ""), ("CERTIFICATES__WEB__SNIS", "")]);
        let settings = read(vars).unwrap();
        assert_eq!(settings.debounce, Duration::from_secs(1));
        assert_eq!((settings.admin.token, settings.certificates.len()), (None, 0));
        assert!(settings.admin.url.is_some());
        assert_eq!(read([("ADMIN__URL", "")]).unwrap().admin.url, None);
        assert_eq!(read_yaml("admin: {url: ''}").unwrap().admin.url, None);
        assert_eq!(read([("PROXY__ADDRESS", "")]).unwrap().proxy.address, None);
        let file = yaml("reload: {files: {port: {dir: /d, address: 'localhost:1'}}}");
        let hidden = ("RELOAD__FILES__PORT__ADDRESS", "");
        let settings = read([("CONFIG", file.path().to_str().unwrap()), hidden]).unwrap();
        assert_eq!(settings.reload.files[&"port".parse().unwrap()].address, None);
        let unset = read([("RELOAD__FILES__PORT__DIR", ""), ("CA_CERTIFICATES__ROOT__FILE", "")]);
        assert_eq!(unset.unwrap(), Settings::default());
    }

    #[test]
    fn a_certificate_is_named_in_any_case_and_with_any_underscores() {
        let settings = read([
            ("CERTIFICATES__MY_CERT__SNIS", "a.example.com, *.B.example.com,"),
            ("CERTIFICATES__my-cert__TAGS", "one,two words"),
            ("CERTIFICATES__A__B__DIR", "/a"),
        ])
        .unwrap();
        let names: Vec<&str> = settings.certificates.keys().map(FoldedName::as_str).collect();
        assert_eq!(names, ["a__b", "my_cert"]);
        let mine = settings.certificates.values().last().unwrap();
        let snis: Vec<&str> = mine.snis.iter().flatten().map(AsRef::as_ref).collect();
        assert_eq!(snis, ["*.b.example.com", "a.example.com"]);
        let tags: Vec<&str> = mine.tags.iter().map(AsRef::as_ref).collect();
        assert_eq!(tags, ["one", "two words"]);
        assert!(mine.adopt);
    }

    #[test]
    fn variables_without_our_prefix_are_not_ours() {
        let vars =
            ["CERT_RELOADER_SERVICE_HOST", "CERT_RELOADER_PORT_9797_TCP", "CERT_RELOADER", "PATH"];
        let vars = vars.map(|name| (OsString::from(name), OsString::from_vec(vec![0xff])));
        assert_eq!(Settings::from_env(vars).unwrap(), Settings::default());
    }

    #[test]
    fn a_variable_with_one_underscore_too_few_is_a_mistake() {
        let vars = [(OsString::from("CERT_RELOADER_DRY_RUN"), OsString::from("true"))];
        let told = Settings::from_env(vars).unwrap_err().to_string();
        let expected =
            "CERT_RELOADER_DRY_RUN: unknown setting; did you mean CERT_RELOADER__DRY_RUN?";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_holds_the_same_tree() {
        let settings = read_yaml(
            r"
admin:
  url: http://localhost:8001
  concurrency: 8
  headers: {X-Api-Key: one}
poll-interval: 1m
dry_run: true
log: {level: off}
hold: ~
certificates:
  Web-1.example:
    dir: /certs/web
    snis: [a.example.com, b.example.com]
    tags: one, two
    renew_by: 0.5
    adopt: no
  other:
",
        )
        .unwrap();
        assert_eq!(settings.admin.url.unwrap().to_string(), "http://localhost:8001");
        assert_eq!(settings.admin.concurrency.get(), 8);
        assert_eq!(settings.admin.headers, [("x-api-key".to_owned(), "one".parse().unwrap())]);
        assert_eq!(settings.poll_interval, Duration::from_secs(60));
        assert_eq!(settings.hold, Duration::from_secs(300));
        assert_eq!((settings.dry_run, settings.log.level), (true, LogLevel(LevelFilter::OFF)));
        let web = &settings.certificates[&"web_1_example".parse().unwrap()];
        assert_eq!(web.dir.as_deref(), Some("/certs/web".as_ref()));
        assert_eq!((web.snis.as_ref().unwrap().len(), web.tags.len()), (2, 2));
        assert_eq!((web.renew_by.share(), web.adopt), (0.5, false));
        assert_eq!(settings.certificates.len(), 1);
    }

    #[test]
    fn the_environment_wins_setting_by_setting() {
        let file = yaml(
            r"
admin: {timeout: 1s, concurrency: 2}
certificates:
  web-1: {dir: /file, snis: [a, b], tags: [one]}
  web-2: {dir: /two}
",
        );
        let settings = read([
            ("CONFIG", file.path().to_str().unwrap()),
            ("ADMIN__TIMEOUT", "2s"),
            ("CERTIFICATES__WEB_1__SNIS", "c"),
        ])
        .unwrap();
        assert_eq!(settings.admin.timeout, Duration::from_secs(2));
        assert_eq!(settings.admin.concurrency.get(), 2);
        let web = &settings.certificates[&"web_1".parse().unwrap()];
        assert_eq!(web.dir.as_deref(), Some("/file".as_ref()));
        assert_eq!(web.snis, Some(["c".parse().unwrap()].into()));
        assert_eq!((web.tags.len(), settings.certificates.len()), (1, 2));
    }

    #[test]
    fn each_mistake_names_the_setting_and_the_mend() {
        for (name, value, told) in [
            (
                "ADMIN__TIMEOUT",
                "10",
                "\"10\" is no duration; write it with its unit, such as 250ms, 30s or 5m",
            ),
            ("ADMIN__TIMEOUT", "11m", "\"11m\" is out of range; take 10ms to 10m"),
            ("ADMIN__TIMEOUT", "soon", "\"soon\" is no duration"),
            ("ADMIN__TIMEOUT", " ", "\" \" is no duration"),
            ("DEBOUNCE", "0s", "\"0s\" is out of range; take 10ms to 1m"),
            ("DEBOUNCE", "0", "\"0\" is no duration"),
            ("HOLD", "0", "\"0\" is no duration"),
            ("POLL_INTERVAL", "9ms", "out of range"),
            ("RESYNC_INTERVAL", "1000years", "out of range; take 10ms to 7days"),
            ("HOLD", "99999999999999999999s", "is no duration"),
            ("DRY_RUN", "maybe", "\"maybe\" is neither true nor false"),
            (
                "ADMIN__MODE",
                "hybrid",
                "\"hybrid\" is none of auto, database, control_plane, dbless",
            ),
            ("ADMIN__CONCURRENCY", "0", "\"0\" is no number from 1 to 64"),
            ("ADMIN__CONCURRENCY", "65", "no number from 1 to 64"),
            ("ADMIN__URL", "unix:/run/kong.sock", "names a Unix socket"),
            ("ADMIN__URL", "localhost:8001", "is no http or https URL"),
            ("ADMIN__URL", "http://kong-admin:8001", "would send private keys over plain http"),
            ("ADMIN__WORKSPACE", "a/b", "\"a/b\" is no workspace"),
            ("ADMIN__SERVER_NAME", "a b", "neither a DNS name nor an IP address"),
            ("ADMIN__CA_FILE", "/a\nb", "\"/a\\u{a}b\" is no path"),
            ("ADMIN__HEADERS__CONTENT_LENGTH", "1", "header content-length is not yours to set"),
            ("ADMIN__HEADERS___X", "1", "\"_x\" is no name"),
            (
                "ADMIN__CLIENT_CERT_FILE",
                "/c",
                "goes together with CERT_RELOADER__ADMIN__CLIENT_KEY_FILE; set both or none",
            ),
            ("INSTANCE", "a/b", "\"a/b\" is no instance"),
            ("LISTEN", "9797", "\"9797\" is no address to listen on; write ip:port"),
            ("LISTEN", ":9797", "is no address to listen on"),
            ("LISTEN", "localhost:9797", "is no address to listen on"),
            ("LOG__LEVEL", "loud", "\"loud\" is none of off, error, warn, info, debug, trace"),
            ("LOG__FORMAT", "xml", "\"xml\" is none of auto, text, json"),
            ("CERTIFICATES__WEB__DIR", "certs/web", "\"certs/web\" must be an absolute path"),
            (
                "CERTIFICATES__WEB__CERT",
                "../tls.crt",
                "is no path of a file in the certificate's directory",
            ),
            (
                "CERTIFICATES__WEB__KEY",
                "/a/../tls.key",
                "is no path of a file in the certificate's directory",
            ),
            ("CERTIFICATES__WEB__KEY", ".", "is no path of a file in the certificate's directory"),
            (
                "CERTIFICATES__WEB__CERT_ALT",
                "a.crt",
                "goes together with CERT_RELOADER__CERTIFICATES__WEB__KEY_ALT",
            ),
            (
                "CERTIFICATES__WEB__KEY_ALT",
                "a.key",
                "goes together with CERT_RELOADER__CERTIFICATES__WEB__CERT_ALT",
            ),
            ("CERTIFICATES__WEB__ID", "web", "\"web\" is no UUID"),
            (
                "CERTIFICATES__WEB__SNIS",
                "a, 10.0.0.1",
                "\"10.0.0.1\" is no server name that Kong serves: it is an address",
            ),
            ("CERTIFICATES__WEB__SNIS", ",", "lists no server name"),
            ("CERTIFICATES__WEB__TAGS", "c/d", "\"c/d\" is no tag"),
            ("CERTIFICATES__WEB__RENEW_BY", "0", "\"0\" is no share of a life"),
            ("CERTIFICATES__WEB__RENEW_BY", "1.01", "no share of a life"),
            ("CERTIFICATES__WEB__RENEW_BY", "NaN", "no share of a life"),
            ("CERTIFICATES__WÖB__DIR", "/a", "\"wöb\" is no name"),
            ("CERTIFICATES__WEB", "/a", "is a group of settings; set those beneath it"),
            (
                "CERTIFICATES__WEB__SNSI",
                "a",
                "unknown setting; did you mean CERT_RELOADER__CERTIFICATES__WEB__SNIS?",
            ),
            ("ADMIN__TIMEOUT[99999999999]", "1s", "unknown setting"),
            ("POLLINTERVAL", "1s", "unknown setting; did you mean CERT_RELOADER__POLL_INTERVAL?"),
            (
                "CERTIFICATES__WEB__DIR",
                "/a/../b",
                "\"/a/../b\" leads upwards; write the path without",
            ),
            ("CA_CERTIFICATES__ROOT__FILE", "ca.crt", "\"ca.crt\" must be an absolute path"),
            ("CA_CERTIFICATES__ROOT__FILE", "/a/../b", "\"/a/../b\" leads upwards"),
            ("LICENSES__KONG__FILE", "a", "\"a\" must be an absolute path"),
            ("LICENSES__KONG__FILE", "/..", "\"/..\" leads upwards"),
            ("LICENCES__KONG__FILE", "/a", "did you mean CERT_RELOADER__LICENSES__KONG__FILE?"),
            ("RELOAD__FILES__PORT__DIR", "a", "\"a\" must be an absolute path"),
            ("RELOAD__FILES__PORT__DIR", "/a/..", "\"/a/..\" leads upwards"),
            ("RELOAD__PID_FILE", "nginx.pid", "\"nginx.pid\" must be an absolute path"),
            ("RELOAD__MIN_INTERVAL", "999ms", "\"999ms\" is out of range; take 1s to 1h"),
            ("RELOAD__MIN_INTERVAL", "61m", "out of range"),
            ("DECLARATIVE__FILE", "kong.yml", "\"kong.yml\" must be an absolute path"),
            ("DECLARATIVE__FILE", "/a/../b", "\"/a/../b\" leads upwards"),
            ("DECLARATIVE__POLL", "99ms", "\"99ms\" is out of range; take 100ms to 1h"),
            ("DECLARATIVE__POLL", "61m", "out of range"),
            ("DECLARATIVE__FORCE", "perhaps", "\"perhaps\" is neither true nor false"),
            ("PROXY__ADDRESS", "8443", "\"8443\" is no address of a port; write host:port"),
            ("PROXY__PROTOCOL", "v2", "\"v2\" is none of auto, none, v1"),
            ("PROXY__TIMEOUT", "2h", "out of range"),
            ("", "a", "unknown setting"),
            ("CONFIG", "/does/not/exist.yaml", "cannot read /does/not/exist.yaml: No such file"),
        ] {
            let mistakes = read([(name, value)]).unwrap_err().to_string();
            let of_this = mistakes.starts_with(&format!("{PREFIX}{name}: "));
            assert!(of_this && mistakes.contains(told), "{name}: {told}\n{mistakes}");
            assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
        }
    }

    #[test]
    fn a_binding_without_its_files_is_a_mistake() {
        let id = "22222222-2222-4222-8222-222222222222";
        let no_pair = "CERT_RELOADER__RELOAD__FILES__PORT__DIR: is not set; name the directory, or both files by CERT_RELOADER__RELOAD__FILES__PORT__CERT and CERT_RELOADER__RELOAD__FILES__PORT__KEY";
        for (name, value, told) in [
            (
                "CA_CERTIFICATES__ROOT__TAGS",
                "one",
                "CERT_RELOADER__CA_CERTIFICATES__ROOT__FILE: is not set; name the file",
            ),
            (
                "LICENSES__KONG__ID",
                id,
                "CERT_RELOADER__LICENSES__KONG__FILE: is not set; name the file",
            ),
            ("RELOAD__FILES__PORT__CERT", "/a.crt", no_pair),
            ("RELOAD__FILES__PORT__KEY", "a.key", no_pair),
            ("RELOAD__FILES__PORT__ADDRESS", "", no_pair),
        ] {
            let mistakes = read([(name, value)]).unwrap_err().to_string();
            assert!(mistakes.starts_with(told) && mistakes.lines().count() == 1, "{mistakes}");
        }
    }

    #[test]
    fn a_pair_to_reload_says_which_of_its_settings_is_wrong() {
        let [dir, cert, key, address] =
            ["DIR", "CERT", "KEY", "ADDRESS"].map(|field| format!("RELOAD__FILES__PORT__{field}"));
        for (vars, wrong, told) in [
            ([(&cert, "a.crt"), (&key, "/a.key")], &cert, "\"a.crt\" must be an absolute path"),
            ([(&cert, "/a.crt"), (&key, "/b/../a.key")], &key, "\"/b/../a.key\" leads upwards"),
            (
                [(&dir, "/d"), (&cert, "../a.crt")],
                &cert,
                "is no path of a file in the certificate's",
            ),
            ([(&dir, "/d"), (&key, "/d/../a.key")], &key, "is no path of a file in"),
            ([(&dir, "/d"), (&address, "8444")], &address, "\"8444\" is no address of a port"),
        ] {
            let vars = vars.map(|(name, value)| (name.as_str(), value));
            let mistakes = read(vars).unwrap_err().to_string();
            let of_this = mistakes.starts_with(&format!("{PREFIX}{wrong}: "));
            assert!(of_this && mistakes.contains(told), "{told}\n{mistakes}");
            assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_mistakes() {
        let uuid = "22222222-2222-4222-8222-222222222222";
        for (vars, told) in [
            (
                vec![("ADMIN__URL", "https://127.0.0.1:8444")],
                "CERT_RELOADER__ADMIN__CA_FILE: is needed for https",
            ),
            (
                vec![("ADMIN__URL", "https://kong:8444"), ("ADMIN__INSECURE_SKIP_VERIFY", "1")],
                "CERT_RELOADER__ADMIN__INSECURE_SKIP_VERIFY: would send private keys to another host",
            ),
            (
                vec![("ADMIN__TOKEN", "s"), ("ADMIN__TOKEN_FILE", "/t")],
                "CERT_RELOADER__ADMIN__TOKEN: is set as well as CERT_RELOADER__ADMIN__TOKEN_FILE",
            ),
            (
                vec![("CERTIFICATES__A__SNIS", "x.y,z.y"), ("CERTIFICATES__B__SNIS", "X.y")],
                "CERT_RELOADER__CERTIFICATES__B__SNIS: x.y is in CERT_RELOADER__CERTIFICATES__A__SNIS, too",
            ),
            (
                vec![("CERTIFICATES__A__ID", uuid), ("CERTIFICATES__B__ID", uuid)],
                "CERT_RELOADER__CERTIFICATES__B__ID: is the ID of CERT_RELOADER__CERTIFICATES__A__ID, too",
            ),
            (
                vec![
                    ("CA_CERTIFICATES__A__ID", uuid),
                    ("CA_CERTIFICATES__A__FILE", "/1"),
                    ("CA_CERTIFICATES__B__ID", uuid),
                    ("CA_CERTIFICATES__B__FILE", "/2"),
                ],
                "CERT_RELOADER__CA_CERTIFICATES__B__ID: is the ID of CERT_RELOADER__CA_CERTIFICATES__A__ID, too",
            ),
            (
                vec![
                    ("LICENSES__A__ID", uuid),
                    ("LICENSES__A__FILE", "/1"),
                    ("LICENSES__B__ID", uuid),
                    ("LICENSES__B__FILE", "/2"),
                ],
                "CERT_RELOADER__LICENSES__B__ID: is the ID of CERT_RELOADER__LICENSES__A__ID, too",
            ),
            (
                vec![("CERTIFICATES__A_B__SNIS", "x.y"), ("CA_CERTIFICATES__a-b__FILE", "/1")],
                "CERT_RELOADER__CA_CERTIFICATES__a-b__FILE: its name is that of CERT_RELOADER__CERTIFICATES__A_B__SNIS; give it another",
            ),
            (
                vec![("CA_CERTIFICATES__A__FILE", "/1"), ("LICENSES__A__FILE", "/1")],
                "CERT_RELOADER__LICENSES__A__FILE: its name is that of CERT_RELOADER__CA_CERTIFICATES__A__FILE; give it another",
            ),
            (
                vec![("LICENSES__A__FILE", "/1"), ("RELOAD__FILES__A__DIR", "/1")],
                "CERT_RELOADER__RELOAD__FILES__A__DIR: its name is that of CERT_RELOADER__LICENSES__A__FILE; give it another",
            ),
            (
                vec![("DECLARATIVE__FILE", "/1"), ("CERTIFICATES__Declarative-File__DIR", "/1")],
                "CERT_RELOADER__CERTIFICATES__Declarative-File__DIR: its name is that of CERT_RELOADER__DECLARATIVE__FILE; give it another",
            ),
            (
                vec![("DECLARATIVE__FILE", "/1"), ("RELOAD__FILES__DECLARATIVE_FILE__DIR", "/1")],
                "CERT_RELOADER__RELOAD__FILES__DECLARATIVE_FILE__DIR: its name is that of CERT_RELOADER__DECLARATIVE__FILE; give it another",
            ),
            (
                vec![("CERTIFICATES__a-b__DIR", "/1"), ("CERTIFICATES__A_B__DIR", "/2")],
                "CERT_RELOADER__CERTIFICATES__a-b__DIR: is the same setting as CERT_RELOADER__CERTIFICATES__A_B__DIR",
            ),
        ] {
            let mistakes = read(vars).unwrap_err().to_string();
            assert!(mistakes.starts_with(told) && mistakes.lines().count() == 1, "{mistakes}");
        }
    }

    #[test]
    fn keys_go_over_unsafe_connections_only_if_allowed() {
        for vars in [
            vec![("ADMIN__URL", "http://kong:8001"), ("ADMIN__ALLOW_INSECURE", "true")],
            vec![
                ("ADMIN__URL", "https://kong:8444"),
                ("ADMIN__INSECURE_SKIP_VERIFY", "true"),
                ("ADMIN__ALLOW_INSECURE", "true"),
            ],
            vec![("ADMIN__URL", "https://localhost:8444"), ("ADMIN__INSECURE_SKIP_VERIFY", "true")],
            vec![("ADMIN__URL", "https://kong:8444"), ("ADMIN__CA_FILE", "/ca.pem")],
        ] {
            assert!(read(vars.clone()).is_ok(), "{vars:?}");
        }
    }

    #[test]
    fn each_mistake_in_the_file_names_key_and_file() {
        for (text, told) in [
            ("debounce: 10", "debounce in FILE: \"10\" is no duration"),
            ("instance: 10", "instance in FILE: put the value in quotes"),
            ("instance: [a]", "instance in FILE: must be one value, not a list"),
            ("debounce: {a: b}", "debounce in FILE: must be a value, not a mapping"),
            (
                "certificates: {web: {snis: {a: b}}}",
                "certificates.web.snis in FILE: must be a value, not a mapping",
            ),
            ("certificates: {web: {snis: [[a]]}}", "certificates.web.snis in FILE: must be a list"),
            (
                "certificates: {web: {snis: []}}",
                "certificates.web.snis in FILE: lists no server name",
            ),
            (
                "certificates: {web: {tags: [2026]}}",
                "certificates.web.tags in FILE: put the value in quotes",
            ),
            (
                "certificates: {'we b': {dir: /a}}",
                "certificates.we b.dir in FILE: \"we b\" is no name",
            ),
            ("certificates: {a: {b: {dir: /a}}}", "certificates.a.b in FILE: unknown setting"),
            ("certificates: [a]", "certificates in FILE: is a group of settings"),
            (
                "certficates: {a: {dir: /a}}",
                "certficates in FILE: unknown setting; did you mean certificates?",
            ),
            (
                "admin: {timeot: 1s}",
                "admin.timeot in FILE: unknown setting; did you mean admin.timeout?",
            ),
            (
                "admin.timeout: 1s",
                "admin.timeout in FILE: unknown setting; did you mean admin.timeout?",
            ),
            (
                "reload: {files: {web: {drr: /a}}}",
                "reload.files.web.drr in FILE: unknown setting; did you mean reload.files.web.dir?",
            ),
            ("reload: {files: {web: /a}}", "reload.files.web in FILE: is a group of settings"),
            (
                "ca_certificates: {web: {file: ~}}",
                "ca_certificates.web.file in FILE: is not set; name the file",
            ),
            (
                "licenses: {web.1: {file: /a}}\nreload: {files: {Web-1: {dir: /a}}}",
                "reload.files.Web-1.dir in FILE: its name is that of licenses.web.1.file in FILE",
            ),
            ("'a[99999999999]': 1", "a[99999999999] in FILE: unknown setting"),
            (
                "config: /other.yaml",
                "config in FILE: belongs in the environment, as CERT_RELOADER__CONFIG",
            ),
            (
                "certificates: {web-1: {dir: /a}, web.1: {key: k}}",
                "certificates.web.1 in FILE: is the same setting as certificates.web-1 in FILE",
            ),
            (
                "certificates: {a: {snis: [x]}, b: {snis: [x]}}",
                "certificates.b.snis in FILE: x is in certificates.a.snis in FILE, too",
            ),
            (
                "a: b: c",
                "CERT_RELOADER__CONFIG: FILE is not YAML: mapping values are not allowed in this context, line 1",
            ),
            (
                "hold: 1s\nhold: 2s",
                "CERT_RELOADER__CONFIG: FILE is not YAML: a key is there twice, line 2",
            ),
            ("[a]", "CERT_RELOADER__CONFIG: FILE must be one YAML mapping"),
            ("--- {}\n--- {}", "CERT_RELOADER__CONFIG: FILE must be one YAML mapping"),
        ] {
            let file = yaml(text);
            let path = file.path().to_str().unwrap();
            let mistakes = read([("CONFIG", path)]).unwrap_err().to_string().replace(path, "FILE");
            assert!(
                mistakes.starts_with(told) && mistakes.lines().count() == 1,
                "{told}\n{mistakes}"
            );
        }
    }

    #[test]
    fn what_was_meant_is_told_without_control_characters() {
        for name in [
            "CERT_RELOADER__CERTIFICATEC__W\u{1b}[31mB__KEY",
            "CERT_RELOADER__CERTIFICATES__W\nB__KEI",
            "CERT_RELOADER_CERTIFICATES_W\nB_KEY",
        ] {
            let mistakes = Settings::from_env([(name.into(), "/x".into())]).unwrap_err();
            let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            assert!(told[0].contains("did you mean"), "{told:?}");
            assert!(!told[0].contains(char::is_control), "{told:?}");
        }
    }

    #[test]
    fn a_file_stays_small_when_it_is_read() {
        let mut aliases = "a0: &a0 [x, x]\n".to_owned();
        let mut levels = aliases.clone();
        for level in 1..20 {
            let before = format!("*a{}", level - 1);
            aliases += &format!("a{level}: &a{level} [{}]\n", [&*before; 9].join(", "));
            levels += &format!("a{level}: &a{level} [{before}]\n");
        }
        let large = "# \n".repeat(400_000);
        for (text, said) in [
            (&"- ".repeat(100_000), "is nested too deep"),
            (&format!("hold: {}{}", "[".repeat(16), "]".repeat(16)), "is nested too deep"),
            (&levels, "is nested too deep"),
            (&aliases, "its aliases repeat too much"),
            (&large, "is larger than 1 MiB"),
        ] {
            let mistakes = read_yaml(text).unwrap_err().to_string();
            assert!(mistakes.contains(said), "{mistakes}");
        }
        let devices = read([("CONFIG", "/dev/zero")]).unwrap_err().to_string();
        assert!(devices.contains("is larger than 1 MiB"), "{devices}");
        let anchored = "certificates: {web: &web {dir: /a}, api: *web}";
        assert_eq!(read_yaml(anchored).unwrap().certificates.len(), 2);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let file = yaml("debounce: 10\nadmin: {timeot: 1s, url: 'unix:/a'}\nhold: {a: b}");
        let path = file.path().to_str().unwrap();
        let mistakes = read([
            ("CONFIG", path),
            ("LISTEN", "9797"),
            ("CERTIFICATES__WEB__SNIS", "10.0.0.1, *.*.x, fine.example.com"),
            ("CERTIFICATES__WEB__RENEW_BY", "2"),
            ("RELOAD__PIDFILES", "/a"),
            ("RELOAD__PID_FILE", "a"),
            ("RELOAD__FILES__ROOT__CERT", "a"),
            ("RELOAD__FILES__ROOT__ADDRESS", "8443"),
            ("CA_CERTIFICATES__ROOT__ID", "22222222-2222-4222-8222-222222222222"),
            ("CA_CERTIFICATES__TREE__ID", "22222222-2222-4222-8222-222222222222"),
            ("CA_CERTIFICATES__TREE__FILE", "a"),
            ("CA_CERTIFICATES__TREE__TAGS", "a/b,c/d"),
            ("LICENSES__KONG__ID", "1"),
            ("DECLARATIVE__POLL", "2"),
        ])
        .unwrap_err();
        let settings: Vec<String> = mistakes
            .iter()
            .map(|mistake| mistake.setting.to_string().replace(path, "FILE"))
            .collect();
        assert_eq!(
            settings,
            [
                "CERT_RELOADER__RELOAD__PIDFILES",
                "admin.timeot in FILE",
                "hold in FILE",
                "CERT_RELOADER__RELOAD__FILES__ROOT__ADDRESS",
                "admin.url in FILE",
                "CERT_RELOADER__CERTIFICATES__WEB__SNIS",
                "CERT_RELOADER__CERTIFICATES__WEB__SNIS",
                "CERT_RELOADER__CERTIFICATES__WEB__RENEW_BY",
                "CERT_RELOADER__CA_CERTIFICATES__ROOT__FILE",
                "CERT_RELOADER__CA_CERTIFICATES__TREE__FILE",
                "CERT_RELOADER__CA_CERTIFICATES__TREE__TAGS",
                "CERT_RELOADER__CA_CERTIFICATES__TREE__TAGS",
                "CERT_RELOADER__CA_CERTIFICATES__TREE__ID",
                "CERT_RELOADER__LICENSES__KONG__FILE",
                "CERT_RELOADER__LICENSES__KONG__ID",
                "CERT_RELOADER__RELOAD__FILES__ROOT__DIR",
                "CERT_RELOADER__RELOAD__FILES__ROOT__ADDRESS",
                "CERT_RELOADER__RELOAD__PID_FILE",
                "CERT_RELOADER__DECLARATIVE__POLL",
                "debounce in FILE",
                "CERT_RELOADER__LISTEN",
            ]
        );
        assert_eq!(mistakes.to_string().lines().count(), settings.len());
    }

    #[test]
    fn what_an_unreadable_file_may_hold_is_not_called_missing() {
        let mistakes = read([
            ("CONFIG", "/does/not/exist.yaml"),
            ("ADMIN__URL", "https://kong:8444"),
            ("CERTIFICATES__WEB__CERT_ALT", "a.crt"),
            ("CA_CERTIFICATES__ROOT__TAGS", "one"),
            ("RELOAD__FILES__ONE__CERT", "a.crt"),
            ("RELOAD__FILES__BOTH__CERT", "a.crt"),
            ("RELOAD__FILES__BOTH__KEY", "a.key"),
            ("HOLD", "soon"),
        ])
        .unwrap_err();
        let settings: Vec<&str> = mistakes.iter().map(|mistake| mistake.setting.as_str()).collect();
        assert_eq!(settings, ["CERT_RELOADER__CONFIG", "CERT_RELOADER__HOLD"]);
    }

    #[test]
    fn what_is_not_utf_8_is_a_mistake() {
        let var = |name: &[u8], value: &[u8]| {
            (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()))
        };
        let mistakes = Settings::from_env([
            var(b"CERT_RELOADER__HOLD", b"\xff"),
            var(b"CERT_RELOADER__\xff", b"a"),
        ])
        .unwrap_err();
        assert_eq!(
            mistakes.to_string(),
            "CERT_RELOADER__HOLD: its value is not UTF-8\nCERT_RELOADER__\u{fffd}: its name is not UTF-8"
        );
    }

    #[test]
    fn a_secret_is_in_no_error_and_in_no_debug_output() {
        let shown = |settings: Result<Settings, Mistakes>| match settings {
            Ok(settings) => format!("{settings:?}"),
            Err(mistakes) => format!("{mistakes} {mistakes:?}"),
        };
        for vars in [
            vec![("ADMIN__TOKEN", "hunter2"), ("ADMIN__HEADERS__X", "hunter2")],
            vec![("ADMIN__TOKEN", "hunter2\nhunter2"), ("ADMIN__HEADERS__X", "hünter2 hunter2")],
            vec![("ADMIN__TOKEN", "hunter2"), ("ADMIN__TOKEN_FILE", "/t")],
            vec![("ADMIN__HEADERS__TE", "hunter2"), ("ADMIN__HEADERS", "hunter2")],
            vec![("ADMIN__TOKE", "hunter2"), ("ADMIN__HEADERS___X", "hunter2")],
            vec![("ADMIN__URL", "http://kong:hunter2@kong"), ("ADMIN__CONCURRENCY", "0")],
            vec![("ADMIN__URL", "//kong:hunter2@kong"), ("ADMIN__URL", "hunter2:x")],
        ] {
            let shown = shown(read(vars));
            assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
        }
        for text in [
            "hunter2",
            "admin: {token: 'hunter2 '}",
            "admin: {token: [hunter2]}",
            "admin: {token: {hunter2: hunter2}}",
            "admin: {token: {{ hunter2 }}}",
            "admin: {headers: {x: {hunter2: 1}, y: [hunter2]}}",
            "admin: {headers: hunter2}",
            "admin: [hunter2]",
            "admin: {token: 'hunter2', token: 'hunter2'}",
            "admin: {token: 'hunter2'",
            "admin:\n  token: !!int hunter2\n  hold: 1\n",
        ] {
            let shown = shown(read_yaml(text));
            assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_environment_makes_it_panic(
            known in prop::collection::vec((0..SETTINGS.len(), "[A-Za-z_.0-9-]{0,9}", ".{0,12}"), 0..6),
            wild in prop::collection::vec((".{0,20}", ".{0,12}"), 0..3),
        ) {
            let known = known.into_iter().map(|(index, inner, value)| {
                (SETTINGS[index].name.replace("<NAME>", &inner), value)
            });
            let vars: Vec<_> = known.chain(wild).collect();
            let _ = read(vars.iter().map(|(name, value)| (&**name, &**value)));
        }

        #[test]
        fn no_file_makes_it_panic(
            wild in "[-a-z:{}\\[\\], \n~'\"*&!|>#%.0-9]{0,60}",
            keys in prop::collection::vec((0..SETTINGS.len(), "[a-z_.-]{1,5}", "[a-z0-9~:{}\\[\\], ]{0,12}"), 0..5),
        ) {
            let _ = read_yaml(&wild);
            let lines = keys.into_iter().map(|(index, inner, value)| {
                let name = SETTINGS[index].name.to_lowercase().replace("<name>", &inner);
                let keys: Vec<String> = name.split("__").map(|key| format!("{key}: ")).collect();
                format!("{}{value}{}\n", keys.join("{"), "}".repeat(keys.len() - 1))
            });
            let _ = read_yaml(&lines.collect::<String>());
        }
    }

    /// A setting with a name of its kind in it.
    fn named(setting: &str) -> String {
        let name = match setting.split("__").next() {
            Some("CA_CERTIFICATES") => "ROOT",
            Some("LICENSES") => "KONG",
            Some("RELOAD") => "PORT",
            _ => "WEB",
        };
        setting.replace("<NAME>", name)
    }

    fn read<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Settings, Mistakes> {
        Settings::from_env(
            vars.into_iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), value.into())),
        )
    }

    fn read_yaml(text: &str) -> Result<Settings, Mistakes> {
        read([("CONFIG", yaml(text).path().to_str().unwrap())])
    }

    fn yaml(text: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }
}
