//! The whole list of settings, once: what exists, what holds without it, what it means.

use super::mistake::Fault;
use super::spelling::Spelling;
use crate::names::FoldedName;
use crate::quote::Quoted;

/// One setting as documentation has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable's name after `CERT_RELOADER__`; `<NAME>` stands for a name of the user's.
    pub name: &'static str,
    /// What holds where nothing is set; empty for nothing.
    pub default: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// Every setting there is; a name that is not here is a mistake.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting("CONFIG", "", "a YAML file with the same tree as these variables, which win"),
    setting("ADMIN__URL", "http://127.0.0.1:8001", "Kong's Admin API; empty: there is none"),
    setting("ADMIN__MODE", "auto", "where Kong keeps its configuration: auto (ask Kong), database, control_plane or dbless"),
    setting("ADMIN__TIMEOUT", "10s", "longest wait for one answer of Kong, at most 10m"),
    setting("ADMIN__CONCURRENCY", "4", "requests at a time, 1 to 64; more slow down Kong's own handshakes"),
    setting("ADMIN__TOKEN", "", "sent as Kong-Admin-Token; rather use a file"),
    setting("ADMIN__TOKEN_FILE", "", "file with that token, read again when it changes"),
    setting("ADMIN__HEADERS__<NAME>", "", "a header for every request; `_` in its name becomes `-`"),
    setting("ADMIN__HEADERS_FILE", "", "file with a `Name: value` a line, read again when it changes"),
    setting("ADMIN__WORKSPACE", "", "workspace of Kong Enterprise"),
    setting("ADMIN__CA_FILE", "", "certificates (PEM) to which https trusts; there are no others in the image"),
    setting("ADMIN__CLIENT_CERT_FILE", "", "certificate that we show to the Admin API"),
    setting("ADMIN__CLIENT_KEY_FILE", "", "key of that certificate"),
    setting("ADMIN__SERVER_NAME", "", "name expected in the Admin API's certificate, if not the URL's host"),
    setting("ADMIN__INSECURE_SKIP_VERIFY", "false", "take any certificate from the Admin API"),
    setting("ADMIN__ALLOW_INSECURE", "false", "send private keys over plain or unverified connections off this host"),
    setting("PROXY__ADDRESS", "auto", "Kong's TLS proxy port, host:port, where handshakes prove what is served; auto: ask Kong; empty: no proof"),
    setting("PROXY__PROTOCOL", "auto", "what that port wants before TLS: auto (ask Kong), none, or v1 of the PROXY protocol"),
    setting("PROXY__TIMEOUT", "", "how long it may go on serving another certificate; db_update_frequency + db_update_propagation + 3s of Kong where nothing is set"),
    setting("INSTANCE", "default", "one name per group of replicas, part of ids and of the tag"),
    setting("CERTS_DIR", "/etc/kong-certs", "directory whose children hold tls.crt and tls.key"),
    setting("CERTIFICATES__<NAME>__DIR", "", "absolute directory of this certificate"),
    setting("CERTIFICATES__<NAME>__CERT", "", "certificate chain, relative to its directory, in place of tls.crt"),
    setting("CERTIFICATES__<NAME>__KEY", "", "key, relative to its directory, in place of tls.key"),
    setting("CERTIFICATES__<NAME>__CERT_ALT", "", "chain of the other key type"),
    setting("CERTIFICATES__<NAME>__KEY_ALT", "", "key of the other key type"),
    setting("CERTIFICATES__<NAME>__ID", "", "UUID of the certificate in Kong"),
    setting("CERTIFICATES__<NAME>__SNIS", "", "exactly these server names, comma-separated, in place of the certificate's own"),
    setting("CERTIFICATES__<NAME>__TAGS", "", "more tags for the certificate in Kong, comma-separated"),
    setting("CERTIFICATES__<NAME>__TAKE_SNIS", "false", "take server names that another certificate in Kong has"),
    setting("CERTIFICATES__<NAME>__ADOPT", "true", "go on with the certificate that has these server names in Kong"),
    setting("CERTIFICATES__<NAME>__RENEW_BY", "0.75", "share of its life after which a renewal is overdue, above 0 and at most 1"),
    setting("CA_CERTIFICATES__<NAME>__FILE", "", "absolute path of this CA certificate (PEM)"),
    setting("CA_CERTIFICATES__<NAME>__ID", "", "UUID of the CA certificate in Kong"),
    setting("CA_CERTIFICATES__<NAME>__TAGS", "", "more tags for the CA certificate in Kong, comma-separated"),
    setting("LICENSES__<NAME>__FILE", "", "absolute path of this licence of Kong Enterprise"),
    setting("LICENSES__<NAME>__ID", "", "UUID of the licence in Kong"),
    setting("RELOAD__FILES__<NAME>__DIR", "", "absolute directory of a pair that Kong itself reads (ssl_cert and the like): tls.crt and tls.key"),
    setting("RELOAD__FILES__<NAME>__CERT", "", "chain, relative to that directory, in place of tls.crt; absolute where there is no directory"),
    setting("RELOAD__FILES__<NAME>__KEY", "", "key, relative to that directory, in place of tls.key; absolute where there is no directory"),
    setting("RELOAD__FILES__<NAME>__ADDRESS", "auto", "port of Kong, host:port, where a handshake shows this pair; auto: the proxy port; empty: no port shows it"),
    setting("RELOAD__PID_FILE", "", "absolute path of the file in which nginx keeps the process to signal"),
    setting("RELOAD__MIN_INTERVAL", "30s", "least time between two signals, 1s to 1h"),
    setting("DECLARATIVE__FILE", "", "absolute path of a configuration for a Kong without a database, read again when it changes"),
    setting("DECLARATIVE__POLL", "2s", "how often such a Kong is asked whether it still has what was sent, 100ms to 1h"),
    setting("DECLARATIVE__FORCE", "false", "write to such a Kong although another controller does"),
    setting("DEBOUNCE", "250ms", "quiet time before files outside of Kubernetes volumes are read"),
    setting("POLL_INTERVAL", "30s", "how often files are looked at without an event"),
    setting("RESYNC_INTERVAL", "5m", "how often Kong is compared without an event"),
    setting("HOLD", "5m", "how long a certificate waits that Kong may have got from another replica"),
    setting("DRY_RUN", "false", "observe and report, write nothing to Kong"),
    setting("LISTEN", "[::]:9797, or 0.0.0.0:9797 without IPv6", "address of probes, metrics and status"),
    setting("STATUS__PUBLIC", "false", "answer / and /status to other hosts, too"),
    setting("READY__STRICT", "false", "ready only when every certificate is in place"),
    setting("READY__TIMEOUT", "60s", "ready after this long in any case, unless strict"),
    setting("LOG__LEVEL", "info", "off, error, warn, info, debug or trace"),
    setting("LOG__FORMAT", "auto", "text, json, or auto: text on a terminal, else json"),
];

