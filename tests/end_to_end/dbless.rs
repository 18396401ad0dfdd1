//! What the program does beside a Kong without a database, as far as any such Kong can be asked. The
//! same scenarios run against the stand-in and against a real one.
//!
//! All of Kong's configuration is a scenario's own while it plays: none may play beside another.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt as _;
use serde_json::{Map, Value, json};
use testkit::SidecarProcess;
use testkit::kong_model::read_yaml;

use crate::stage::{Stage, compared_again, in_sync_with, metric, publish, publish_files};
use crate::target::{Target, until};

/// Hands each scenario to `$test`, which makes a test of it. One that is not in this list is dead
/// code to the compiler.
macro_rules! for_each_dbless_scenario {
    ($test:ident) => {
        $test!(a_certificate_goes_in_and_everything_else_stays);
        $test!(a_renewal_is_served_and_ids_and_passwords_stay);
        $test!(two_certificates_go_in_with_one_write);
        $test!(a_certificate_of_someone_else_is_renewed_in_place);
        $test!(a_broken_pair_is_not_written_and_the_former_stays_served);
        $test!(what_someone_else_loads_gets_ours_again);
        $test!(ca_certificates_go_in_beside_the_rest);
        $test!(the_rest_may_come_from_a_file_and_is_loaded_when_that_is_edited);
        $test!(nothing_is_written_while_nothing_changes);
    };
}
pub(crate) use for_each_dbless_scenario;

/// Often enough for a test, and no burden for a Kong.
const RESYNC: (&str, &str) = ("RESYNC_INTERVAL", "500ms");
const POLL: (&str, &str) = ("DECLARATIVE__POLL", "200ms");

/// What is there besides certificates, with texts that YAML libraries take for something else.
const BASE: &str = "\
_format_version: '3.0'
_transform: true
services:
- name: echo
  host: 10.0.0.1
  tags: ['0o17', '2020-01-01', 'y', '010', '1e3', 'off']
  routes:
  - name: echo
    paths: [/echo, '~/a$']
  plugins:
  - name: cors
    config: {max_age: 10, origins: ['*']}
consumers:
- username: '0o17'
  custom_id: 'y: #1'
  basicauth_credentials:
  - {username: ann, password: secret}
";
const HOST: &str = "10.0.0.1";
const OTHER_HOST: &str = "10.0.0.2";

/// Plays a scenario on a Kong that runs [`BASE`], and then loads what it ran before, also where the
/// scenario fails. Its panic goes on after that.
pub(crate) async fn play_alone(kong: Target, scenario: impl AsyncFnOnce(&Stage)) {
    let before = kong.configuration().await;
    let stage = Stage::on(kong);
    // Its sidecars are killed when it ends, either way.
    let play = async {
        stage.kong.load(BASE).await;
        scenario(&stage).await;
    };
    let played = AssertUnwindSafe(play).catch_unwind().await;
    stage.kong.restore(&before).await;
    if let Err(panic) = played {
        resume_unwind(panic);
    }
}

/// All of its configuration.
impl Target {
    /// What Kong exports.
    pub(crate) async fn configuration(&self) -> Value {
        let export = self.look("/config").await.unwrap();
        read_yaml(export["config"].as_str().unwrap()).unwrap()
    }

    /// Someone else loads a configuration.
    pub(crate) async fn load(&self, config: &str) {
        self.send("POST", "/config", &json!({ "config": config })).await;
    }

    /// Loads what was exported, until it runs: what a sidecar sent before its end may come in between.
    async fn restore(&self, exported: &Value) {
        let wanted = comparable(exported.clone());
        let is_restored = async || {
            self.load(&postable(exported.clone()).to_string()).await;
            (comparable(self.configuration().await) == wanted).then_some(())
        };
        until("the configuration from before the test runs again", is_restored).await;
    }

    /// What tells its configurations apart.
    async fn hash(&self) -> String {
        let status = self.look("/status").await.unwrap();
        status["configuration_hash"].as_str().unwrap().to_owned()
    }

    /// What it runs besides certificates and CA certificates, but for the time of the last write.
    async fn others(&self) -> Value {
        let mut config = comparable(self.configuration().await);
        let entities = config.as_object_mut().unwrap();
        entities.retain(|entity, _| !OURS.contains(&entity.as_str()));
        config
    }

    /// The password of the one consumer as Kong keeps it.
    async fn password(&self) -> Value {
        self.configuration().await["basicauth_credentials"][0]["password"].clone()
    }

    /// Waits until what runs has this host.
    async fn runs_with(&self, host: &str) {
        let has_it =
            async || (self.configuration().await["services"][0]["host"] == host).then_some(());
        until(&format!("the service has the host {host}"), has_it).await;
    }

    /// Waits until a certificate has this name; returns it.
    async fn object_again(&self, label: &str) -> Value {
        let path = format!("/certificates/{}", self.name(label));
        until(&format!("{path} is there"), async || self.look(&path).await).await
    }
}

const OURS: [&str; 3] = ["certificates", "snis", "ca_certificates"];

