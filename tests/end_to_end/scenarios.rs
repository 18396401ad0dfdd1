//! What the program does beside a Kong, as far as any Kong can be asked. The same scenarios run
//! against the stand-in and against a real one.

use rustls::SignatureScheme;
use serde_json::{Value, json};
use testkit::{
    Authority, CertifiedPair, KeyKind, Request, SecretVolume, SidecarProcess, TlsClient, pem_block,
};

use crate::stage::{Stage, compared_again, in_sync_with, metric, publish, publish_files};
use crate::target::until;

/// Hands each scenario to `$test`, which makes a test of it. One that is not in this list is dead
/// code to the compiler.
macro_rules! for_each_scenario {
    ($test:ident) => {
        $test!(a_first_certificate_is_created_and_its_whole_chain_is_served);
        $test!(a_renewal_is_served_and_told);
        $test!(a_mismatched_pair_is_not_pushed_and_the_former_stays_served);
        $test!(a_chain_with_a_broken_second_block_is_not_pushed);
        $test!(a_renewed_intermediate_alone_is_served);
        $test!(a_pair_that_was_reencoded_is_not_written);
        $test!(both_pairs_are_served_to_whom_they_suit);
        $test!(a_wildcard_is_served_for_any_label);
        $test!(names_gained_and_lost_follow_and_those_made_by_hand_stay);
        $test!(what_others_added_to_our_object_survives_a_renewal);
        $test!(an_object_of_someone_else_is_adopted_and_nothing_else_of_it_is_touched);
        $test!(an_object_that_would_lose_names_is_refused);
        $test!(an_object_of_another_controller_is_refused);
        $test!(names_are_moved_only_where_that_is_asked_for);
        $test!(what_was_deleted_is_made_again);
        $test!(a_rollback_of_the_files_is_served);
        $test!(a_restart_writes_nothing);
        $test!(two_replicas_meet_in_one_object);
        $test!(what_is_created_under_an_id_replaces_nothing);
        $test!(an_announcement_changes_nothing_but_the_time);
        $test!(each_ca_certificate_of_a_file_is_an_object_with_its_id_told);
        $test!(a_ca_certificate_with_an_id_is_replaced_in_place);
        $test!(a_ca_certificate_of_someone_else_is_used_as_it_is);
        $test!(a_ca_certificate_of_someone_else_at_the_id_is_replaced_and_nothing_else_of_it);
    };
}
pub(crate) use for_each_scenario;

/// Often enough for a test, and no burden for a Kong.
const RESYNC: (&str, &str) = ("RESYNC_INTERVAL", "500ms");
/// A time that no clock of a test shows.
const ONCE: i64 = 1_700_000_000;

// --- files to handshakes -------------------------------------------------------------------------

pub(crate) async fn a_first_certificate_is_created_and_its_whole_chain_is_served(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let ca = stage.pki.intermediate("Issuing CA");
    let first = stage.leaf(&["a", "b"]).issuer(&ca).issue();
    assert_eq!(first.chain_ders().len(), 2);
    publish(&pod.volume("web"), &first);
    let sidecar = pod.sidecar(&[]).await;
    let shown = sidecar.until("web", in_sync_with(&first)).await;
    kong.serves("a", first.chain_ders()).await;
    kong.serves("b", first.chain_ders()).await;
    let object = kong.object("a").await;
    assert_eq!(object["tags"], json!([kong.own_tag()]));
    assert_eq!(object["snis"], kong.names(&["a", "b"]));
    let told = json!({"id": object["id"], "adopted": false, "snis": object["snis"]});
    assert_eq!(shown["objects"], json!([told]));
}

pub(crate) async fn a_renewal_is_served_and_told(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let first = stage.pair(&["a"]);
    publish(&volume, &first);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    kong.serves("a", first.chain_ders()).await;
    let id = kong.object("a").await["id"].clone();
    for _ in 0..3 {
        let renewed = stage.pair(&["a"]);
        publish(&volume, &renewed);
        sidecar.until("web", in_sync_with(&renewed)).await;
        kong.serves("a", renewed.chain_ders()).await;
    }
    assert_eq!(kong.object("a").await["id"], id);
}