/// What a name in the tree means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A setting, and its path in the tree: `certificates.web_1.snis`.
    Setting(String),
    /// Settings are beneath it.
    Group,
}

/// Finds what `name` (folded) means; errs where it means nothing.
pub(super) fn place(name: &str, spelling: Spelling) -> Result<Place, Fault> {
    for setting in SETTINGS {
        if let Some(inner) = setting.find(name, spelling) {
            return setting.path(inner).map(Place::Setting);
        }
    }
    let levels: Vec<&str> = name.split(spelling.separator()).collect();
    if SETTINGS.iter().any(|setting| setting.is_beneath(&levels)) {
        return Ok(Place::Group);
    }
    // It may hold names of the user's.
    let meant = nearest(name, &levels, spelling);
    Err(Fault::Unknown(meant.as_deref().map(Quoted::new)))
}

/// Stands for a name of the user's.
const NAME: &str = "<NAME>";

impl Setting {
    /// The user's name in `name`, empty where this setting has none; nothing if `name` is another.
    fn find<'a>(&self, name: &'a str, spelling: Spelling) -> Option<&'a str> {
        let written = |part: &str| part.to_lowercase().replace("__", spelling.separator());
        let Some((before, after)) = self.name.split_once(NAME) else {
            return (written(self.name) == name).then_some("");
        };
        let inner = name.strip_prefix(&written(before))?.strip_suffix(&written(after))?;
        (!inner.is_empty() && !inner.contains('.')).then_some(inner)
    }

    fn path(&self, inner: &str) -> Result<String, Fault> {
        let path = Spelling::Key.shown(&self.name.replace("__", "."));
        if !self.name.contains(NAME) {
            return Ok(path);
        }
        let inner: FoldedName = inner.parse()?;
        Ok(path.replace(&NAME.to_lowercase(), inner.as_str()))
    }

    fn is_beneath(&self, levels: &[&str]) -> bool {
        let own: Vec<&str> = self.name.split("__").collect();
        let same = |(own, level): (&&str, &&str)| *own == NAME || own.eq_ignore_ascii_case(level);
        levels.len() < own.len() && own.iter().zip(levels).all(same)
    }

    /// Its name with the user's own names in place.
    fn filled(&self, levels: &[&str], spelling: Spelling) -> Vec<String> {
        let fill = |(index, own): (usize, &str)| match levels.get(index) {
            Some(level) if own == NAME => (*level).to_owned(),
            _ => own.to_lowercase(),
        };
        let own: Vec<String> = self.name.split("__").enumerate().map(fill).collect();
        let whole = own.join(spelling.separator());
        match spelling {
            Spelling::Variable => vec![whole],
            Spelling::Key => vec![whole, own[..levels.len().min(own.len())].join(".")],
        }
    }
}

