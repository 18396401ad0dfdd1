//! CA certificates beside a Kong in memory, on a clock that the test holds.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/pod.rs"]
mod pod;

use std::collections::BTreeSet;
use std::time::Duration;

use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::settings::{AuthoritySettings, Settings};
use kong_cert_reloader::status::{BindingStatus, State};
use serde_json::{Value, json};
use testkit::{Authority, KeyKind, Pki, Request};
use tokio::time::sleep;
use uuid::Uuid;

use kong::{Fault, KongInProcess};
use pod::{Pod, START};

const TAG: &str = "managed-by:kong-cert-reloader:default";
/// Longer than it takes until Kong is compared again.
const RESYNC: Duration = Duration::from_secs(6 * 60);
/// Longer than it takes until it is looked up again what refers to CA certificates.
const LOOKUP: Duration = Duration::from_secs(67 * 60);
const HOUR: i64 = 3600;

fn root(name: &str) -> Authority {
    Authority::root(name, KeyKind::P256)
}

/// A CA that began so many hours ago.
fn begun(name: &str, hours: i64) -> Authority {
    let (from, until) = (START - hours * HOUR, START + 9000 * HOUR);
    Pki::new().root().intermediate_with(name, KeyKind::P256, from, until)
}

fn pem(authorities: &[&Authority]) -> String {
    authorities.iter().map(|authority| authority.pem()).collect()
}

/// The place of a certificate that the file of `binding` brings.
fn place(binding: &str, authority: &Authority) -> Uuid {
    let own = Own::new(&Instance::default(), None);
    own.authority(&binding.parse().unwrap(), LeafDigest::of(authority.der()))
}

fn path(id: Uuid) -> String {
    format!("/ca_certificates/{id}")
}

fn kong_of_today() -> KongInProcess {
    let kong = KongInProcess::new();
    kong.model().set_now(START);
    kong
}