pub(crate) async fn a_mismatched_pair_is_not_pushed_and_the_former_stays_served(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let good = stage.pair(&["a"]);
    publish(&volume, &good);
    let sidecar = pod.sidecar(&[RESYNC]).await;
    sidecar.until("web", in_sync_with(&good)).await;
    let remarked = stage.remark_on("a").await;
    publish_files(&volume, &stage.pair(&["a"]).chain_pem(), &stage.pair(&["a"]).key_pem());
    let shown = sidecar.until_state("web", "invalid").await;
    assert_eq!(shown["reason"], "key_mismatch");
    compared_again(&sidecar).await;
    assert_eq!(kong.object("a").await, remarked);
    kong.serves("a", good.chain_ders()).await;
    let next = stage.pair(&["a"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
    kong.serves("a", next.chain_ders()).await;
}

/// Kong answers 200 to it, and then fails every handshake (measured).
pub(crate) async fn a_chain_with_a_broken_second_block_is_not_pushed(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let ca = stage.pki.intermediate("Issuing CA");
    let good = stage.leaf(&["a"]).issuer(&ca).issue();
    publish(&volume, &good);
    let sidecar = pod.sidecar(&[RESYNC]).await;
    sidecar.until("web", in_sync_with(&good)).await;
    let remarked = stage.remark_on("a").await;
    let next = stage.leaf(&["a"]).issuer(&ca).issue();
    let broken = pem_block("CERTIFICATE", &ca.der()[..ca.der().len() / 2]);
    publish_files(&volume, &(next.leaf_pem() + &broken), &next.key_pem());
    let shown = sidecar.until_state("web", "invalid").await;
    assert_eq!(shown["reason"], "bad_certificate");
    compared_again(&sidecar).await;
    assert_eq!(kong.object("a").await, remarked);
    kong.serves("a", good.chain_ders()).await;
}

pub(crate) async fn a_renewed_intermediate_alone_is_served(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let ca = stage.pki.intermediate("Issuing CA");
    let leaf = stage.leaf(&["a"]).issuer(&ca).issue();
    publish(&volume, &leaf);
    let sidecar = pod.sidecar(&[]).await;
    let former = sidecar.until("web", in_sync_with(&leaf)).await;
    let reissued = ca.reissued();
    publish_files(&volume, &(leaf.leaf_pem() + &reissued.pem()), &leaf.key_pem());
    kong.serves("a", &[leaf.leaf_der().to_vec(), reissued.der().to_vec()]).await;
    let is_proven =
        |shown: &Value| in_sync_with(&leaf)(shown) && shown["served"] != former["served"];
    sidecar.until("web", is_proven).await;
}

pub(crate) async fn a_pair_that_was_reencoded_is_not_written(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let pair = stage.leaf(&["a"]).kind(KeyKind::Rsa2048).issue();
    publish(&volume, &pair);
    let sidecar = pod.sidecar(&[RESYNC]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    let remarked = stage.remark_on("a").await;
    let cert = format!("a comment\r\n{}", pair.chain_pem().replace('\n', "\r\n"));
    publish_files(&volume, &cert, &pair.key().pkcs1_pem().unwrap());
    compared_again(&sidecar).await;
    assert_eq!(kong.object("a").await, remarked);
    assert_eq!(writes(&sidecar).await, 1);
    sidecar.until("web", in_sync_with(&pair)).await;
}

/// How often `sidecar` wrote to Kong, as it tells.
async fn writes(sidecar: &SidecarProcess) -> u64 {
    let outcome = |outcome| format!("pushes_total{{binding=\"web\",outcome=\"{outcome}\"}}");
    let mut all = 0;
    for word in ["applied", "refused", "failed"] {
        all += metric(sidecar, &outcome(word)).await;
    }
    all
}

pub(crate) async fn both_pairs_are_served_to_whom_they_suit(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let both = |rsa: &CertifiedPair, second: &CertifiedPair| {
        let files = [rsa.chain_pem(), rsa.key_pem(), second.chain_pem(), second.key_pem()];
        let names = ["tls.crt", "tls.key", "second.crt", "second.key"];
        let files: Vec<_> = names.into_iter().zip(files.iter().map(String::as_bytes)).collect();
        volume.publish(&files);
    };
    let settings = [
        ("CERTIFICATES__WEB__CERT_ALT", "second.crt"),
        ("CERTIFICATES__WEB__KEY_ALT", "second.key"),
        RESYNC,
    ];
    let rsa = || stage.leaf(&["a"]).kind(KeyKind::Rsa2048).issue();
    let (first, second) = (rsa(), stage.pair(&["a"]));
    both(&first, &second);
    let sidecar = pod.sidecar(&settings).await;
    serves_both(stage, &first, &second).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let (first, second) = (rsa(), stage.pair(&["a"]));
    both(&first, &second);
    serves_both(stage, &first, &second).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let before = kong.object("a").await;
    assert!(before["cert_alt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    both(&rsa(), &rsa());
    assert_eq!(sidecar.until_state("web", "invalid").await["reason"], "alt_same_type");
    compared_again(&sidecar).await;
    assert_eq!((kong.object("a").await, writes(&sidecar).await), (before, 2));
}

async fn serves_both(stage: &Stage, rsa: &CertifiedPair, ec: &CertifiedPair) {
    for (scheme, pair) in
        [(SignatureScheme::RSA_PSS_SHA256, rsa), (SignatureScheme::ECDSA_NISTP256_SHA256, ec)]
    {
        let client = TlsClient::new().schemes(&[scheme]);
        stage.kong.serves_to(&client, "a", pair.chain_ders()).await;
    }
}

// --- names ---------------------------------------------------------------------------------------

pub(crate) async fn a_wildcard_is_served_for_any_label(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pair = stage.pair(&["*.b"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    for _ in 0..2 {
        kong.serves(&format!("random-{:x}.b", fastrand::u64(..)), pair.chain_ders()).await;
    }
    kong.no_longer_serves("b", pair.leaf_der()).await;
}

pub(crate) async fn names_gained_and_lost_follow_and_those_made_by_hand_stay(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let first = stage.pair(&["a", "b"]);
    publish(&volume, &first);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let certificate = json!({"id": kong.object("a").await["id"]});
    let by_hand =
        json!({"name": kong.name("hand"), "certificate": certificate, "tags": ["by-hand"]});
    kong.send("POST", "/snis", &by_hand).await;
    kong.send("PATCH", &format!("/snis/{}", kong.name("b")), &json!({"tags": ["noted"]})).await;
    let before = (kong.sni("b").await.unwrap(), kong.sni("hand").await.unwrap());
    let next = stage.pair(&["b", "c"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
    assert_eq!(kong.object("b").await["snis"], kong.names(&["b", "c", "hand"]));
    for name in ["b", "c", "hand"] {
        kong.serves(name, next.chain_ders()).await;
    }
    assert_eq!(kong.sni("a").await, None);
    kong.no_longer_serves("a", first.leaf_der()).await;
    kong.no_longer_serves("a", next.leaf_der()).await;
    let after = (kong.sni("b").await.unwrap(), kong.sni("hand").await.unwrap());
    for field in ["id", "tags", "created_at", "certificate"] {
        assert_eq!(after.0[field], before.0[field], "{field}");
        assert_eq!(after.1[field], before.1[field], "{field}");
    }
}

pub(crate) async fn what_others_added_to_our_object_survives_a_renewal(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let first = stage.pair(&["a"]);
    publish(&volume, &first);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let mut object = kong.object("a").await;
    let path = format!("/certificates/{}", object["id"].as_str().unwrap());
    object["created_at"] = json!(ONCE);
    object["tags"] = json!([kong.own_tag(), "team:edge"]);
    let before = kong.send("PUT", &path, &object).await;
    assert_eq!(before["created_at"], ONCE);
    let renewed = stage.pair(&["a"]);
    publish(&volume, &renewed);
    sidecar.until("web", in_sync_with(&renewed)).await;
    kong.serves("a", renewed.chain_ders()).await;
    assert_eq!(but_for(kong.object("a").await, &RENEWED), but_for(before, &RENEWED));
}

/// The fields that a renewal changes.
const RENEWED: [&str; 3] = ["cert", "key", "updated_at"];

fn but_for(mut object: Value, fields: &[&str]) -> Value {
    object.as_object_mut().unwrap().retain(|field, _| !fields.contains(&field.as_str()));
    object
}

// --- objects of others ---------------------------------------------------------------------------

pub(crate) async fn an_object_of_someone_else_is_adopted_and_nothing_else_of_it_is_touched(
    stage: &Stage,
) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let theirs = stage.pair(&["a"]);
    let snis = kong.names(&["a", "hand"]);
    let more = json!({"snis": snis, "tags": ["team:edge", "zone:1"], "created_at": ONCE});
    let before = kong.make(&theirs, &more).await;
    kong.serves("a", theirs.chain_ders()).await;
    kong.send("PATCH", &format!("/snis/{}", kong.name("a")), &json!({"tags": ["noted"]})).await;
    let snis_before = (kong.sni("a").await, kong.sni("hand").await);
    let volume = pod.volume("web");
    let mut renewed = stage.pair(&["a"]);
    publish(&volume, &renewed);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&renewed)).await;
    renewed = stage.pair(&["a"]);
    publish(&volume, &renewed);
    let shown = sidecar.until("web", in_sync_with(&renewed)).await;
    assert_eq!(shown["objects"], json!([{"id": before["id"], "adopted": true, "snis": snis}]));
    kong.serves("a", renewed.chain_ders()).await;
    kong.serves("hand", renewed.chain_ders()).await;
    assert_eq!(but_for(kong.object("a").await, &RENEWED), but_for(before, &RENEWED));
    assert_eq!((kong.sni("a").await, kong.sni("hand").await), snis_before);
}

pub(crate) async fn an_object_that_would_lose_names_is_refused(stage: &Stage) {
    let theirs = stage.pair(&["a", "x"]);
    let more = json!({"snis": stage.kong.names(&["a", "x"])});
    is_refused(stage, &theirs, &more, "names_uncovered").await;
}

pub(crate) async fn an_object_of_another_controller_is_refused(stage: &Stage) {
    let theirs = stage.pair(&["a"]);
    let tags = json!(["k8s-name:web", "managed-by-ingress-controller"]);
    let more = json!({"snis": stage.kong.names(&["a"]), "tags": tags});
    is_refused(stage, &theirs, &more, "other_controller").await;
}

/// Someone has a certificate for the name `a`; a newer one for `a` and `b` is mounted.
async fn is_refused(stage: &Stage, theirs: &CertifiedPair, more: &Value, reason: &str) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let before = kong.make(theirs, more).await;
    publish(&pod.volume("web"), &stage.pair(&["a", "b"]));
    let sidecar = pod.sidecar(&[RESYNC]).await;
    let shown = sidecar.until_state("web", "refused").await;
    assert_eq!(shown["reason"], reason);
    assert!(shown["message"].as_str().unwrap().contains(before["id"].as_str().unwrap()));
    compared_again(&sidecar).await;
    assert_eq!(kong.object("a").await, before);
    assert_eq!((kong.sni("b").await, writes(&sidecar).await), (None, 0));
    kong.serves("a", theirs.chain_ders()).await;
}

pub(crate) async fn names_are_moved_only_where_that_is_asked_for(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let theirs = stage.pair(&["a", "x"]);
    kong.make(&theirs, &json!({"snis": kong.names(&["a", "x"])})).await;
    let pair = stage.pair(&["a", "b"]);
    publish(&pod.volume("web"), &pair);
    let mut sidecar = pod.sidecar(&[]).await;
    assert_eq!(sidecar.until_state("web", "refused").await["reason"], "names_uncovered");
    assert!(sidecar.terminate().await.success());
    let moved = kong.sni("a").await.unwrap()["id"].clone();
    let sidecar = pod.sidecar(&[("CERTIFICATES__WEB__TAKE_SNIS", "true")]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    kong.serves("a", pair.chain_ders()).await;
    kong.serves("b", pair.chain_ders()).await;
    kong.serves("x", theirs.chain_ders()).await;
    assert_eq!(kong.object("x").await["snis"], kong.names(&["x"]));
    assert_eq!(kong.sni("a").await.unwrap()["id"], moved);
}

// --- again and again -----------------------------------------------------------------------------

pub(crate) async fn what_was_deleted_is_made_again(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[RESYNC]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    let id = kong.object("a").await["id"].clone();
    let path = format!("/certificates/{}", id.as_str().unwrap());
    let deleted = kong.ask(&Request::new("DELETE", &path)).await;
    assert_eq!(deleted.status, 204);
    let found = until("the certificate is there again", async || {
        let object = kong.look(&path).await?;
        (object["snis"] == kong.names(&["a"])).then_some(object)
    });
    assert_eq!(found.await["tags"], json!([kong.own_tag()]));
    kong.serves("a", pair.chain_ders()).await;
    sidecar.until("web", in_sync_with(&pair)).await;
}

pub(crate) async fn a_rollback_of_the_files_is_served(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let (older, newer) = (stage.pair(&["a"]), stage.pair(&["a"]));
    publish(&volume, &older);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&older)).await;
    for pair in [&newer, &older] {
        publish(&volume, pair);
        sidecar.until("web", in_sync_with(pair)).await;
        kong.serves("a", pair.chain_ders()).await;
    }
}

pub(crate) async fn a_restart_writes_nothing(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pair = stage.pair(&["a", "*.b"]);
    publish(&pod.volume("web"), &pair);
    let mut sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    let remarked = stage.remark_on("a").await;
    assert!(sidecar.terminate().await.success());
    let sidecar = pod.sidecar(&[RESYNC]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    compared_again(&sidecar).await;
    assert_eq!((kong.object("a").await, writes(&sidecar).await), (remarked, 0));
}

pub(crate) async fn two_replicas_meet_in_one_object(stage: &Stage) {
    let pods = [stage.pod(), stage.pod()];
    let volumes = pods.each_ref().map(|pod| pod.volume("web"));
    let first = stage.pair(&["a", "b"]);
    volumes.iter().for_each(|volume| publish(volume, &first));
    let (one, other) = tokio::join!(pods[0].sidecar(&[RESYNC]), pods[1].sidecar(&[RESYNC]));
    let id = is_one_object(stage, [&one, &other], &first).await;
    let renewed = stage.pair(&["a", "b"]);
    volumes.iter().for_each(|volume| publish(volume, &renewed));
    assert_eq!(is_one_object(stage, [&one, &other], &renewed).await, id);
}

/// Both replicas rest with one object, which has this pair. Returns its id.
async fn is_one_object(
    stage: &Stage,
    replicas: [&SidecarProcess; 2],
    pair: &CertifiedPair,
) -> Value {
    let kong = &stage.kong;
    for replica in replicas {
        replica.until("web", in_sync_with(pair)).await;
    }
    kong.serves("a", pair.chain_ders()).await;
    kong.serves("b", pair.chain_ders()).await;
    let remarked = stage.remark_on("a").await;
    for replica in replicas {
        compared_again(replica).await;
    }
    assert_eq!(kong.of_the_run("certificates").await, std::slice::from_ref(&remarked));
    remarked["id"].clone()
}

/// What a cold start with many certificates rests on; no answer of Kong to it was recorded.
pub(crate) async fn what_is_created_under_an_id_replaces_nothing(stage: &Stage) {
    let kong = &stage.kong;
    let (id, first, second) = (kong.new_id(), stage.pair(&["a"]), stage.pair(&["a"]));
    let body = |pair: &CertifiedPair, labels: &[&str]| {
        let snis = kong.names(labels);
        json!({"id": id, "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": snis})
    };
    let created = kong.send("POST", "/certificates", &body(&first, &["a"])).await;
    assert_eq!((&created["id"], &created["snis"]), (&json!(id), &kong.names(&["a"])));
    for (labels, name) in [
        (&["a"][..], "schema violation"),
        (&["b"], "primary key violation"),
        (&[], "primary key violation"),
    ] {
        let again = Request::json("POST", "/certificates", &body(&second, labels));
        let refused = kong.ask(&again).await.value();
        assert_eq!(refused["name"], name, "{labels:?}");
    }
    assert_eq!(kong.object("a").await, created);
    assert_eq!(kong.sni("b").await, None);
}

/// What a sidecar does where a node did not hear of a change.
pub(crate) async fn an_announcement_changes_nothing_but_the_time(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let rsa = stage.leaf(&["a"]).kind(KeyKind::Rsa2048).issue();
    publish(&volume, &rsa);
    let sidecar = pod.sidecar(&[]).await;
    sidecar.until("web", in_sync_with(&rsa)).await;
    let (object, sni) = (kong.object("a").await, kong.sni("a").await.unwrap());
    let certificate = format!("/certificates/{}", object["id"].as_str().unwrap());
    let of_the_name = json!({"certificate": {"id": object["id"]}});
    // The clock of a Kong knows seconds.
    until("a second goes by", async || {
        let now = kong.send("PATCH", &certificate, &json!({})).await;
        (now["updated_at"] != object["updated_at"]).then_some(())
    })
    .await;
    kong.send("PATCH", &format!("/snis/{}", kong.name("a")), &of_the_name).await;
    let time = ["updated_at"];
    assert_eq!(but_for(kong.object("a").await, &time), but_for(object, &time));
    assert_eq!(but_for(kong.sni("a").await.unwrap(), &time), but_for(sni, &time));
    kong.serves("a", rsa.chain_ders()).await;
}

// --- CA certificates -----------------------------------------------------------------------------

/// What leads a sidecar to the CA certificates of a volume.
fn authorities_in(volume: &SecretVolume) -> String {
    volume.root().join("ca.crt").to_str().unwrap().to_owned()
}

fn publish_authorities(volume: &SecretVolume, authorities: &[&Authority]) {
    let text: String = authorities.iter().map(|authority| authority.pem()).collect();
    assert!(volume.publish(&[("ca.crt", text.as_bytes())]));
}

pub(crate) async fn each_ca_certificate_of_a_file_is_an_object_with_its_id_told(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("cas");
    let (one, two) = (stage.authority("one"), stage.authority("two"));
    publish_authorities(&volume, &[&one, &two]);
    let file = authorities_in(&volume);
    let sidecar = pod.sidecar(&[RESYNC, ("CA_CERTIFICATES__CAS__FILE", &file)]).await;
    let has_doubts = |shown: &Value| {
        shown["state"] == "in_sync"
            && shown["warnings"].to_string().contains("nothing in kong refers to 2 CA certificates")
    };
    let shown = sidecar.until("cas", has_doubts).await;
    for (place, authority) in [(0, &one), (1, &two)] {
        let object = kong.authority(authority).await.unwrap();
        assert_eq!(object["tags"], json!([kong.own_tag()]));
        let id = object["id"].as_str().unwrap();
        let told = shown["objects"].as_array().unwrap();
        assert!(told.iter().any(|told| told["id"] == id && told["adopted"] == false), "{place}");
        assert!(shown["warnings"].to_string().contains(id), "{place}");
        let is_told = |line: &String| line.contains("CA certificate created") && line.contains(id);
        assert!(sidecar.lines().iter().any(is_told), "{id}");
    }
    publish_authorities(&volume, &[&two]);
    sidecar
        .until("cas", |shown| shown["objects"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    compared_again(&sidecar).await;
    let object = kong.authority(&one).await.expect("nothing is deleted");
    let id = object["id"].as_str().unwrap();
    let is_warning = |line: &&String| line.contains("served with a warning") && line.contains(id);
    assert_eq!(sidecar.lines().iter().filter(is_warning).count(), 1, "it is told once");
}

pub(crate) async fn a_ca_certificate_with_an_id_is_replaced_in_place(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("cas");
    let (first, second) = (stage.authority("first"), stage.authority("second"));
    publish_authorities(&volume, &[&first]);
    let (file, id) = (authorities_in(&volume), kong.new_id());
    let settings = [("CA_CERTIFICATES__CA__FILE", &*file), ("CA_CERTIFICATES__CA__ID", &id)];
    let sidecar = pod.sidecar(&settings).await;
    sidecar.until_state("ca", "in_sync").await;
    assert_eq!(kong.authority(&first).await.unwrap()["id"], json!(id));
    let before = kong.authority(&first).await.unwrap();
    publish_authorities(&volume, &[&second]);
    let is_second = |shown: &Value| {
        let subject = shown["objects"][0]["subject"].as_str().unwrap_or_default();
        shown["state"] == "in_sync" && subject.contains("second")
    };
    sidecar.until("ca", is_second).await;
    let after = kong.authority(&second).await.unwrap();
    assert_eq!((&after["id"], &after["created_at"]), (&before["id"], &before["created_at"]));
    assert_eq!(kong.authority(&first).await, None);
}

pub(crate) async fn a_ca_certificate_of_someone_else_is_used_as_it_is(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("cas");
    let theirs = stage.authority("theirs");
    let id = kong.new_id();
    let body = json!({"cert": theirs.pem(), "tags": ["team:edge"]});
    let before = kong.send("PUT", &format!("/ca_certificates/{id}"), &body).await;
    publish_authorities(&volume, &[&theirs]);
    let file = authorities_in(&volume);
    let sidecar = pod.sidecar(&[RESYNC, ("CA_CERTIFICATES__CAS__FILE", &file)]).await;
    let shown = sidecar.until_state("cas", "in_sync").await;
    assert_eq!(
        (&shown["objects"][0]["id"], &shown["objects"][0]["adopted"]),
        (&json!(id), &json!(true))
    );
    compared_again(&sidecar).await;
    assert_eq!(kong.authority(&theirs).await, Some(before));
}

pub(crate) async fn a_ca_certificate_of_someone_else_at_the_id_is_replaced_and_nothing_else_of_it(
    stage: &Stage,
) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("cas");
    let (former, renewed) = (stage.authority("former"), stage.authority("renewed"));
    let id = kong.new_id();
    let body = json!({"cert": former.pem(), "tags": ["team:edge"]});
    let before = kong.send("PUT", &format!("/ca_certificates/{id}"), &body).await;
    publish_authorities(&volume, &[&former]);
    let file = authorities_in(&volume);
    let settings = [("CA_CERTIFICATES__CA__FILE", &*file), ("CA_CERTIFICATES__CA__ID", &id)];
    let sidecar = pod.sidecar(&settings).await;
    sidecar.until_state("ca", "in_sync").await;
    publish_authorities(&volume, &[&renewed]);
    let is_renewed = |shown: &Value| {
        let object = &shown["objects"][0];
        let subject = object["subject"].as_str().unwrap_or_default();
        let is_adopted = object["adopted"] == true;
        shown["state"] == "in_sync" && is_adopted && subject.contains("renewed")
    };
    sidecar.until("ca", is_renewed).await;
    let after = kong.authority(&renewed).await.unwrap();
    for field in ["id", "tags", "created_at"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(kong.authority(&former).await, None);
}