/// Names stand beside the certificates too, and Kong takes them once.
fn postable(mut exported: Value) -> Value {
    for certificate in exported["certificates"].as_array_mut().into_iter().flatten() {
        certificate.as_object_mut().unwrap().remove("snis");
    }
    exported
}

/// Without the order that Kong is free in, and without what changes at each write.
fn comparable(mut exported: Value) -> Value {
    for rows in exported.as_object_mut().unwrap().values_mut() {
        for row in rows.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            row.remove("updated_at");
            row.remove("snis");
        }
        *rows = ordered(std::mem::take(rows));
    }
    exported
}

fn ordered(value: Value) -> Value {
    match value {
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.into_iter().map(ordered).collect();
            elements.sort_by_cached_key(Value::to_string);
            Value::Array(elements)
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, ordered(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        scalar => scalar,
    }
}

/// How often `sidecar` sent a configuration, whatever Kong said.
async fn posts(sidecar: &SidecarProcess) -> u64 {
    let (_, text) = sidecar.page("/metrics").await;
    let posts = "kong_cert_reloader_admin_requests_total{method=\"POST\",";
    let series = text.lines().filter(|line| line.starts_with(posts));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

// --- certificates --------------------------------------------------------------------------------

pub(crate) async fn a_certificate_goes_in_and_everything_else_stays(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let before = kong.others().await;
    let service = &before["services"][0];
    assert_eq!(service["tags"], json!(["010", "0o17", "1e3", "2020-01-01", "off", "y"]));
    assert_eq!(before["consumers"][0]["username"], "0o17");
    let password = kong.password().await;
    assert!(password.as_str().is_some_and(|password| password != "secret"));
    let pair = stage.pair(&["a", "*.b"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[POLL]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    kong.serves("a", pair.chain_ders()).await;
    kong.serves("x.b", pair.chain_ders()).await;
    let object = kong.object("a").await;
    assert_eq!(object["tags"], json!([kong.own_tag()]));
    assert_eq!(object["snis"], kong.names(&["*.b", "a"]));
    assert_eq!((kong.others().await, kong.password().await), (before, password));
}

pub(crate) async fn a_renewal_is_served_and_ids_and_passwords_stay(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let first = stage.pair(&["a"]);
    publish(&volume, &first);
    let before = kong.others().await;
    let sidecar = pod.sidecar(&[POLL]).await;
    sidecar.until("web", in_sync_with(&first)).await;
    let ids =
        async || (kong.object("a").await["id"].clone(), kong.sni("a").await.unwrap()["id"].clone());
    let ids_before = ids().await;
    // The last is a rollback.
    let renewed = stage.pair(&["a"]);
    for pair in [&renewed, &stage.pair(&["a"]), &renewed] {
        publish(&volume, pair);
        sidecar.until("web", in_sync_with(pair)).await;
        kong.serves("a", pair.chain_ders()).await;
        assert_eq!((ids().await, kong.others().await), (ids_before.clone(), before.clone()));
    }
    assert_eq!(posts(&sidecar).await, 4);
}

pub(crate) async fn two_certificates_go_in_with_one_write(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let (one, two) = (stage.pair(&["a"]), stage.pair(&["b"]));
    publish(&pod.volume("one"), &one);
    publish(&pod.volume("two"), &two);
    let sidecar = pod.sidecar(&[POLL]).await;
    for (binding, label, pair) in [("one", "a", &one), ("two", "b", &two)] {
        sidecar.until(binding, in_sync_with(pair)).await;
        kong.serves(label, pair.chain_ders()).await;
    }
    assert_eq!((posts(&sidecar).await, kong.all("certificates").await.len()), (1, 2));
}

pub(crate) async fn a_certificate_of_someone_else_is_renewed_in_place(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let theirs = stage.pair(&["a"]);
    let id = "11111111-1111-4111-8111-111111111111";
    let mut config = read_yaml(BASE).unwrap();
    config["certificates"] = json!([{
        "id": id, "cert": theirs.chain_pem(), "key": theirs.key_pem(), "tags": ["team:edge"],
        "snis": [{ "name": kong.name("a"), "tags": ["hand"] }],
    }]);
    kong.load(&config.to_string()).await;
    kong.serves("a", theirs.chain_ders()).await;
    let before = kong.others().await;
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[POLL]).await;
    let shown = sidecar.until("web", in_sync_with(&pair)).await;
    assert_eq!(shown["objects"], json!([{"id": id, "adopted": true, "snis": kong.names(&["a"])}]));
    kong.serves("a", pair.chain_ders()).await;
    let object = kong.object("a").await;
    assert_eq!((&object["id"], &object["tags"]), (&json!(id), &json!(["team:edge"])));
    assert_eq!(kong.sni("a").await.unwrap()["tags"], json!(["hand"]));
    assert_eq!((kong.others().await, kong.all("certificates").await.len()), (before, 1));
}

pub(crate) async fn a_broken_pair_is_not_written_and_the_former_stays_served(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let volume = pod.volume("web");
    let good = stage.pair(&["a"]);
    publish(&volume, &good);
    let sidecar = pod.sidecar(&[POLL, RESYNC]).await;
    sidecar.until("web", in_sync_with(&good)).await;
    let before = (kong.configuration().await, kong.hash().await);
    publish_files(&volume, &stage.pair(&["a"]).chain_pem(), &stage.pair(&["a"]).key_pem());
    let shown = sidecar.until_state("web", "invalid").await;
    assert_eq!(shown["reason"], "key_mismatch");
    compared_again(&sidecar).await;
    assert!((kong.configuration().await, kong.hash().await) == before, "it was written");
    assert_eq!(posts(&sidecar).await, 1);
    kong.serves("a", good.chain_ders()).await;
    let next = stage.pair(&["a"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
    kong.serves("a", next.chain_ders()).await;
}

// --- the rest ------------------------------------------------------------------------------------

pub(crate) async fn what_someone_else_loads_gets_ours_again(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let sidecar = pod.sidecar(&[POLL]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    let id = kong.object("a").await["id"].clone();
    for host in [OTHER_HOST, HOST] {
        kong.load(&BASE.replace(HOST, host)).await;
        assert_eq!(kong.object_again("a").await["id"], id);
        kong.runs_with(host).await;
        kong.serves("a", pair.chain_ders()).await;
    }
}

pub(crate) async fn ca_certificates_go_in_beside_the_rest(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let trust = pod.volume("trust");
    let (one, two) = (stage.pki.intermediate("One"), stage.pki.intermediate("Two"));
    trust.publish(&[("ca.crt", one.pem().as_bytes())]);
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let before = kong.others().await;
    let file = trust.root().join("ca.crt");
    let file = ("CA_CERTIFICATES__TRUST__FILE", file.to_str().unwrap());
    let sidecar = pod.sidecar(&[POLL, file]).await;
    sidecar.until_state("trust", "in_sync").await;
    sidecar.until("web", in_sync_with(&pair)).await;
    assert_eq!((kong.authorities().await, posts(&sidecar).await), (vec![one.pem()], 1));
    trust.publish(&[("ca.crt", (one.pem() + &two.pem()).as_bytes())]);
    let both = async || (kong.authorities().await.len() == 2).then_some(());
    until("both are there", both).await;
    let mut expected = vec![one.pem(), two.pem()];
    expected.sort();
    assert_eq!((kong.authorities().await, kong.others().await), (expected, before));
    kong.serves("a", pair.chain_ders()).await;
}

impl Target {
    /// The CA certificates in Kong.
    async fn authorities(&self) -> Vec<String> {
        let list = self.look("/ca_certificates?size=1000").await.unwrap();
        let list = list["data"].as_array().unwrap().iter();
        let mut all: Vec<_> = list.map(|row| row["cert"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    }
}

pub(crate) async fn the_rest_may_come_from_a_file_and_is_loaded_when_that_is_edited(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let rest = pod.volume("rest");
    rest.publish(&[("kong.yaml", BASE.as_bytes())]);
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let password = kong.password().await;
    let file = rest.root().join("kong.yaml");
    let file = ("DECLARATIVE__FILE", file.to_str().unwrap());
    let sidecar = pod.sidecar(&[POLL, file]).await;
    sidecar.until("web", in_sync_with(&pair)).await;
    let id = kong.object("a").await["id"].clone();
    for host in [OTHER_HOST, HOST] {
        rest.publish(&[("kong.yaml", BASE.replace(HOST, host).as_bytes())]);
        kong.runs_with(host).await;
        sidecar.until_state("declarative_file", "in_sync").await;
        assert_eq!((&kong.object("a").await["id"], kong.password().await), (&id, password.clone()));
        kong.serves("a", pair.chain_ders()).await;
    }
    // What someone else loads does not stay.
    kong.load(&BASE.replace(HOST, OTHER_HOST)).await;
    kong.runs_with(HOST).await;
    assert_eq!(kong.object_again("a").await["id"], id);
}

pub(crate) async fn nothing_is_written_while_nothing_changes(stage: &Stage) {
    let (kong, pod) = (&stage.kong, stage.pod());
    let pair = stage.pair(&["a"]);
    publish(&pod.volume("web"), &pair);
    let first = pod.sidecar(&[POLL]).await;
    first.until("web", in_sync_with(&pair)).await;
    assert_eq!(posts(&first).await, 1);
    drop(first);
    let before = (kong.configuration().await, kong.hash().await);
    // It finds everything in place.
    let second = pod.sidecar(&[POLL, RESYNC]).await;
    second.until("web", in_sync_with(&pair)).await;
    compared_again(&second).await;
    // A hash that it takes for another than Kong's would be a reason to look, at each poll.
    let looks = "reconciles_total{trigger=\"configuration\"}";
    let before_polls = metric(&second, looks).await;
    compared_again(&second).await;
    assert_eq!((posts(&second).await, metric(&second, looks).await), (0, before_polls));
    assert!((kong.configuration().await, kong.hash().await) == before, "it was written");
}