/// A sidecar with these files of CA certificates, and what is configured for each besides.
struct Files<'a>(&'a [(&'a str, Option<Uuid>, &'a [&'a str])]);

impl Files<'_> {
    fn start(&self, pod: &mut Pod, kong: &KongInProcess) {
        self.start_with(pod, kong, |_| {});
    }

    fn start_with(&self, pod: &mut Pod, kong: &KongInProcess, more: impl FnOnce(&mut Settings)) {
        let one = |(name, id, tags): &(&str, Option<Uuid>, &[&str])| {
            let settings = AuthoritySettings {
                file: pod.directory(name).join("ca.crt"),
                id: *id,
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            };
            (name.parse().unwrap(), settings)
        };
        let authorities = self.0.iter().map(one).collect();
        pod.start_with(kong, |settings| {
            settings.authorities = authorities;
            more(settings);
        });
    }
}

/// A pod with this file of CA certificates, `clients`, and a sidecar beside `kong`.
fn pod_with(authorities: &[&Authority], id: Option<Uuid>, kong: &KongInProcess) -> Pod {
    let mut pod = Pod::new();
    pod.publish_file("clients", "ca.crt", &pem(authorities));
    Files(&[("clients", id, &[])]).start(&mut pod, kong);
    pod
}

async fn until_state(pod: &Pod, state: State) -> BindingStatus {
    pod.until_named("clients", |shown| shown.state == state).await
}

/// Every CA certificate in Kong; not counted.
fn held(kong: &KongInProcess) -> Vec<Value> {
    let list = Request::new("GET", "/ca_certificates?size=1000");
    let page = kong.model().elsewhere(|model| model.answer(&list)).value();
    page["data"].as_array().unwrap().clone()
}

fn held_at(kong: &KongInProcess, id: Uuid) -> Value {
    kong.model().elsewhere(|model| model.answer(&Request::new("GET", &path(id)))).value()
}

fn tags(object: &Value) -> BTreeSet<&str> {
    object["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().unwrap()).collect()
}

/// What another client writes.
fn put(kong: &KongInProcess, id: Uuid, authority: &Authority, tags: &[&str]) {
    let body = json!({"cert": authority.pem(), "tags": tags});
    kong.elsewhere(&Request::json("PUT", &path(id), &body));
}

fn delete(kong: &KongInProcess, id: Uuid) {
    kong.elsewhere(&Request::new("DELETE", &path(id)));
}

fn puts(kong: &KongInProcess) -> usize {
    kong.times_of("PUT").len() + kong.times_of("PATCH").len()
}

const fn numbered(number: u128) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1110 + number)
}

// --- a file of several ---------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_certificate_of_a_file_is_an_object_that_all_replicas_know_by_one_id() {
    let kong = kong_of_today();
    let cas = [root("One"), root("Two"), root("Three")];
    let all: Vec<&Authority> = cas.iter().collect();
    let pods = [pod_with(&all, None, &kong), pod_with(&all, None, &kong)];
    for pod in &pods {
        let shown = until_state(pod, State::InSync).await;
        let told: BTreeSet<_> = shown.objects.iter().map(|object| object.id).collect();
        assert_eq!(told, cas.iter().map(|ca| place("clients", ca)).collect());
        let subjects: BTreeSet<_> =
            shown.objects.iter().map(|object| object.subject.clone().unwrap()).collect();
        assert_eq!(subjects, ["CN=One", "CN=Two", "CN=Three"].map(str::to_owned).into());
        assert!(shown.objects.iter().all(|object| !object.adopted));
        assert_eq!(shown.kong.unwrap().fingerprint, shown.file.unwrap().fingerprint);
    }
    let objects = held(&kong);
    assert_eq!(objects.len(), 3);
    assert!(objects.iter().all(|object| tags(object) == [TAG].into()));
    let before = puts(&kong);
    assert!(before <= 6, "{before}");
    sleep(RESYNC * 3).await;
    assert_eq!(puts(&kong), before);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_added_to_a_file_is_created_and_the_rest_is_not_touched() {
    let kong = kong_of_today();
    let (one, two) = (root("One"), root("Two"));
    let pod = pod_with(&[&one], None, &kong);
    until_state(&pod, State::InSync).await;
    pod.publish_file("clients", "ca.crt", &pem(&[&one, &two]));
    pod.until_named("clients", |shown| shown.objects.len() == 2).await;
    assert_eq!((puts(&kong), held(&kong).len()), (2, 2));
    // Nothing is deleted: someone may refer to it.
    pod.publish_file("clients", "ca.crt", &pem(&[&two]));
    pod.until_named("clients", |shown| shown.objects.len() == 1).await;
    sleep(RESYNC).await;
    assert_eq!((puts(&kong), held(&kong).len()), (2, 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_kong_refuses_keeps_no_other_out_and_is_told_by_its_subject() {
    let kong = kong_of_today();
    let (one, bad, other) = (root("One"), root("Bad"), root("Other"));
    let place_of = |ca| place("clients", ca);
    let refusal = Fault::refusal(400, "schema violation (cert: not for me)");
    kong.inject(refusal.only("PUT").at(&path(place_of(&bad))).always());
    let pod = pod_with(&[&one, &bad, &other], None, &kong);
    let shown = until_state(&pod, State::Refused).await;
    assert_eq!(shown.reason.unwrap().as_str(), "by_kong");
    assert!(shown.message.unwrap().contains("CN=Bad: schema violation (cert: not for me)"));
    let told: BTreeSet<Uuid> =
        pod.binding("clients").objects.iter().map(|object| object.id).collect();
    assert_eq!(told, [place_of(&one), place_of(&other)].into());
    assert_eq!(pod.binding("clients").kong.unwrap().leaf_sha256.len(), 2);
    let before = puts(&kong);
    assert_eq!(before, 3);
    sleep(RESYNC).await;
    assert_eq!(puts(&kong), before, "it is not sent again");
    assert_eq!(pod.binding("clients").warnings.len(), 1, "{:?}", pod.binding("clients"));
    delete(&kong, place_of(&other));
    sleep(RESYNC).await;
    assert_eq!(held(&kong).len(), 2);
    assert_eq!(pod.binding("clients").state, State::Refused);
    kong.heal();
    pod.publish_file("clients", "ca.crt", &pem(&[&one, &other]));
    until_state(&pod, State::InSync).await;
}

/// How often the object of this CA was written.
fn puts_of(kong: &KongInProcess, authority: &Authority) -> usize {
    let path = path(place("clients", authority));
    kong.calls().iter().filter(|call| call.method == "PUT" && call.path == path).count()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_one_is_in_conflict_another_that_is_refused_is_told_and_not_sent_again() {
    let kong = kong_of_today();
    let (one, bad, rival) = (root("One"), root("Bad"), root("Rival"));
    let fails = |ca, status, says| {
        kong.inject(
            Fault::refusal(status, says).only("PUT").at(&path(place("clients", ca))).always(),
        );
    };
    fails(&bad, 400, "schema violation (cert: not for me)");
    fails(&rival, 409, "UNIQUE violation detected on '{cert_digest}'");
    let pod = pod_with(&[&one, &bad, &rival], None, &kong);
    let shown = until_state(&pod, State::Refused).await;
    assert_eq!(shown.reason.unwrap().as_str(), "by_kong");
    let told = shown.message.unwrap();
    for part in ["CN=Bad: schema violation (cert: not for me)", "CN=Rival", "another writer"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(shown.objects.len(), 1, "what Kong took is shown");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((puts_of(&kong, &one), puts_of(&kong, &bad)), (1, 1));
    // Each half a minute at last, once.
    let retried = puts_of(&kong, &rival);
    assert!((100..=260).contains(&retried), "{retried}");
    assert_eq!(pod.binding("clients").state, State::Refused);
    // The conflict ends by itself; the refused one is still not sent.
    kong.heal();
    pod.until_named("clients", |shown| shown.objects.len() == 2).await;
    assert_eq!((pod.binding("clients").state, puts_of(&kong, &bad)), (State::Refused, 1));
    assert!(!pod.binding("clients").message.unwrap().contains("CN=Rival"));
    // Another file is sent with all that is in it.
    pod.publish_file("clients", "ca.crt", &pem(&[&one, &bad]));
    until_state(&pod, State::InSync).await;
    assert_eq!(puts_of(&kong, &bad), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_kong_refuses_is_not_sent_again_while_it_fails_at_another() {
    let kong = kong_of_today();
    let (bad, broken) = (root("Bad"), root("Broken"));
    let at = |ca| path(place("clients", ca));
    kong.inject(Fault::refusal(400, "not for me").only("PUT").at(&at(&bad)).always());
    kong.inject(Fault::status(500).only("PUT").at(&at(&broken)).always());
    let pod = pod_with(&[&bad, &broken], None, &kong);
    until_state(&pod, State::Unreachable).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(puts_of(&kong, &bad), 1);
    kong.heal();
    let shown = until_state(&pod, State::Refused).await;
    assert!(shown.message.unwrap().contains("CN=Bad: not for me"));
    assert_eq!((puts_of(&kong, &bad), held(&kong).len()), (1, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn in_a_workspace_they_and_what_refers_to_them_are_called_beneath_its_name() {
    let kong = kong_of_today();
    kong.model().workspace("team-a");
    let one = root("One");
    let mut pod = Pod::new();
    pod.publish_file("clients", "ca.crt", &one.pem());
    Files(&[("clients", None, &[])]).start_with(&mut pod, &kong, |settings| {
        settings.admin.workspace = Some("team-a".parse().unwrap());
    });
    until_state(&pod, State::InSync).await;
    sleep(RESYNC).await;
    let calls = kong.calls_since(Duration::ZERO);
    let is_placed = |call: &String| {
        ["GET /", "GET /status"].contains(&call.as_str()) || call.contains(" /team-a/")
    };
    assert!(calls.iter().all(is_placed), "{calls:?}");
    for part in ["PUT /team-a/ca_certificates/", "GET /team-a/services?", "GET /team-a/plugins?"] {
        assert!(calls.iter().any(|call| call.starts_with(part)), "{part}: {calls:?}");
    }
    // Each workspace has objects of its own.
    let id = pod.binding("clients").objects[0].id;
    assert_ne!(id, place("clients", &one));
    assert_eq!(held_at(&kong, id)["cert"], one.pem());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_object_with_the_same_certificate_is_used_as_it_is() {
    let kong = kong_of_today();
    let (theirs, lacking) = (root("Theirs"), root("Lacking"));
    put(&kong, numbered(7), &theirs, &["managed-by-ingress-controller"]);
    let before = held_at(&kong, numbered(7));
    let mut pod = Pod::new();
    pod.publish_file("clients", "ca.crt", &pem(&[&theirs, &lacking]));
    Files(&[("clients", None, &["team:edge"])]).start(&mut pod, &kong);
    let shown = until_state(&pod, State::InSync).await;
    let adopted: BTreeSet<_> =
        shown.objects.iter().map(|object| (object.id, object.adopted)).collect();
    assert_eq!(adopted, [(numbered(7), true), (place("clients", &lacking), false)].into());
    sleep(RESYNC).await;
    assert_eq!(held_at(&kong, numbered(7)), before);
    assert_eq!(tags(&held_at(&kong, place("clients", &lacking))), [TAG, "team:edge"].into());
    // When they take it away, it is made again, as ours.
    delete(&kong, numbered(7));
    pod.until_named("clients", |shown| shown.objects.iter().all(|object| !object.adopted)).await;
    assert_eq!(held(&kong).len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn another_writer_with_the_same_certificate_that_is_faster_is_met() {
    let kong = kong_of_today();
    let (one, two) = (root("One"), root("Two"));
    let cert = one.pem();
    kong.model().before_next("PUT", "/ca_certificates/", move |model| {
        let body = json!({"cert": cert, "tags": ["theirs"]});
        let answer = model.answer(&Request::json("PUT", &path(numbered(3)), &body));
        assert_eq!(answer.status, 200);
    });
    let pod = pod_with(&[&one, &two], None, &kong);
    let shown = until_state(&pod, State::InSync).await;
    let told: BTreeSet<_> = shown.objects.iter().map(|object| object.id).collect();
    assert_eq!(told, [numbered(3), place("clients", &two)].into());
    assert_eq!(held(&kong).len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_expires_while_nothing_else_happens_is_told_at_the_next_comparison() {
    let kong = kong_of_today();
    let lasting = root("Lasting");
    let brief =
        Pki::new().root().intermediate_with("Brief", KeyKind::P256, START - 60, START + 2 * HOUR);
    let pod = pod_with(&[&lasting, &brief], None, &kong);
    let shown = until_state(&pod, State::InSync).await;
    assert_eq!(shown.file.unwrap().not_after.0, START + 2 * HOUR);
    sleep(Duration::from_secs(2 * 3600 + 1) + RESYNC).await;
    let shown = pod.binding("clients");
    assert_eq!((shown.state, shown.objects.len()), (State::InSync, 1));
    assert!(shown.warnings.iter().any(|told| told.contains("(CN=Brief) expired at")), "{shown:?}");
    assert!(shown.file.unwrap().not_after.0 > START + 3 * HOUR);
    assert_eq!((puts(&kong), held(&kong).len()), (2, 2), "nothing is deleted");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_deleted_is_made_again_and_from_the_third_time_on_once_a_minute() {
    let kong = kong_of_today();
    let (one, two) = (root("One"), root("Two"));
    let pod = pod_with(&[&one, &two], None, &kong);
    until_state(&pod, State::InSync).await;
    for _ in 0..3 {
        delete(&kong, place("clients", &one));
        sleep(RESYNC).await;
        assert_eq!((pod.binding("clients").state, held(&kong).len()), (State::InSync, 2));
    }
    assert_eq!(puts(&kong), 5, "the other one is not written");
    assert_eq!(pod.metric("contested_total{binding=\"clients\"}"), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn our_tags_are_written_again_and_those_of_others_stay() {
    let kong = kong_of_today();
    let one = root("One");
    let pod = pod_with(&[&one], None, &kong);
    until_state(&pod, State::InSync).await;
    let id = place("clients", &one);
    for changed in [&["team:edge"][..], &[]] {
        put(&kong, id, &one, changed);
        sleep(RESYNC).await;
        let expected = changed.iter().copied().chain([TAG]).collect();
        assert_eq!(tags(&held_at(&kong, id)), expected);
    }
    assert!(!pod.binding("clients").objects[0].adopted);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn two_files_with_one_certificate_share_its_object_and_come_to_rest() {
    let kong = kong_of_today();
    let (both, own) = (root("Both"), root("Own"));
    let mut pod = Pod::new();
    pod.publish_file("clients", "ca.crt", &pem(&[&both, &own]));
    pod.publish_file("upstreams", "ca.crt", &pem(&[&both]));
    Files(&[("clients", None, &["a"]), ("upstreams", None, &["b"])]).start(&mut pod, &kong);
    sleep(RESYNC * 3).await;
    for name in ["clients", "upstreams"] {
        assert_eq!(pod.binding(name).state, State::InSync);
    }
    let objects = held(&kong);
    assert_eq!(objects.len(), 2);
    let shared = objects.iter().find(|object| object["cert"] == both.pem()).unwrap();
    assert_eq!(tags(shared), ["a", "b", TAG].into());
    let before = puts(&kong);
    sleep(RESYNC * 3).await;
    assert_eq!(puts(&kong), before);
    assert_eq!(pod.metric("contested_total{binding=\"clients\"}"), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_files_are_compared_by_one_read() {
    let kong = kong_of_today();
    let mut pod = Pod::new();
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    for name in &names {
        pod.publish_file(name, "ca.crt", &root(name).pem());
    }
    let files: Vec<(&str, Option<Uuid>, &[&str])> =
        names.iter().map(|name| (name.as_str(), None, &[][..])).collect();
    Files(&files).start(&mut pod, &kong);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((puts(&kong), held(&kong).len()), (40, 40));
    let lists = |calls: &[String]| {
        calls.iter().filter(|call| call.starts_with("GET /ca_certificates?")).count()
    };
    // One to see what is there, one to see what refers to it.
    assert_eq!(lists(&kong.calls_since(Duration::ZERO)), 2);
    let before = kong.elapsed();
    sleep(RESYNC).await;
    assert_eq!(lists(&kong.calls_since(before)), 1, "{:?}", kong.calls_since(before));
}

// --- what refers to it ---------------------------------------------------------------------------

fn doubts(pod: &Pod) -> usize {
    let shown = pod.binding("clients");
    shown.warnings.iter().filter(|told| told.starts_with("nothing in kong refers to")).count()
}

fn asked_for_referrers(kong: &KongInProcess, since: Duration) -> usize {
    let is_one = |call: &&String| call.contains("/services") || call.contains("/plugins");
    kong.calls_since(since).iter().filter(is_one).count()
}

async fn until_asked_for_referrers(kong: &KongInProcess) {
    let before = kong.elapsed();
    while asked_for_referrers(kong, before) < 2 {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_new_one_to_which_nothing_refers_is_told_until_something_does() {
    let kong = kong_of_today();
    let (one, two) = (root("One"), root("Two"));
    let pod = pod_with(&[&one, &two], None, &kong);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((pod.binding("clients").state, doubts(&pod)), (State::InSync, 1));
    let ids = [place("clients", &one), place("clients", &two)];
    let told = pod.binding("clients").warnings.concat();
    assert!(ids.iter().all(|id| told.contains(&id.to_string())), "{told}");
    assert!(told.contains("CN=One") && told.contains("CN=Two"), "{told}");
    kong.model().insert_raw("services", json!({"host": "h", "ca_certificates": [ids[0]]}));
    sleep(RESYNC).await;
    let told = pod.binding("clients").warnings.concat();
    assert!(!told.contains("CN=One") && told.contains("CN=Two"), "{told}");
    let config = json!({"ca_certificates": [ids[1].to_string().to_uppercase()]});
    kong.model().insert_raw("plugins", json!({"name": "mtls-auth", "config": config}));
    sleep(LOOKUP).await;
    assert_eq!(doubts(&pod), 0);
    let before = kong.elapsed();
    sleep(RESYNC * 2).await;
    assert_eq!(asked_for_referrers(&kong, before), 0, "nothing is doubted any more");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_to_which_nothing_refers_are_told_in_one_warning_and_looked_up_once_an_hour() {
    let kong = kong_of_today();
    let cas: Vec<Authority> = (0..30).map(|number| root(&format!("n{number}"))).collect();
    let pod = pod_with(&cas.iter().collect::<Vec<_>>(), None, &kong);
    until_state(&pod, State::InSync).await;
    sleep(RESYNC).await;
    let shown = pod.binding("clients");
    assert_eq!((shown.warnings.len(), shown.objects.len()), (1, 30));
    let told = &shown.warnings[0];
    assert!(told.starts_with("nothing in kong refers to 30 CA certificates yet ("), "{told}");
    let named = cas.iter().filter(|ca| told.contains(&place("clients", ca).to_string())).count();
    assert!(named == 3 && told.contains("and 27 more"), "{told}");
    let before = kong.elapsed();
    sleep(Duration::from_secs(10 * 3600)).await;
    let asked = asked_for_referrers(&kong, before);
    assert!((18..=20).contains(&asked), "two lists an hour: {asked}");
    assert_eq!(doubts(&pod), 1, "it is told between the look-ups, too");
    // What is new is looked up at once. No other look-up is near when one has just been.
    until_asked_for_referrers(&kong).await;
    let before = kong.elapsed();
    let more: Vec<&Authority> = cas.iter().skip(1).collect();
    let new = root("New");
    pod.publish_file("clients", "ca.crt", &pem(&[&more[..], &[&new]].concat()));
    pod.until_named("clients", |shown| {
        shown.objects.iter().any(|o| o.id == place("clients", &new))
    })
    .await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(asked_for_referrers(&kong, before), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_fails_beside_them_is_no_reason_to_look_up_more_often() {
    // A conflict has Kong looked at again within the one pass.
    for (status, most) in [(400, 20), (409, 2 * 20)] {
        let kong = kong_of_today();
        let (one, other) = (root("One"), root("Other"));
        let pod = pod_with(&[&one], None, &kong);
        until_state(&pod, State::InSync).await;
        sleep(RESYNC).await;
        let at = path(place("clients", &other));
        kong.inject(Fault::refusal(status, "not this one").only("PUT").at(&at).always());
        pod.publish_file("clients", "ca.crt", &pem(&[&one, &other]));
        sleep(RESYNC * 2).await;
        let before = kong.elapsed();
        sleep(Duration::from_secs(10 * 3600)).await;
        let asked = asked_for_referrers(&kong, before);
        assert!((18..=most).contains(&asked), "{status}: {asked}");
        let told = pod.binding("clients").warnings.concat();
        assert!(told.contains("CN=One") && !told.contains("CN=Other"), "{status}: {told}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_was_there_is_not_doubted() {
    let kong = kong_of_today();
    let one = root("One");
    put(&kong, numbered(1), &one, &[]);
    let pod = pod_with(&[&one], None, &kong);
    until_state(&pod, State::InSync).await;
    sleep(RESYNC).await;
    assert_eq!((doubts(&pod), asked_for_referrers(&kong, Duration::ZERO)), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_may_not_read_what_could_refer_is_told_nothing_and_asks_once() {
    for refused in ["/services?size=1000", "/plugins?size=1000"] {
        let kong = kong_of_today();
        kong.inject(Fault::status(403).at(refused).always());
        let pod = pod_with(&[&root("One")], None, &kong);
        until_state(&pod, State::InSync).await;
        sleep(RESYNC * 2).await;
        assert_eq!((pod.binding("clients").state, doubts(&pod)), (State::InSync, 0));
        assert_eq!(
            kong.calls_since(Duration::ZERO).iter().filter(|c| c.ends_with(refused)).count(),
            1
        );
    }
}

// --- a configured id -----------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_configured_object_is_replaced_in_place_forth_and_back() {
    let kong = kong_of_today();
    let id = numbered(5);
    let (first, second) = (begun("First", 30), begun("Second", 20));
    let pod = pod_with(&[&first], Some(id), &kong);
    until_state(&pod, State::InSync).await;
    let created_at = held_at(&kong, id)["created_at"].clone();
    let body = json!({"tags": [TAG, "team:edge"]});
    kong.elsewhere(&Request::json("PATCH", &path(id), &body));
    kong.model().set_now(START + 9);
    for ca in [&second, &first] {
        pod.publish_file("clients", "ca.crt", &ca.pem());
        let subject = if std::ptr::eq(ca, &second) { "CN=Second" } else { "CN=First" };
        pod.until_named("clients", |shown| {
            let is_it = |told: &Option<String>| told.as_deref() == Some(subject);
            shown.state == State::InSync && is_it(&shown.objects[0].subject)
        })
        .await;
        let object = held_at(&kong, id);
        assert_eq!(object["cert"], ca.pem());
        assert_eq!(tags(&object), [TAG, "team:edge"].into());
        assert_eq!(object["created_at"], created_at);
    }
    assert_eq!(held(&kong).len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_one_in_place_is_held_and_one_no_newer_is_replaced_after_hold() {
    let kong = kong_of_today();
    let id = numbered(5);
    let pod = pod_with(&[&begun("Ours", 20)], Some(id), &kong);
    until_state(&pod, State::InSync).await;
    let (newer, older) = (begun("Newer", 10), begun("Older", 30));
    put(&kong, id, &newer, &[TAG]);
    sleep(RESYNC * 3).await;
    let shown = pod.binding("clients");
    assert_eq!((shown.state, shown.reason.unwrap().as_str()), (State::Held, "kong_newer"));
    assert_eq!(held_at(&kong, id)["cert"], newer.pem());
    put(&kong, id, &older, &[TAG]);
    sleep(RESYNC * 2).await;
    assert_eq!(pod.binding("clients").state, State::InSync);
    assert_ne!(held_at(&kong, id)["cert"], older.pem());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_of_someone_else_at_the_configured_id_is_patched_and_gets_no_tag_of_ours() {
    let kong = kong_of_today();
    let (id, renewed) = (numbered(5), begun("Renewed", 10));
    put(&kong, id, &begun("Former", 20), &["team:edge"]);
    let pod = pod_with(&[&renewed], Some(id), &kong);
    let shown = until_state(&pod, State::InSync).await;
    assert!(shown.objects[0].adopted);
    assert_eq!(kong.times_of("PATCH").len(), 1);
    let object = held_at(&kong, id);
    assert_eq!(object["cert"], renewed.pem());
    assert_eq!(tags(&object), ["team:edge"].into());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_may_not_be_replaced_in_place_is_refused_by_name() {
    let id = numbered(5);
    let (one, two) = (begun("One", 20), begun("Two", 10));
    let instance = "managed-by:kong-cert-reloader:edge";
    let cases = [
        (vec![&one], Some((id, &two, instance)), "other_controller", instance.to_owned()),
        (
            vec![&one],
            Some((numbered(9), &one, "x")),
            "authority_elsewhere",
            numbered(9).to_string(),
        ),
        (vec![&one, &two], None, "several_authorities", "holds 2 CA certificates".to_owned()),
    ];
    for (file, held, reason, told) in cases {
        let kong = kong_of_today();
        if let Some((id, authority, tag)) = held {
            put(&kong, id, authority, &[tag]);
        }
        let pod = pod_with(&file, Some(id), &kong);
        let shown = until_state(&pod, State::Refused).await;
        assert_eq!(shown.reason.unwrap().as_str(), reason);
        let message = shown.message.unwrap();
        assert!(message.contains(&told) && message.contains(&id.to_string()), "{message}");
        sleep(RESYNC).await;
        assert_eq!(puts(&kong), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_digest_that_someone_took_meanwhile_is_no_refusal_by_kong_but_one_that_names_them() {
    let kong = kong_of_today();
    let one = root("One");
    let cert = one.pem();
    kong.model().before_next("PUT", "/ca_certificates/", move |model| {
        let body = json!({"cert": cert});
        model.answer(&Request::json("PUT", &path(numbered(3)), &body));
    });
    let pod = pod_with(&[&one], Some(numbered(5)), &kong);
    let shown = until_state(&pod, State::Refused).await;
    assert_eq!(shown.reason.unwrap().as_str(), "authority_elsewhere");
    assert!(shown.message.unwrap().contains(&numbered(3).to_string()));
    delete(&kong, numbered(3));
    until_state(&pod, State::InSync).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_write_that_landed_unanswered_is_known_again() {
    let kong = kong_of_today();
    let id = numbered(5);
    // As old as each other: who does not know which was pushed waits for HOLD.
    let cas = [begun("First", 20), begun("Second", 20), begun("Third", 20)];
    let pod = pod_with(&[&cas[0]], Some(id), &kong);
    until_state(&pod, State::InSync).await;
    kong.inject(Fault::timeout(Duration::from_secs(10)).landed().only("PUT"));
    pod.publish_file("clients", "ca.crt", &cas[1].pem());
    until_state(&pod, State::Unreachable).await;
    assert_eq!(held_at(&kong, id)["cert"], cas[1].pem());
    pod.publish_file("clients", "ca.crt", &cas[2].pem());
    let before = kong.elapsed();
    until_state(&pod, State::InSync).await;
    assert_eq!(held_at(&kong, id)["cert"], cas[2].pem());
    assert!(kong.elapsed() - before < Duration::from_secs(60));
}

/// A bundle `all`, and `clients` with its place configured; the bundle comes first by name.
const BUNDLE_AND_PLACE: &[(&str, Option<Uuid>, &[&str])] =
    &[("all", None, &[]), ("clients", Some(numbered(1)), &[])];

fn stands(pod: &Pod, name: &str) -> (State, BTreeSet<Uuid>) {
    let shown = pod.binding(name);
    (shown.state, shown.objects.iter().map(|object| object.id).collect())
}

/// How often a configuration was posted by the sidecar.
fn posts(kong: &KongInProcess) -> usize {
    kong.times_of("POST").len()
}

/// What someone has in a Kong without a database.
const OTHERS: &str = "_format_version: '3.0'\nservices: [{name: a, host: a}]\n";

fn load(kong: &KongInProcess, config: &str) {
    kong.elsewhere(&Request::json("POST", "/config", &json!({ "config": config })));
}

fn kong_with(has_database: bool) -> KongInProcess {
    let kong = kong_of_today();
    if !has_database {
        kong.model().dbless(true);
        load(&kong, OTHERS);
    }
    kong
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bundle_leaves_a_ca_to_the_binding_that_has_a_place_for_it_and_uses_it_there() {
    for (is_first_ours, has_database) in [(false, true), (true, true), (false, false)] {
        let kong = kong_with(has_database);
        let (one, two) = (begun("One", 30), begun("Two", 20));
        if is_first_ours {
            put(&kong, numbered(1), &one, &[TAG]);
        }
        let mut pod = Pod::new();
        pod.publish_file("all", "ca.crt", &one.pem());
        pod.publish_file("clients", "ca.crt", &one.pem());
        Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
        sleep(Duration::from_secs(30)).await;
        for name in ["all", "clients"] {
            assert_eq!(stands(&pod, name), (State::InSync, [numbered(1)].into()), "{name}");
        }
        // Both files get its successor by one swap.
        pod.publish_file("all", "ca.crt", &pem(&[&one, &two]));
        pod.publish_file("clients", "ca.crt", &two.pem());
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stands(&pod, "clients"), (State::InSync, [numbered(1)].into()));
        let both = [numbered(1), place("all", &one)].into();
        assert_eq!(stands(&pod, "all"), (State::InSync, both));
        assert_eq!(held_at(&kong, numbered(1))["cert"], two.pem());
        assert_eq!(held(&kong).len(), 2);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bundle_whose_ca_is_replaced_in_its_place_has_it_elsewhere_at_once() {
    let kong = kong_of_today();
    let (one, two) = (begun("One", 30), begun("Two", 20));
    let mut pod = Pod::new();
    pod.publish_file("all", "ca.crt", &one.pem());
    pod.publish_file("clients", "ca.crt", &one.pem());
    Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
    sleep(Duration::from_secs(30)).await;
    pod.publish_file("clients", "ca.crt", &two.pem());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stands(&pod, "clients"), (State::InSync, [numbered(1)].into()));
    assert_eq!(stands(&pod, "all"), (State::InSync, [place("all", &one)].into()));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_that_its_place_may_not_get_yet_is_waited_for_by_a_bundle() {
    let kong = kong_of_today();
    let (newer, two) = (begun("Newer", 5), begun("Two", 20));
    put(&kong, numbered(1), &newer, &[TAG]);
    let mut pod = Pod::new();
    pod.publish_file("all", "ca.crt", &two.pem());
    pod.publish_file("clients", "ca.crt", &two.pem());
    Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(pod.binding("clients").state, State::Held);
    let all = pod.binding("all");
    assert_eq!((all.state, all.reason.unwrap().as_str()), (State::Pending, "conflict"));
    let told = all.message.unwrap();
    assert!(told.contains("CN=Two") && told.contains("binding clients"), "{told}");
    assert_eq!(puts(&kong), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bundle_creates_a_ca_itself_while_the_file_of_the_binding_with_its_place_is_away() {
    for has_database in [false, true] {
        let kong = kong_with(has_database);
        let (one, two) = (begun("One", 30), begun("Two", 20));
        let mut pod = Pod::new();
        pod.publish_file("all", "ca.crt", &pem(&[&one, &two]));
        pod.write("clients", "ca.crt", &one.pem());
        Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stands(&pod, "all"), (State::InSync, [numbered(1), place("all", &two)].into()));
        std::fs::remove_file(pod.directory("clients").join("ca.crt")).unwrap();
        pod.wake_at("clients/ca.crt");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(pod.binding("clients").state, State::Invalid);
        // Kong starts anew.
        kong.model().forget_everything();
        if !has_database {
            load(&kong, OTHERS);
        }
        let before = posts(&kong);
        sleep(LOOKUP).await;
        let both = [place("all", &one), place("all", &two)].into();
        assert_eq!(stands(&pod, "all"), (State::InSync, both), "{has_database}");
        assert_eq!(posts(&kong) - before, usize::from(!has_database));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bundle_does_not_wait_for_a_ca_that_kong_refused_in_its_place() {
    for has_database in [false, true] {
        let kong = kong_with(has_database);
        let brief = |name| {
            let until = START + 400 * HOUR;
            Pki::new().root().intermediate_with(name, KeyKind::P256, START - HOUR, until)
        };
        let (bad, good) = (brief("Bad"), begun("Good", 20));
        let mut pod = Pod::new();
        pod.publish_file("all", "ca.crt", &good.pem());
        pod.publish_file("clients", "ca.crt", &bad.pem());
        // By its own clock it has expired.
        kong.model().set_now(START + 500 * HOUR);
        Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(pod.binding("clients").state, State::Refused);
        assert_eq!(stands(&pod, "all"), (State::InSync, [place("all", &good)].into()));
        let writes = |kong: &KongInProcess| posts(kong) + puts(kong);
        let before = writes(&kong);
        pod.publish_file("all", "ca.crt", &pem(&[&good, &bad]));
        sleep(LOOKUP * 3).await;
        let all = pod.binding("all");
        assert_eq!((all.state, all.reason.unwrap().as_str()), (State::Refused, "by_kong"));
        let writes = writes(&kong) - before;
        // Without a database what was refused is tried again once an hour, for each of the two.
        let most = if has_database { 2 } else { 2 + 2 * 4 };
        assert!((1..=most).contains(&writes), "{has_database}: {writes}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_that_kong_refuses_in_its_place_alone_is_created_by_a_bundle_at_once() {
    let kong = kong_of_today();
    let one = begun("One", 20);
    let refusal = Fault::refusal(400, "not at this place");
    kong.inject(refusal.only("PUT").at(&path(numbered(1))).always());
    let mut pod = Pod::new();
    pod.publish_file("all", "ca.crt", &one.pem());
    pod.publish_file("clients", "ca.crt", &one.pem());
    Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stands(&pod, "all"), (State::InSync, [place("all", &one)].into()));
    assert_eq!((pod.binding("clients").state, puts(&kong)), (State::Refused, 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bundle_does_not_wait_for_a_place_that_another_controller_took() {
    for has_database in [false, true] {
        let kong = kong_with(has_database);
        let (theirs, one) = (begun("Theirs", 30), begun("One", 20));
        let mut pod = Pod::new();
        pod.publish_file("all", "ca.crt", &one.pem());
        pod.publish_file("clients", "ca.crt", &one.pem());
        Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stands(&pod, "all"), (State::InSync, [numbered(1)].into()));
        let before = posts(&kong) + puts(&kong);
        let tag = "managed-by:kong-cert-reloader:edge";
        if has_database {
            put(&kong, numbered(1), &theirs, &[tag]);
        } else {
            let object = json!({ "id": numbered(1), "cert": theirs.pem(), "tags": [tag] });
            let config = json!({
                "_format_version": "3.0",
                "ca_certificates": [object],
                "services": [{ "name": "a", "host": "a" }],
            });
            load(&kong, &config.to_string());
        }
        sleep(LOOKUP).await;
        assert_eq!(pod.binding("clients").state, State::Refused);
        assert_eq!(stands(&pod, "all"), (State::InSync, [place("all", &one)].into()));
        assert_eq!(posts(&kong) + puts(&kong) - before, 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_bundle_lacks_until_its_place_is_written_is_waited_for_without_writing() {
    let kong = kong_with(false);
    let cas: Vec<Authority> = (0..11).map(|number| begun(&format!("{number}"), 20)).collect();
    let mut pod = Pod::new();
    pod.publish_file("all", "ca.crt", &cas[0].pem());
    pod.publish_file("clients", "ca.crt", &cas[0].pem());
    Files(BUNDLE_AND_PLACE).start(&mut pod, &kong);
    sleep(Duration::from_secs(30)).await;
    // Its file does not rest: the last of these waits for its turn.
    for ca in &cas[1..10] {
        pod.publish_file("clients", "ca.crt", &ca.pem());
        sleep(Duration::from_millis(2500)).await;
    }
    pod.publish_file("clients", "ca.crt", &cas[10].pem());
    pod.publish_file("all", "ca.crt", &cas[10].pem());
    let mut waited = false;
    let before = posts(&kong);
    for _ in 0..20 {
        sleep(Duration::from_millis(500)).await;
        let (all, clients) = (pod.binding("all"), pod.binding("clients"));
        if let (State::Held, Some(told)) = (clients.state, all.message) {
            waited = true;
            assert_eq!((all.state, all.reason.unwrap().as_str()), (State::Pending, "conflict"));
            assert!(told.contains("binding clients has the place for it"));
            assert_eq!(posts(&kong), before);
        }
    }
    assert!(waited);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stands(&pod, "all"), (State::InSync, [numbered(1)].into()));
    assert_eq!(posts(&kong), before + 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_place_gets_what_is_configured_for_it_whatever_the_bundle_is_called() {
    for bundle in ["all", "zones"] {
        let kong = kong_with(false);
        let (one, two) = (begun("One", 30), begun("Two", 20));
        let mut pod = Pod::new();
        pod.publish_file(bundle, "ca.crt", &one.pem());
        pod.publish_file("clients", "ca.crt", &one.pem());
        Files(&[(bundle, None, &[]), ("clients", Some(numbered(1)), &[])]).start(&mut pod, &kong);
        sleep(Duration::from_secs(30)).await;
        // Both are woken within the time that changes are gathered in.
        pod.publish_file(bundle, "ca.crt", &pem(&[&one, &two]));
        pod.publish_file("clients", "ca.crt", &two.pem());
        sleep(Duration::from_secs(30)).await;
        assert_eq!(held_at(&kong, numbered(1))["cert"], two.pem(), "{bundle}");
        assert_eq!(stands(&pod, "clients"), (State::InSync, [numbered(1)].into()));
        let both = [numbered(1), place(bundle, &one)].into();
        assert_eq!(stands(&pod, bundle), (State::InSync, both));
        assert_eq!(posts(&kong), 3, "{bundle}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_ca_in_words_of_kongs_that_are_not_ours_is_known_by_kongs_own_digest() {
    let kong = kong_of_today();
    let one = begun("One", 30);
    let body = json!({"cert": one.pem().replace("CERTIFICATE", "X509 CERTIFICATE")});
    kong.elsewhere(&Request::json("PUT", &path(numbered(1)), &body));
    assert_eq!(held(&kong).len(), 1);
    for id in [None, Some(numbered(1))] {
        let pod = pod_with(&[&one], id, &kong);
        let shown = until_state(&pod, State::InSync).await;
        assert_eq!(stands(&pod, "clients").1, [numbered(1)].into());
        assert_eq!(shown.kong.unwrap().fingerprint, shown.file.unwrap().fingerprint);
        sleep(RESYNC * 2).await;
        assert_eq!((pod.binding("clients").state, puts(&kong)), (State::InSync, 0));
    }
}

// --- what is told --------------------------------------------------------------------------------

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_dry_run_tells_the_ids_that_would_be_created() {
    let kong = kong_of_today();
    let (there, lacking) = (root("There"), root("Lacking"));
    put(&kong, numbered(1), &there, &[]);
    let mut pod = Pod::new();
    pod.publish_file("clients", "ca.crt", &pem(&[&there, &lacking]));
    Files(&[("clients", None, &[])])
        .start_with(&mut pod, &kong, |settings| settings.dry_run = true);
    let shown = pod
        .until_named("clients", |shown| shown.reason.is_some_and(|r| r.as_str() == "dry_run"))
        .await;
    let id = place("clients", &lacking);
    assert_eq!(shown.message.unwrap(), format!("1 would be created: {id} (CN=Lacking)"));
    assert_eq!(puts(&kong), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn in_a_dry_run_a_bundle_waits_for_no_place() {
    for has_database in [false, true] {
        let kong = kong_with(has_database);
        let one = begun("One", 20);
        let mut pod = Pod::new();
        pod.publish_file("all", "ca.crt", &one.pem());
        pod.publish_file("clients", "ca.crt", &one.pem());
        Files(BUNDLE_AND_PLACE).start_with(&mut pod, &kong, |settings| settings.dry_run = true);
        sleep(Duration::from_secs(60)).await;
        for name in ["all", "clients"] {
            assert_eq!(pod.binding(name).reason.unwrap().as_str(), "dry_run", "{name}");
        }
        assert_eq!(posts(&kong) + puts(&kong), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn several_have_an_end_in_the_metrics_and_no_beginning_and_no_renewal_is_overdue() {
    let kong = kong_of_today();
    let (one, two) = (begun("One", 20), begun("Two", 10));
    let pod = pod_with(&[&one], None, &kong);
    until_state(&pod, State::InSync).await;
    let begin = "not_before_timestamp_seconds{binding=\"clients\",source=\"kong\"}";
    let end = "not_after_timestamp_seconds{binding=\"clients\",source=\"kong\"}";
    assert_eq!(pod.metric(begin), u64::try_from(START - 20 * HOUR).unwrap());
    pod.publish_file("clients", "ca.crt", &pem(&[&one, &two]));
    pod.until_named("clients", |shown| shown.objects.len() == 2).await;
    assert_eq!(pod.metric(begin), 0, "there is no such sample");
    assert_eq!(pod.metric(end), u64::try_from(START + 9000 * HOUR).unwrap());
    let state = "state{binding=\"clients\",kind=\"ca_certificate\",state=\"in_sync\"}";
    assert_eq!(pod.metric(state), 1);
    assert!(!pod.metrics().contains("renewal_overdue{"));
}
