//! Nothing that is said of a Kong without a database holds what its configuration holds: that goes
//! through the sidecar as a whole, with the keys and credentials of others.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic")]

#[path = "secrecy/searcher.rs"]
mod searcher;

use std::fs;

use searcher::Searcher;
use serde_json::json;
use testkit::{
    Answer, CertifiedPair, Fault, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
const CREDENTIAL: &str = "cr3dential-of-a-consumer-0123456789-zyxwvutsrq";

async fn pages(sidecar: &SidecarProcess) -> Vec<String> {
    let mut said = Vec::new();
    for path in ["/", "/status", "/metrics", "/readyz"] {
        said.push(sidecar.page(path).await.1);
    }
    said
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    assert!(volume.publish_pair(pair));
}

/// A configuration with the key and credential of others.
fn configuration(others: &CertifiedPair, host: &str) -> String {
    json!({
        "_format_version": "3.0",
        "services": [{ "name": "echo", "host": host }],
        "consumers": [{ "username": "ann", "keyauth_credentials": [{ "key": CREDENTIAL }] }],
        "certificates": [{
            "id": "11111111-1111-4111-8111-111111111111", "cert": others.chain_pem(),
            "key": others.key_pem(), "snis": [{ "name": "others.test" }],
        }],
    })
    .to_string()
}

#[tokio::test]
async fn nothing_of_a_whole_configuration_is_said() {
    let (pki, kong) = (Pki::new(), KongStandIn::start().await);
    kong.model().dbless(true);
    let mut searcher = Searcher::default();
    searcher.add_text("a credential", CREDENTIAL);
    let mut issue = |name: &str| {
        let pair = pki.pair(&[name]);
        for pem in pair.key().pem_encodings() {
            searcher.add_pem(&format!("a key of {name}"), &pem);
        }
        pair
    };
    let (others, first, second) = (issue("others.test"), issue("a.test"), issue("a.test"));
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("kong.yaml");
    let certs = home.path().join("certs");
    fs::write(&file, configuration(&others, "10.0.0.1")).unwrap();
    let volume = SecretVolume::mount(certs.join("web"));
    publish(&volume, &first);
    let url = kong.admin_url();
    let settings = [
        ("LOG__LEVEL", "trace"),
        ("LOG__FORMAT", "json"),
        ("DEBOUNCE", "10ms"),
        ("POLL_INTERVAL", "200ms"),
        ("RESYNC_INTERVAL", "300ms"),
        ("DECLARATIVE__POLL", "100ms"),
        ("ADMIN__TIMEOUT", "1s"),
        ("ADMIN__URL", &*url),
        ("CERTS_DIR", certs.to_str().unwrap()),
        ("DECLARATIVE__FILE", file.to_str().unwrap()),
    ];
    let mut sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    sidecar.until_state("web", "in_sync").await;
    let mut said = pages(&sidecar).await;
    // Files that are none, with all that they hold.
    let whole = configuration(&others, "10.0.0.1");
    for broken in [
        whole.replace("\"3.0\"", "3.0"),
        whole.replace("\"_format_version\"", "\"x\": \"-----BEGIN\", \"_format"),
        format!("{whole}}}"),
        format!("a: b: {CREDENTIAL}\n{}", others.key_pem()),
        format!("_format_version: '3.0'\nx: !{CREDENTIAL} y\n"),
        format!("_format_version: '3.0'\n{CREDENTIAL}: 1\n{CREDENTIAL}: 2\n"),
    ] {
        fs::write(&file, &broken).unwrap();
        sidecar.until_state("declarative_file", "invalid").await;
        said.extend(pages(&sidecar).await);
    }
    // What Kong refuses, with words that echo it.
    fs::write(&file, configuration(&others, CREDENTIAL)).unwrap();
    let echo = json!({
        "message": format!("declarative config is invalid: {CREDENTIAL} {}", others.key_pem()),
        "fields": { "services": [{ "host": format!("bad {}", others.key_pem()) }] },
        "flattened_errors": [{
            "entity_type": "service", "entity_name": "echo", "entity": { "host": CREDENTIAL },
            "errors": [{ "field": "host", "message": format!("bad {}", others.key_pem()) }],
        }],
    });
    kong.inject(Fault::instead(Answer::json(400, &echo)).only("POST").always());
    sidecar.until_state("declarative_file", "refused").await;
    said.extend(pages(&sidecar).await);
    publish(&volume, &second);
    sidecar.until_state("web", "refused").await;
    said.extend(pages(&sidecar).await);
    kong.clear_faults();
    for (status, state) in [(413, "refused"), (500, "unreachable"), (504, "pending")] {
        let body = json!({ "message": CREDENTIAL, "config": CREDENTIAL });
        kong.inject(Fault::instead(Answer::json(status, &body)).only("POST").always());
        publish(&volume, &issue_again(&pki, &mut searcher));
        sidecar.until_state("web", state).await;
        said.extend(pages(&sidecar).await);
        kong.clear_faults();
    }
    // What it runs, and cannot be read.
    let config = format!("{whole}\n{CREDENTIAL}: [");
    kong.inject(
        Fault::instead(Answer::json(200, &json!({ "config": config }))).only("GET").always(),
    );
    sidecar.until_state("web", "unreachable").await;
    said.extend(pages(&sidecar).await);
    kong.clear_faults();
    assert!(sidecar.terminate().await.success());
    said.extend(sidecar.lines());
    searcher.assert_finds_nothing(&said.join("\n"));
    let export = kong.model().answer(&Request::new("GET", "/config")).value();
    assert!(searcher.finds(export["config"].as_str().unwrap()).is_some());
}

fn issue_again(pki: &Pki, searcher: &mut Searcher) -> CertifiedPair {
    let pair = pki.pair(&["a.test"]);
    searcher.add_pem("a key of a renewal", &pair.key_pem());
    pair
}
