//! Bindings to look at, at a time that stands still.

use std::sync::Arc;

use kong_cert_reloader::binding::Kind;
use kong_cert_reloader::bundle::{self, Fingerprint, LeafDigest};
use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::sidecar::initial_status;
use kong_cert_reloader::status::{
    BindingStatus, KongStatus, ObjectStatus, Reason, Shown, State, Status,
};
use uuid::Uuid;

/// 2026-11-22T14:05:09Z.
pub(crate) const NOW: Timestamp = Timestamp(1_795_356_309);
const DAY: i64 = 86_400;

/// A gateway on a working day; its picture is in the README.
pub(crate) fn usual() -> Status {
    let clients = BindingStatus {
        objects: vec![ObjectStatus {
            id: Uuid::from_u128(0x4f3e_8a52_6a1d_4a0c_9a55_3f0d_8a1f_7c10),
            subject: Some("CN=Example Clients CA".to_owned()),
            ..ObjectStatus::default()
        }],
        served: None,
        renew_at: None,
        ..in_sync(Kind::CaCertificate, shown(0xC1, -400, 1425, &[]))
    };
    let shop = shown(0x5B, -71, 19, &["shop.example.com", "*.shop.example.com"]);
    let invalid = BindingStatus {
        state: State::Invalid,
        reason: Some(Reason::Bundle(bundle::Reason::KeyMismatch)),
        message: Some("the private key in /etc/kong-certs/shop/tls.key belongs to no certificate in /etc/kong-certs/shop/tls.crt: write both from one issuance".to_owned()),
        since: ago(7 * 60),
        last_success: Some(ago(8 * 60)),
        ..in_sync(Kind::Certificate, shop)
    };
    let names = ["partner.example.com"];
    let (old, new) = (shown(0x7B, -88, 2, &names), shown(0xA2, 0, 90, &names));
    let not_served = BindingStatus {
        state: State::NotServed,
        reason: Some(Reason::OtherCertificate),
        message: Some(format!(
            "kong serves partner.example.com with another certificate ({}), although it holds this one; restart this kong if it lasts, and check that PROXY__ADDRESS is a port of its own",
            old.leaf_sha256[0]
        )),
        served: Some(old.into()),
        since: ago(3 * 60),
        last_success: Some(ago(11 * 60)),
        ..in_sync(Kind::Certificate, new)
    };
    let web = BindingStatus {
        warnings: vec!["the chain lacks the leaf's issuer (CN=R11, O=Let's Encrypt): append it, unless clients know it".to_owned()],
        ..in_sync(Kind::Certificate, shown(0xE4, -66, 24, &["example.com", "www.example.com", "static.example.com", "img.example.com", "m.example.com", "old.example.com"]))
    };
    let gateway = BindingStatus {
        kong: None,
        objects: Vec::new(),
        ..in_sync(Kind::Reload, shown(0x9D, -12, 78, &["gateway.example.com"]))
    };
    status([
        ("api", in_sync(Kind::Certificate, shown(0x4F, -21, 69, &["api.example.com"]))),
        ("clients", clients),
        ("gateway-default", gateway),
        ("partner", not_served),
        ("shop", invalid),
        ("web", web),
    ])
}

/// Something in each state and of each kind, and everything that can stand around it.
pub(crate) fn everything() -> Status {
    let mut all = usual();
    for (number, state) in (0..).zip(State::ALL) {
        let reason = match state {
            State::InSync => None,
            State::Held => Some(Reason::Held("kong_newer")),
            _ => Some(Reason::Starting),
        };
        let file = shown(0x30 + number, -30, 60, &["a.test"]);
        let binding = BindingStatus { state, reason, ..in_sync(Kind::Certificate, file) };
        all.bindings.insert(format!("state-{state}").parse().unwrap(), binding.into());
    }
    for kind in Kind::ALL {
        let starting = BindingStatus { kind, ..BindingStatus::starting(NOW) };
        all.bindings.insert(format!("kind-{kind}").parse().unwrap(), starting.into());
    }
    let names: Vec<String> =
        (0..50).map(|number| format!("n{number}.{}.test", "x".repeat(40))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = in_sync(Kind::Certificate, shown(0x66, -100, -1, &names));
    all.bindings.insert("x".repeat(128).parse().unwrap(), many.into());
    all.dry_run = true;
    all.polling = Some("no inotify watches are left: raise fs.inotify.max_user_watches".to_owned());
    all.findings =
        ["the Admin API answers at http://127.0.0.1:8444, not at ADMIN__URL: set it to that"
            .to_owned()]
        .into();
    all.kong.unproven = Some("PROXY__ADDRESS is empty".to_owned());
    all
}

/// Many bindings, and one of them in trouble.
pub(crate) fn thousand() -> Status {
    let one = Arc::new(in_sync(Kind::Certificate, shown(0x4F, -21, 69, &["a.test"])));
    let mut all = status([]);
    for number in 0..1000 {
        all.bindings.insert(format!("site-{number:03}").parse().unwrap(), one.clone());
    }
    let message = Some("kong refused it: schema violation".to_owned());
    let refused = BindingStatus {
        state: State::Refused,
        reason: Some(Reason::ByKong),
        message,
        ..(*one).clone()
    };
    all.bindings.insert("site-700".parse().unwrap(), refused.into());
    all
}

/// Nothing was mounted.
pub(crate) fn nothing() -> Status {
    status([])
}

fn status<const N: usize>(bindings: [(&str, BindingStatus); N]) -> Status {
    let bindings = bindings.map(|(name, binding)| (name.parse().unwrap(), Arc::new(binding)));
    let kong = KongStatus {
        mode: Some("database"),
        version: Some("3.9.1".to_owned()),
        proxy: Some("127.0.0.1:8443".to_owned()),
        unproven: None,
    };
    let initial = initial_status(&Settings::default());
    Status { bindings: bindings.into(), kong, ready: true, ..(*initial).clone() }
}

fn in_sync(kind: Kind, shown: Shown) -> BindingStatus {
    let shown = Arc::new(shown);
    let life = shown.not_after.0 - shown.not_before.0;
    BindingStatus {
        kind,
        state: State::InSync,
        reason: None,
        since: ago(3 * 3600),
        renew_at: Some(Timestamp(shown.not_before.0 + life / 4 * 3)),
        objects: vec![ObjectStatus { snis: shown.names.clone(), ..ObjectStatus::default() }],
        file: Some(shown.clone()),
        kong: Some(shown.clone()),
        served: Some(shown),
        last_success: Some(ago(60)),
        ..BindingStatus::starting(NOW)
    }
}

const fn ago(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds)
}

/// Digests that look like some, from a seed.
fn shown(seed: u8, from: i64, until: i64, names: &[&str]) -> Shown {
    let byte =
        |place: u8| seed.wrapping_mul(place.wrapping_mul(29).wrapping_add(1)).wrapping_add(place);
    let digest: String = (0..32).map(|place| format!("{:02X}", byte(place))).collect();
    Shown {
        fingerprint: Fingerprint::of_text(digest.as_bytes()),
        leaf_sha256: LeafDigest::from_hex(&digest).into_iter().collect(),
        not_before: Timestamp(NOW.0 + from * DAY - 600),
        not_after: Timestamp(NOW.0 + until * DAY + 3600),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}
