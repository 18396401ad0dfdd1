#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;
use crate::binding::Kind;
use crate::bundle::{self, Fingerprint, LeafDigest};
use crate::settings::Settings;
use crate::sidecar::initial_status;
use crate::status::{ObjectStatus, Reason, Shown};

const NOW: Timestamp = Timestamp(1_795_324_280);
const ALL: View = View { refreshes: true, only: None };

fn shown(digit: &str) -> Shown {
    Shown {
        fingerprint: Fingerprint::of_text(digit.as_bytes()),
        leaf_sha256: LeafDigest::from_hex(&digit.repeat(64)).into_iter().collect(),
        not_before: Timestamp(NOW.0 - 86_400 * 20),
        not_after: Timestamp(NOW.0 + 86_400 * 70),
        names: ["web.test".to_owned()].into(),
    }
}

fn in_sync() -> BindingStatus {
    BindingStatus {
        state: State::InSync,
        reason: None,
        file: Some(shown("A").into()),
        kong: Some(shown("A").into()),
        served: Some(shown("A").into()),
        renew_at: Some(Timestamp(NOW.0 + 86_400 * 40)),
        ..BindingStatus::starting(NOW)
    }
}

fn standing_at(state: State, reason: Option<Reason>) -> BindingStatus {
    BindingStatus { state, reason, ..BindingStatus::starting(NOW) }
}

fn status<'a>(bindings: impl IntoIterator<Item = (&'a str, BindingStatus)>) -> Status {
    let named = |(name, binding): (&str, BindingStatus)| (name.parse().unwrap(), binding.into());
    let initial = initial_status(&Settings::default());
    Status { bindings: bindings.into_iter().map(named).collect(), ..(*initial).clone() }
}

fn title_of(status: &Status) -> String {
    let page = render(status, NOW, ALL);
    let (_, rest) = page.split_once("<title>").unwrap();
    rest.split_once("</title>").unwrap().0.to_owned()
}

