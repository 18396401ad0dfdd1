//! The chart, as Helm renders it.
//!
//! What the values in `ci/` of the chart render stands in `tests/data/helm/golden`; after a change that
//! is meant, `UPDATE_GOLDEN=1 cargo test --test chart` writes it anew. The contents of `files/` are not
//! repeated there: that they arrive whole is tested by itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "the bans are the product's")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kong_cert_reloader::settings::Settings;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Tool;
use testkit::manifest::{self, document, documents};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/kong-cert-reloader");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/helm");
const POD_MONITOR: &str = "monitoring.coreos.com/v1/PodMonitor";
const RULE: &str = "monitoring.coreos.com/v1/PrometheusRule";
const CERTIFICATE: &str = "cert-manager.io/v1/Certificate";
/// Kinds that a cluster may know.
const KINDS: [&str; 3] = [POD_MONITOR, RULE, CERTIFICATE];

/// What Helm says to the chart at `chart` with `arguments`, on a cluster that knows `kinds`.
fn helm(chart: &str, kinds: &[&str], arguments: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let mut all = vec!["template", "edge", chart, "--namespace", "gateways"];
    all.extend(kinds.iter().flat_map(|kind| ["--api-versions", kind]));
    all.extend(arguments);
    let ended = Tool::find("helm")?.run(&all);
    Some(if ended.well { Ok(documents(&ended.output)) } else { Err(ended.errors) })
}

/// What the chart renders where the cluster knows all kinds.
fn rendered(arguments: &[&str]) -> Option<Vec<Value>> {
    helm(CHART, &KINDS, arguments).map(Result::unwrap)
}