/// The variable that was meant by what stands after `CERT_RELOADER_`, if that is one of ours but for
/// its underscores.
pub(super) fn meant_with_single_underscores(rest: &str) -> Option<String> {
    let single = |text: &str| text.to_lowercase().replace("__", "_");
    let rest = single(rest);
    let meant = SETTINGS.iter().filter_map(|setting| {
        let Some((before, after)) = setting.name.split_once(NAME) else {
            return (single(setting.name) == rest).then(|| (setting.name, setting.name.to_owned()));
        };
        let inner = rest.strip_prefix(&single(before))?.strip_suffix(&single(after))?;
        (!inner.is_empty()).then(|| (after, format!("{before}{inner}{after}")))
    });
    // `…_TAKE_SNIS` ends as `…_SNIS` does.
    let (_, name) = meant.max_by_key(|(after, _)| after.len())?;
    Some(Spelling::Variable.shown(&name))
}

/// What was probably meant by an unknown name: one or two letters away.
fn nearest(name: &str, levels: &[&str], spelling: Spelling) -> Option<String> {
    if name.len() > 200 {
        return None;
    }
    SETTINGS
        .iter()
        .flat_map(|setting| setting.filled(levels, spelling))
        .map(|candidate| (distance(name, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= slips(candidate))
        .min()
        .map(|(_, candidate)| spelling.shown(&candidate))
}

/// How many letters may differ: one where the last word is as short as `key`, else two.
fn slips(candidate: &str) -> usize {
    let last = candidate.rsplit(['.', '_']).next().unwrap_or_default();
    if last.len() > 3 { 2 } else { 1 }
}

/// Letters to add, drop or change (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, one) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in right.chars().enumerate() {
            let changed = diagonal + usize::from(one != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_stands_once_and_has_a_meaning() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                SETTINGS[..index].iter().all(|other| other.name != setting.name),
                "{setting:?}"
            );
            assert!(!setting.meaning.is_empty(), "{setting:?}");
        }
    }

    #[test]
    fn a_name_is_found_in_either_spelling() {
        let setting = |path: &str| Ok(Place::Setting(path.to_owned()));
        for (name, spelling, place_of_it) in [
            ("admin__server_name", Spelling::Variable, setting("admin.server_name")),
            ("admin.server_name", Spelling::Key, setting("admin.server_name")),
            ("admin__headers__x_api_key", Spelling::Variable, setting("admin.headers.x_api_key")),
            ("certificates__a__b__dir", Spelling::Variable, setting("certificates.a__b.dir")),
            ("certificates__a___dir", Spelling::Variable, setting("certificates.a_.dir")),
            ("certificates.web.key_alt", Spelling::Key, setting("certificates.web.key_alt")),
            ("certificates__web", Spelling::Variable, Ok(Place::Group)),
            ("certificates.web", Spelling::Key, Ok(Place::Group)),
            ("admin", Spelling::Key, Ok(Place::Group)),
            ("ca_certificates__a__file", Spelling::Variable, setting("ca_certificates.a.file")),
            (
                "reload__files__a__b__address",
                Spelling::Variable,
                setting("reload.files.a__b.address"),
            ),
            ("reload.files.web.key", Spelling::Key, setting("reload.files.web.key")),
            ("reload__files", Spelling::Variable, Ok(Place::Group)),
            ("reload.files.web", Spelling::Key, Ok(Place::Group)),
            ("certificates.a.b.dir", Spelling::Key, Err(Fault::Unknown(None))),
            ("", Spelling::Variable, Err(Fault::Unknown(None))),
        ] {
            assert_eq!(place(name, spelling), place_of_it, "{name}");
        }
    }

    #[test]
    fn underscores_alone_are_a_slip_and_what_kubernetes_sets_is_none() {
        for (rest, meant) in [
            ("dry_run", Some("CERT_RELOADER__DRY_RUN")),
            ("admin_url", Some("CERT_RELOADER__ADMIN__URL")),
            ("admin__url", Some("CERT_RELOADER__ADMIN__URL")),
            ("certificates_web_1_take_snis", Some("CERT_RELOADER__CERTIFICATES__WEB_1__TAKE_SNIS")),
            ("ca_certificates_root_file", Some("CERT_RELOADER__CA_CERTIFICATES__ROOT__FILE")),
            ("reload_files_web_key", Some("CERT_RELOADER__RELOAD__FILES__WEB__KEY")),
            ("reload_pid_file", Some("CERT_RELOADER__RELOAD__PID_FILE")),
            ("admin_headers_x_api_key", Some("CERT_RELOADER__ADMIN__HEADERS__X_API_KEY")),
            ("service_host", None),
            ("port_9797_tcp_addr", None),
            ("port", None),
        ] {
            assert_eq!(meant_with_single_underscores(rest).as_deref(), meant, "{rest}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        for (name, spelling, meant) in [
            ("admin__timeot", Spelling::Variable, Some("CERT_RELOADER__ADMIN__TIMEOUT")),
            ("admin_url", Spelling::Variable, Some("CERT_RELOADER__ADMIN__URL")),
            (
                "certificates__web__snsi",
                Spelling::Variable,
                Some("CERT_RELOADER__CERTIFICATES__WEB__SNIS"),
            ),
            ("certficates", Spelling::Key, Some("certificates")),
            ("certificates.web.sni", Spelling::Key, Some("certificates.web.snis")),
            ("reload__pidfile", Spelling::Variable, Some("CERT_RELOADER__RELOAD__PID_FILE")),
            ("reload.files.web.adress", Spelling::Key, Some("reload.files.web.address")),
            ("reload__web__dir", Spelling::Variable, None),
            ("proxy__timeouts", Spelling::Variable, Some("CERT_RELOADER__PROXY__TIMEOUT")),
            ("certificates__web__file", Spelling::Variable, None),
            ("ca_certificates__web__snis", Spelling::Variable, None),
        ] {
            assert_eq!(
                place(name, spelling),
                Err(Fault::Unknown(meant.map(Quoted::new))),
                "{name}"
            );
        }
    }
}