#[test]
fn the_policy_knows_the_style_by_its_hash() {
    let real = testkit::browser::encoded(&Sha256::digest(STYLE.as_bytes()));
    let told = format!("style-src 'sha256-{real}';");
    assert!(CONTENT_SECURITY_POLICY.contains(&told), "put 'sha256-{real}' into the policy");
    // What a browser hashes is what stands between the tags.
    assert!(render(&status([]), NOW, ALL).contains(&format!("<style>{STYLE}</style>")));
    assert!(!STYLE.contains('<') && !STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn the_title_tells_how_many_are_not_in_place_and_the_worst_state() {
    let refused = || standing_at(State::Refused, Some(Reason::ByKong));
    let held = || standing_at(State::Held, Some(Reason::Held("kong_newer")));
    for (bindings, title) in [
        (vec![], "No bindings found – kong-cert-reloader"),
        (vec![("a", in_sync())], "1 in place – kong-cert-reloader"),
        (vec![("a", in_sync()), ("b", in_sync())], "All 2 in place – kong-cert-reloader"),
        (
            vec![("a", in_sync()), ("b", held()), ("c", refused())],
            "2 of 3 not in place, worst: refused – kong-cert-reloader",
        ),
    ] {
        assert_eq!(title_of(&status(bindings)), title);
    }
}

#[test]
fn what_others_wrote_is_shown_and_cannot_become_markup() {
    const HOSTILE: &str = "</td><script>alert('x')</script><img src=x onerror=\"y\">\u{202e}\u{0}";
    const ESCAPED: &str = "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\
        &lt;img src=x onerror=&quot;y&quot;&gt;\\u{202e}\\u{0}";
    let file = Shown { names: [HOSTILE.to_owned()].into(), ..shown("A") };
    let object = |sni: &str| ObjectStatus {
        id: Uuid::nil(),
        adopted: false,
        snis: [sni.to_owned()].into(),
        subject: Some(HOSTILE.to_owned()),
    };
    let binding = BindingStatus {
        state: State::Refused,
        reason: Some(Reason::Refusal("<b>")),
        message: Some(HOSTILE.to_owned()),
        warnings: vec![HOSTILE.to_owned()],
        file: Some(file.into()),
        kong: Some(shown("B").into()),
        ..in_sync()
    };
    let named = BindingStatus { objects: vec![object(HOSTILE)], ..binding.clone() };
    let authorities = BindingStatus { kind: Kind::CaCertificate, ..named.clone() };
    let mut status = status([("a", binding), ("b", named), ("c", authorities)]);
    status.instance = HOSTILE.to_owned();
    status.polling = Some(HOSTILE.to_owned());
    status.findings = [HOSTILE.to_owned()].into();
    status.kong.mode = Some("database");
    status.kong.version = Some(HOSTILE.to_owned());
    status.kong.unproven = Some(HOSTILE.to_owned());
    let page = render(&status, NOW, ALL);
    for markup in ["<script", "<img", "onerror=\"", "<b>&", "\u{202e}", "\u{0}"] {
        assert!(!page.contains(markup), "{markup:?} in {page}");
    }
    // Instance, polling, finding, version, why unproven; of each binding message and warning; of
    // the first its file's name, of the others their SNI, of the last its subject.
    assert_eq!(page.matches(ESCAPED).count(), 5 + 3 * 2 + 3 + 1);
    status.kong.proxy = Some(HOSTILE.to_owned());
    status.kong.unproven = None;
    assert_eq!(render(&status, NOW, ALL).matches(ESCAPED).count(), 5 + 3 * 2 + 3 + 1);
}

#[test]
fn pem_is_never_shown() {
    let secret = "x\n-----BEGIN PRIVATE KEY-----\nMIIEvQ";
    let binding = BindingStatus { message: Some(secret.to_owned()), ..in_sync() };
    let page = render(&status([("a", binding)]), NOW, ALL);
    assert!(!page.contains("MIIEvQ") && page.contains("(withheld: it contains PEM)"));
}

#[test]
fn every_state_is_told_in_words_and_by_a_shape() {
    let expired = Some(Reason::Bundle(bundle::Reason::Expired));
    for state in State::ALL {
        let page = render(&status([("a", standing_at(state, expired))]), NOW, ALL);
        let row = page.split("<tbody").nth(1).unwrap();
        let word = state.as_str().replace('_', " ");
        assert!(row.to_lowercase().contains(&format!("<strong>{word}</strong>")), "{row}");
        assert!(row.contains("<svg class=\"icon"), "{row}");
    }
}

#[test]
fn every_state_and_kind_has_a_sentence_where_there_is_no_message() {
    let pending = [
        Reason::Starting,
        Reason::DryRun,
        Reason::Changing,
        Reason::Conflict,
        Reason::Proving,
        Reason::EmptyConfiguration,
        Reason::Applying,
        Reason::Reloading,
        Reason::ReloadInterval,
    ];
    let mut told: Vec<&str> = pending
        .into_iter()
        .map(|reason| advice::sentence(&standing_at(State::Pending, Some(reason)), true))
        .collect();
    told.extend(
        State::ALL
            .into_iter()
            .filter(|state| *state != State::Pending)
            .map(|state| advice::sentence(&standing_at(state, None), true)),
    );
    let distinct: std::collections::BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(distinct.len(), pending.len() + State::ALL.len() - 1, "{told:#?}");
    for kind in Kind::ALL {
        for is_proven in [true, false] {
            let binding = BindingStatus { kind, ..in_sync() };
            assert!(!advice::sentence(&binding, is_proven).is_empty());
            let is_said = advice::sentence(&binding, is_proven).contains("handshakes show");
            assert_eq!(is_said, kind == Kind::Certificate && is_proven, "{kind}");
        }
    }
    // A message says more.
    let message = Some("no route to kong".to_owned());
    let binding = BindingStatus { message, ..standing_at(State::Unreachable, None) };
    let page = render(&status([("a", binding)]), NOW, ALL);
    assert!(page.contains("no route to kong") && !page.contains("check Kong and ADMIN__URL"));
}

#[test]
fn an_end_is_told_in_words_beside_its_bar() {
    let overdue = BindingStatus {
        file: Some(Shown { not_after: Timestamp(NOW.0 + 86_400 * 9), ..shown("A") }.into()),
        kong: Some(Shown { not_after: Timestamp(NOW.0 - 86_400 * 2 - 9), ..shown("B") }.into()),
        served: Some(shown("B").into()),
        renew_at: Some(Timestamp(NOW.0 - 86_400)),
        ..in_sync()
    };
    let page = render(&status([("a", overdue)]), NOW, ALL);
    for told in [
        ">9 days left<",
        ">2026-12-01</time> UTC",
        ">renewal overdue since <time datetime=\"2026-11-21T05:11:20Z\">2026-11-21<",
        ">expired 2 days ago<",
        ">same as kong<",
        ">AA:AA:AA:AA:AA:AA:AA:AA<",
        ">BB:BB:BB:BB:BB:BB:BB:BB<",
    ] {
        assert!(page.contains(told), "{told} in {page}");
    }
    assert_eq!(page.matches("<svg class=\"bar late\"").count(), 2);
    // Not where nothing differs: there it would be the same twice more.
    let page = render(&status([("a", in_sync())]), NOW, ALL);
    assert_eq!(page.matches("<svg class=\"bar\"").count(), 1);
    assert_eq!(page.matches(">same as file<").count(), 2);
    assert!(
        page.contains(">renewal due <time datetime=\"2027-01-01T05:11:20Z\">2027-01-01<"),
        "{page}"
    );
}

#[test]
fn trouble_comes_first_and_then_what_is_odd() {
    let odd = BindingStatus { warnings: vec!["the chain is odd".into()], ..in_sync() };
    let bindings = [
        ("a-good", in_sync()),
        ("b-odd", odd),
        ("c-pending", standing_at(State::Pending, Some(Reason::Starting))),
        ("d-not-served", standing_at(State::NotServed, Some(Reason::OtherCertificate))),
        ("e-invalid", standing_at(State::Invalid, None)),
        ("f-good", in_sync()),
    ];
    let page = render(&status(bindings), NOW, ALL);
    let order: Vec<&str> = page
        .split("<span class=\"name\">")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap())
        .collect();
    assert_eq!(order, ["d-not-served", "e-invalid", "c-pending", "b-odd", "a-good", "f-good"]);
}

#[test]
fn the_states_are_counted_and_one_can_be_looked_at_alone() {
    let held = standing_at(State::Held, Some(Reason::BrokenBeside));
    let status = status([("a", in_sync()), ("b", in_sync()), ("c", held)]);
    let page = render(&status, NOW, ALL);
    for count in ["All <b>3</b>", "Held <b>1</b>", "In sync <b>2</b>"] {
        assert!(page.contains(count), "{count} in {page}");
    }
    assert!(page.contains("<a href=\"/?state=held\">"));
    let only = View::of_query(Some("state=held&refresh=off"));
    let page = render(&status, NOW, only);
    assert_eq!(page.matches("<th scope=\"row\"").count(), 1);
    assert!(page.contains("<a href=\"/?state=held&amp;refresh=off\" aria-current=\"true\">"));
    assert!(page.contains("<a href=\"/?state=held\">Refresh by itself</a>"));
    assert!(page.contains("<a href=\"/?refresh=off\">"), "all of them");
}

#[test]
fn where_a_state_has_none_left_it_is_told() {
    let status = status([("a", in_sync())]);
    let page = render(&status, NOW, View::of_query(Some("state=not_served")));
    assert!(page.contains("<caption>Bindings that are not served: none</caption>"), "{page}");
    assert!(page.contains("Not served <b>0</b>"), "{page}");
}

/// A browser forgets what a table is when style makes blocks of it, unless it is told.
#[test]
fn every_part_of_the_table_says_what_it_is() {
    let page = render(&status([("a", in_sync())]), NOW, ALL);
    for (part, roles) in [
        ("<table", &["table"][..]),
        ("<thead", &["rowgroup"]),
        ("<tbody", &["rowgroup"]),
        ("<tr", &["row"]),
        ("<th ", &["columnheader", "rowheader"]),
        ("<td", &["cell"]),
    ] {
        for found in page.split(part).skip(1) {
            let tag = found.split('>').next().unwrap();
            let is_told = roles.iter().any(|role| tag.contains(&format!("role=\"{role}\"")));
            assert!(is_told, "{part}{tag}");
        }
    }
}

#[test]
fn the_query_says_how_the_reader_wants_it() {
    let view = |refreshes, only| View { refreshes, only };
    for (query, wanted) in [
        (None, view(true, None)),
        (Some(""), view(true, None)),
        (Some("refresh=off"), view(false, None)),
        (Some("refresh=on&x=y&&="), view(true, None)),
        (Some("state=not_served"), view(true, Some(State::NotServed))),
        (Some("state=%3Cscript%3E&refresh=off"), view(false, None)),
    ] {
        assert_eq!(View::of_query(query), wanted, "{query:?}");
        assert_eq!(View::of_query(wanted.address().strip_prefix("/?")), wanted);
    }
}

#[test]
fn what_is_around_is_told() {
    let mut status = status([("a", in_sync())]);
    let page = render(&status, NOW, ALL);
    assert!(page.contains("not known yet") && !page.contains("DRY_RUN"));
    status.dry_run = true;
    status.polling = Some("no watches are left".into());
    status.kong.mode = Some("dbless");
    status.kong.version = Some("3.9.1".into());
    status.kong.unproven = Some("PROXY__ADDRESS is empty".into());
    status.findings = ["the Admin API answers at 8444".to_owned()].into();
    let page = render(&status, NOW, ALL);
    for told in [
        "nothing is written to Kong (DRY_RUN)",
        "found by polling alone: no watches are left",
        "3.9.1, without a database",
        "none, no handshakes are made: PROXY__ADDRESS is empty",
        "the Admin API answers at 8444",
        "instance <strong>default</strong>",
    ] {
        assert!(page.contains(told), "{told} in {page}");
    }
}

#[test]
fn where_nothing_is_found_it_is_told_what_to_do() {
    let page = render(&status([]), NOW, ALL);
    assert!(page.contains("CERT_RELOADER__CERTS_DIR") && !page.contains("<table"));
}

#[test]
fn many_names_stay_out_of_the_way() {
    let names = (0..90).map(|number| format!("n{number:02}.test")).collect();
    let file = Some(Shown { names, ..shown("A") }.into());
    let page = render(&status([("a", BindingStatus { file, ..in_sync() })]), NOW, ALL);
    let (first, rest) = page.split_once("<details>").unwrap();
    assert!(first.contains("n03.test") && !first.contains("n04.test"));
    assert!(rest.starts_with("<summary>86 more names</summary>") && rest.contains("n89.test"));
}

#[test]
fn a_thousand_bindings_are_a_page_that_is_soon_there() {
    let names: Vec<String> = (0..1000).map(|number| format!("web-{number}")).collect();
    let status = status(names.iter().map(|name| (&**name, in_sync())));
    let began = Instant::now();
    let page = render(&status, NOW, ALL);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(page.len() < 3_000_000, "{}", page.len());
}