/// The values files of the chart.
fn values_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(format!("{CHART}/ci")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    files
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn text_of(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_values_file_renders_what_its_golden_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut expected = BTreeSet::new();
    for values in values_files() {
        let Some(mut objects) = rendered(&["--values", values.to_str().unwrap()]) else { return };
        objects.iter_mut().for_each(leave_out_files);
        let golden = Path::new(DATA).join("golden").join(values.file_name().unwrap());
        if update {
            fs::write(&golden, manifest::text(&objects)).unwrap();
        }
        assert_eq!(documents(&text_of(&golden)), objects, "{}", golden.display());
        expected.insert(golden);
    }
    let goldens = fs::read_dir(format!("{DATA}/golden")).unwrap();
    let there: BTreeSet<PathBuf> = goldens.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(there, expected, "a golden without values");
}

/// Puts a word in place of what comes from `files/`.
fn leave_out_files(object: &mut Value) {
    if let Some(groups) = object.pointer_mut("/spec/groups") {
        *groups = "of files/alerts.yaml".into();
    }
    if let Some(dashboard) = object.pointer_mut("/data/kong-cert-reloader.json") {
        *dashboard = "of files/dashboard.json".into();
    }
}

#[test]
fn the_chart_is_clean_for_helm_lint() {
    let Some(helm) = Tool::find("helm") else { return };
    for values in values_files() {
        let ended = helm.run(&["lint", "--strict", CHART, "--values", values.to_str().unwrap()]);
        assert!(ended.well, "{}\n{}{}", values.display(), ended.output, ended.errors);
    }
}

#[test]
fn every_object_has_the_labels_that_tools_look_for() {
    for values in values_files() {
        let Some(objects) = rendered(&["--values", values.to_str().unwrap()]) else { return };
        for object in objects {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/instance"], "edge", "{object}");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "{object}");
            assert_eq!(labels["app.kubernetes.io/part-of"], "kong-cert-reloader", "{object}");
            assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{object}");
            assert!(object["metadata"]["namespace"].is_string(), "{object}");
        }
    }
}

#[test]
fn the_chart_makes_nothing_that_runs_or_has_rights() {
    let made = BTreeSet::from(["Certificate", "ConfigMap", "PodMonitor", "PrometheusRule"]);
    for values in values_files() {
        let Some(objects) = rendered(&["--values", values.to_str().unwrap()]) else { return };
        let kinds = objects.iter().map(|object| object["kind"].as_str().unwrap());
        let others: Vec<&str> = kinds.filter(|kind| !made.contains(kind)).collect();
        assert_eq!(others, [""; 0], "{}", values.display());
    }
}

/// The groups of rules as they stand in the file.
fn groups() -> Value {
    document(&text_of(format!("{CHART}/files/alerts.yaml")))["groups"].clone()
}

/// The groups of rules as they are rendered.
fn rendered_groups(arguments: &[&str]) -> Option<Value> {
    Some(of_kind(&rendered(arguments)?, "PrometheusRule")["spec"]["groups"].clone())
}

/// Each rule in `groups`.
fn rules(groups: &mut Value) -> impl Iterator<Item = &mut Value> {
    groups
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .flat_map(|group| group["rules"].as_array_mut().unwrap())
}

#[test]
fn the_alerts_are_those_of_the_file() {
    let Some(rendered) = rendered_groups(&[]) else { return };
    assert_eq!(rendered, groups());
    assert!(rendered.to_string().contains("{{ $labels."), "templates of Prometheus are not ours");
}

#[test]
fn alerts_are_left_out_by_their_names_and_a_group_that_has_no_others_with_them() {
    let of_first_group: Vec<String> = groups()[0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["alert"].as_str().map(str::to_owned))
        .collect();
    assert!(of_first_group.len() > 1, "the first group has no alerts to leave out");
    for disabled in [&of_first_group[..1], &of_first_group] {
        let mut expected = groups();
        let is_left_out = |rule: &Value| disabled.iter().any(|name| rule["alert"] == **name);
        for group in expected.as_array_mut().unwrap() {
            group["rules"].as_array_mut().unwrap().retain(|rule| !is_left_out(rule));
        }
        expected.as_array_mut().unwrap().retain(|group| group["rules"] != json!([]));
        let disabled = format!("prometheusRule.disabled={{{}}}", disabled.join(","));
        let Some(rendered) = rendered_groups(&["--set", &disabled]) else { return };
        assert_eq!(rendered, expected);
    }
}

#[test]
fn every_rule_gets_the_labels_and_every_link_the_runbook_that_the_values_name() {
    let mut expected = groups();
    let mut links = 0;
    for rule in rules(&mut expected) {
        rule["labels"]["team"] = "edge".into();
        rule["labels"]["severity"] = "page".into();
        if let Some(link) = rule["annotations"].get_mut("runbook_url") {
            let (_, anchor) = link.as_str().unwrap().split_once('#').unwrap();
            *link = format!("https://wiki.test/certs?v=$1#{anchor}").into();
            links += 1;
        }
    }
    assert!(links > 1, "no alert has a link");
    let Some(rendered) = rendered_groups(&[
        "--set",
        "prometheusRule.ruleLabels.team=edge,prometheusRule.ruleLabels.severity=page",
        "--set",
        "prometheusRule.runbookUrl=https://wiki.test/certs?v=$1",
    ]) else {
        return;
    };
    assert_eq!(rendered, expected);
}

#[test]
fn the_dashboard_is_that_of_the_file() {
    let Some(objects) = rendered(&[]) else { return };
    let config_map = of_kind(&objects, "ConfigMap");
    let copied = config_map["data"]["kong-cert-reloader.json"].as_str().unwrap();
    let file = text_of(format!("{CHART}/files/dashboard.json"));
    assert_eq!(copied, file.trim());
    assert!(serde_json::from_str::<Value>(copied).unwrap().is_object());
    assert_eq!(config_map["metadata"]["labels"]["grafana_dashboard"], "1");
}

#[test]
fn what_a_cluster_does_not_know_is_left_out_and_told() {
    let Some(helm) = Tool::find("helm") else { return };
    for (kind, known) in [("PodMonitor", RULE), ("PrometheusRule", POD_MONITOR)] {
        let objects = self::helm(CHART, &[known], &[]).unwrap().unwrap();
        let kinds: BTreeSet<&str> =
            objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        let other = known.rsplit('/').next().unwrap();
        assert_eq!(kinds, BTreeSet::from(["ConfigMap", other]), "{kind}");
    }
    let ended = helm.run(&["install", "edge", CHART, "--dry-run=client"]);
    if ended.errors.contains("cluster unreachable") {
        testkit::not_tested("notes of the chart; this Helm renders them with a cluster only");
        return;
    }
    let (_, notes) = ended.output.split_once("NOTES:").unwrap();
    let (made, left_out) = notes.split_once("Left out").unwrap();
    assert!(made.contains("ConfigMap") && !made.contains("PodMonitor"), "{notes}");
    assert!(left_out.contains("PodMonitor") && left_out.contains("PrometheusRule"), "{notes}");
    let off = ["--set", "podMonitor.enabled=false,prometheusRule.enabled=false"];
    let ended = helm.run(&[&["install", "edge", CHART, "--dry-run=client"], &off[..]].concat());
    assert!(ended.well && !ended.output.contains("Left out"), "{}", ended.output);
}

#[test]
fn what_is_asked_for_and_cannot_be_made_is_an_error() {
    let certificate = "certificates[0].name=web,certificates[0].dnsNames={a.test},certificates[0].issuerRef.name=ca";
    for (asked, kind) in [
        ("podMonitor.enabled=true", POD_MONITOR),
        ("prometheusRule.enabled=true", RULE),
        (certificate, CERTIFICATE),
    ] {
        let others: Vec<&str> = KINDS.into_iter().filter(|known| *known != kind).collect();
        let Some(result) = helm(CHART, &others, &["--set", asked]) else { return };
        let error = result.unwrap_err();
        assert!(error.contains(&format!("add --api-versions {kind}")), "{error}");
        assert!(error.contains(asked.split(['.', '[']).next().unwrap()), "{error}");
        assert!(helm(CHART, &[kind], &["--set", asked]).unwrap().is_ok(), "{asked}");
    }
}

/// A certificate of cert-manager that is right, with `more` in it.
fn certificate(more: &str) -> String {
    let right = r#""name": "web", "dnsNames": ["a.test"], "issuerRef": {"name": "ca"}"#;
    format!(r#"certificates=[{{{right}{more}}}]"#)
}

#[test]
fn values_that_are_wrong_are_told_by_name() {
    let long_port = format!(r#"podMonitor={{"port": "{}"}}"#, "a".repeat(16));
    for (values, told) in [
        (r#"podMonitors={}"#, &["podMonitors"][..]),
        (r#"kong={"selector": {}}"#, &["kong", "selector"]),
        (r#"kong={"podLabels": {"version": 3}}"#, &["podLabels", "version"]),
        (r#"commonLabels={"team": true}"#, &["commonLabels", "team"]),
        (r#"podMonitor={"enabled": "yes"}"#, &["podMonitor", "enabled", "auto"]),
        (r#"podMonitor={"interval": 15}"#, &["podMonitor", "interval"]),
        (r#"podMonitor={"interval": "15 s"}"#, &["podMonitor", "interval"]),
        (r#"podMonitor={"relabelings": {}}"#, &["podMonitor", "relabelings"]),
        (&long_port, &["podMonitor", "port"]),
        (r#"prometheusRule={"disable": []}"#, &["prometheusRule", "disable"]),
        (r#"prometheusRule={"disabled": ["No"]}"#, &["prometheusRule.disabled", "alert No"]),
        (r#"prometheusRule={"ruleLabels": {"a": 1}}"#, &["ruleLabels", "a"]),
        (r#"prometheusRule={"runbookUrl": "a.test"}"#, &["prometheusRule", "runbookUrl"]),
        (r#"prometheusRule={"runbookUrl": "https://a.test#b"}"#, &["runbookUrl"]),
        (r#"dashboard={"enabled": "auto"}"#, &["dashboard", "enabled"]),
        (r#"dashboard={"folders": "a"}"#, &["dashboard", "folders"]),
        (r#"settings=[]"#, &["settings"]),
        (r#"settings={"admin": {"token": "t"}}"#, &["settings.admin.token", "admin.token_file"]),
        (r#"settings={"admin": {"headers": {}}}"#, &["settings.admin.headers"]),
        (r#"certificates=[{"name": "web"}]"#, &["certificates", "dnsNames", "issuerRef"]),
        (&certificate(r#", "rotationPolicy": "Never""#), &["certificates", "rotationPolicy"]),
        (&certificate(r#", "privateKey": {"rotationPolicy": "Never"}"#), &["rotationPolicy"]),
        (&certificate(r#", "privateKey": {"size": 1024}"#), &["privateKey", "size"]),
        (&certificate(r#", "dnsNames": []"#), &["certificates", "dnsNames"]),
        (&certificate(r#", "privateKey": {"size": 8193}"#), &["privateKey", "size"]),
        (&certificate(r#", "privateKey": {"size": 512}"#), &["privateKey", "size"]),
        (&certificate(r#", "privateKey": {"size": "256"}"#), &["privateKey", "size"]),
        (&certificate(r#", "duration": "90d""#), &["certificates", "duration"]),
        (&certificate(r#", "duration": "1.5""#), &["certificates", "duration"]),
        (&certificate(r#", "duration": "1..5h""#), &["certificates", "duration"]),
        (&certificate(r#", "duration": ".h""#), &["certificates", "duration"]),
        (&certificate(r#", "renewBeforePercentage": 100"#), &["renewBeforePercentage"]),
        (&certificate(r#", "renewBefore": "1h", "renewBeforePercentage": 5"#), &["certificates"]),
        (&certificate(r#", "issuerRef": {"kind": "Issuer"}"#), &["issuerRef", "name"]),
        (r#"container={"resource": {}}"#, &["container", "resource"]),
        (r#"container={"instance": ""}"#, &["container", "instance"]),
        (r#"container={"image": {"digest": "sha256:1"}}"#, &["image", "digest"]),
        (r#"container={"image": {"pullPolicy": "Sometimes"}}"#, &["image", "pullPolicy"]),
        (r#"container={"env": [{"name": "A", "value": 1}]}"#, &["env", "value"]),
        (r#"container={"certificates": [{"name": "web"}]}"#, &["certificates", "secretName"]),
        (
            r#"container={"certificates": [{"name": "../a", "secretName": "a"}]}"#,
            &["certificates", "name"],
        ),
        (
            r#"container={"volumeMounts": [{"name": "a", "mountPath": "/a", "subPath": "b"}]}"#,
            &["volumeMounts", "subPath"],
        ),
    ] {
        let Some(result) = helm(CHART, &KINDS, &["--set-json", values]) else { return };
        let error = result.expect_err(values);
        assert!(told.iter().all(|word| error.contains(word)), "{values}\n{error}");
    }
}

#[test]
fn certificates_take_every_size_and_duration_that_cert_manager_takes() {
    for size in [256, 384, 521, 2048, 3072, 4096, 6144, 8192] {
        let values = certificate(&format!(r#", "privateKey": {{"size": {size}}}"#));
        let Some(objects) = rendered(&["--set-json", &values]) else { return };
        assert_eq!(of_kind(&objects, "Certificate")["spec"]["privateKey"]["size"], size);
    }
    for duration in ["2160h", "1h30m", "1.5h", "90.m", ".5h", "2h1.5m30s"] {
        let values = certificate(&format!(r#", "duration": "{duration}""#));
        let Some(objects) = rendered(&["--set-json", &values]) else { return };
        assert_eq!(of_kind(&objects, "Certificate")["spec"]["duration"], duration);
    }
}

/// Where any key may stand: what goes to an API or to the program as it is.
const FREE: [&str; 3] = ["/definitions/free", "/definitions/volume", "/properties/global"];

#[test]
fn the_schema_takes_no_value_that_it_does_not_know() {
    fn look(path: &str, schema: &Value) {
        if schema["type"] == "object" && !FREE.contains(&path) {
            let rest = &schema["additionalProperties"];
            assert!(
                *rest == false || rest["type"] == "string",
                "{path} takes what it does not know"
            );
        }
        match schema {
            Value::Object(keys) => {
                keys.iter().for_each(|(key, inner)| look(&format!("{path}/{key}"), inner));
            }
            Value::Array(list) => list.iter().for_each(|inner| look(path, inner)),
            _ => {}
        }
    }
    look("", &schema());
}

fn schema() -> Value {
    serde_json::from_str(&text_of(format!("{CHART}/values.schema.json"))).unwrap()
}

#[test]
fn every_value_that_the_schema_knows_stands_in_the_values() {
    fn look(path: &str, schema: &Value, values: &Value) {
        let Some(known) = schema["properties"].as_object() else { return };
        for (key, inner) in known.iter().filter(|(key, _)| *key != "global") {
            let value =
                values.get(key).unwrap_or_else(|| panic!("{path}{key} is not in values.yaml"));
            look(&format!("{path}{key}."), inner, value);
        }
    }
    let values = document(&text_of(format!("{CHART}/values.yaml")));
    look("", &schema(), &values);
}

#[test]
fn the_versions_are_those_of_the_program() {
    let chart = document(&text_of(format!("{CHART}/Chart.yaml")));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["type"], "application");
}

/// What the program makes of the ConfigMap of settings among `objects`.
fn settings(objects: &[Value]) -> Option<Settings> {
    let text = objects.iter().find_map(|object| object["data"]["settings.yaml"].as_str())?;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("settings.yaml");
    fs::write(&file, text).unwrap();
    let variable = ("CERT_RELOADER__CONFIG".into(), file.into());
    Some(Settings::from_env([variable]).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}")))
}

#[test]
fn the_program_takes_the_settings() {
    let values = format!("{CHART}/ci/everything.yaml");
    let Some(objects) = rendered(&["--values", &values]) else { return };
    let settings = settings(&objects).unwrap();
    assert!(settings.dry_run);
    assert_eq!(settings.hold.as_secs(), 600);
    assert_eq!(settings.certificates.len(), 1);
}

#[test]
fn core_objects_are_valid_for_kubernetes() {
    let everything = format!("{CHART}/ci/everything.yaml");
    let Some(mut objects) = rendered(&["--values", &everything]) else { return };
    for native in [false, true] {
        objects
            .extend(gateway(&[&format!("kong-cert-reloader.container.native={native}")]).unwrap());
    }
    objects.retain(|object| object["apiVersion"] == "v1" || object["apiVersion"] == "apps/v1");
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    let gateway = ["ConfigMap", "ConfigMap", "Deployment"];
    assert_eq!(kinds, [&["ConfigMap", "ConfigMap"], &gateway[..], &gateway].concat());
    let Some(validate) = Tool::find("kubernetes-validate") else { return };
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("objects.yaml");
    fs::write(&file, manifest::text(&objects)).unwrap();
    let ended = validate.run(&["--strict", file.to_str().unwrap()]);
    let told = format!("{}{}", ended.output, ended.errors);
    assert!(ended.well, "{told}");
    assert_eq!(told.matches(" passed for resource ").count(), objects.len(), "{told}");
}

/// What a chart of someone else renders that includes our container, with values set.
fn gateway(set: &[&str]) -> Option<Vec<Value>> {
    let home = gateway_chart();
    let mut arguments = Vec::new();
    arguments.extend(set.iter().flat_map(|set| ["--set", set]));
    helm(home.path().to_str().unwrap(), &[], &arguments).map(Result::unwrap)
}

/// That chart, with ours in its `charts/`.
fn gateway_chart() -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            if entry.is_dir() {
                copy(&entry, &to.join(name));
            } else {
                fs::copy(&entry, to.join(name)).unwrap();
            }
        }
    }
    let home = tempfile::tempdir().unwrap();
    copy(&Path::new(DATA).join("gateway"), home.path());
    copy(Path::new(CHART), &home.path().join("charts/kong-cert-reloader"));
    home
}

/// Finds the sidecar among a pod's containers of one sort.
fn sidecar<'a>(pod: &'a Value, containers: &str) -> Option<&'a Value> {
    pod[containers].as_array()?.iter().find(|container| container["name"] == "cert-reloader")
}

#[test]
fn a_deployment_of_someone_else_includes_the_container() {
    let Some(objects) = gateway(&[]) else { return };
    let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    let container = sidecar(pod, "containers").unwrap();
    let image =
        concat!("ghcr.io/kong-cert-reloader/kong-cert-reloader:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
    assert_eq!(container["args"], json!(["run"]));
    let security = &container["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(security["seccompProfile"], json!({"type": "RuntimeDefault"}));
    assert_eq!(container["resources"]["requests"]["memory"], "16Mi");
    assert_eq!(container["resources"]["limits"], json!({"memory": "64Mi"}));
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/livez", "port": "metrics"}));
    assert_eq!(container.get("readinessProbe"), None);
    let port = kong_cert_reloader::http::DEFAULT_PORT;
    assert_eq!(
        container["ports"],
        json!([{"name": "metrics", "containerPort": port, "protocol": "TCP"}])
    );

    let mounts: BTreeSet<(&str, &str)> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap()))
        .collect();
    let expected = [
        ("cert-api-example-com", "/etc/kong-certs/api.example.com"),
        ("cert-web", "/etc/kong-certs/web"),
        ("clients", "/etc/kong-cas/clients"),
        ("kong-cert-reloader-settings", "/etc/kong-cert-reloader"),
    ];
    assert_eq!(mounts, BTreeSet::from(expected));
    let volumes: BTreeSet<&str> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap())
        .collect();
    assert_eq!(volumes, expected.iter().map(|(name, _)| *name).collect());
    let named = &pod["volumes"][2]["configMap"]["name"];
    let config_map = objects.iter().find(|object| object["metadata"]["name"] == *named).unwrap();
    assert!(config_map["data"]["settings.yaml"].is_string(), "{config_map}");
    assert_eq!(settings(&objects).unwrap().admin.timeout.as_secs(), 5);
}

#[test]
fn the_variables_of_the_container_are_settings() {
    let Some(objects) = gateway(&[]) else { return };
    let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = sidecar(pod, "containers").unwrap()["env"].as_array().unwrap().clone();
    let value = |name: &str| {
        let found = variables.iter().find(|variable| variable["name"] == name);
        found.unwrap()["value"].as_str().unwrap()
    };
    assert_eq!(value("CERT_RELOADER__INSTANCE"), "gateway");
    assert_eq!(value("CERT_RELOADER__CONFIG"), "/etc/kong-cert-reloader/settings.yaml");
    let without_file =
        variables.iter().filter(|variable| variable["name"] != "CERT_RELOADER__CONFIG");
    let text = |value: &Value| value.as_str().unwrap().to_owned().into();
    let vars = without_file.map(|variable| (text(&variable["name"]), text(&variable["value"])));
    let settings = Settings::from_env(vars).unwrap();
    assert_eq!(settings.instance.as_str(), "gateway");
    assert_eq!(settings.certificates.len(), 1);
}

#[test]
fn a_native_sidecar_is_an_init_container_that_waits_for_nothing_but_itself() {
    let Some(objects) = gateway(&["kong-cert-reloader.container.native=true"]) else { return };
    let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(sidecar(pod, "containers"), None);
    let container = sidecar(pod, "initContainers").unwrap();
    assert_eq!(container["restartPolicy"], "Always");
    assert_eq!(container["startupProbe"]["httpGet"], json!({"path": "/livez", "port": "metrics"}));
}

#[test]
fn a_change_of_settings_restarts_the_pod() {
    let annotations = |set: &str| {
        let objects = gateway(&[set])?;
        let template = &of_kind(&objects, "Deployment")["spec"]["template"];
        Some(template["metadata"]["annotations"].clone())
    };
    let Some(before) = annotations("kong-cert-reloader.settings.hold=1m") else { return };
    assert!(before["checksum/kong-cert-reloader-settings"].is_string(), "{before}");
    assert_ne!(before, annotations("kong-cert-reloader.settings.hold=2m").unwrap());
    assert_eq!(before, annotations("kong-cert-reloader.settings.hold=1m").unwrap());
}

#[test]
fn an_image_is_named_by_tag_or_digest() {
    let image = |set: &str| {
        let objects = gateway(&[set])?;
        let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
        Some(sidecar(pod, "containers").unwrap()["image"].as_str().unwrap().to_owned())
    };
    let digest = format!("sha256:{}", "0a".repeat(32));
    let by_digest = format!("kong-cert-reloader.container.image.digest={digest}");
    let Some(named) = image(&by_digest) else { return };
    assert_eq!(named, format!("ghcr.io/kong-cert-reloader/kong-cert-reloader@{digest}"));
    let named = image("kong-cert-reloader.container.image.tag=edge").unwrap();
    assert_eq!(named, "ghcr.io/kong-cert-reloader/kong-cert-reloader:edge");
}
