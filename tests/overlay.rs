//! The overlays: what they give Kong's chart, against the settings that there are, and what that chart
//! makes of them.
//!
//! What Kong's chart rendered stands in `tests/data/helm/overlays`, as far as it is the gateway. Where
//! `KONG_CHART` names a directory with the chart, it is rendered anew and compared; after a change that is
//! meant, `UPDATE_GOLDEN=1 cargo test --test overlay` writes it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "the bans are the product's")]

#[path = "overlay/kongs_chart.rs"]
mod kongs_chart;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use kong_cert_reloader::http::DEFAULT_PORT;
use kong_cert_reloader::settings::{Listen, ProxyAddress, Settings};
use kongs_chart::{KongsChart, Rendered};
use serde_json::{Value, json};
use testkit::Tool;
use testkit::manifest::{self, document, documents};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/overlays");
const PREFIX: &str = "CERT_RELOADER__";

/// A file of `helm/overlays`.
struct Overlay {
    name: String,
    text: String,
    whole: Value,
}

impl Overlay {
    /// All of them.
    fn all() -> Vec<Self> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(DIRECTORY).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.is_file());
        paths.sort();
        let overlays: Vec<Self> = paths.iter().map(|path| Self::read(path)).collect();
        assert_eq!(overlays.len(), 7);
        overlays
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        Self { name, whole: document(&text), text }
    }

    fn named(name: &str) -> Self {
        Self::read(&Path::new(DIRECTORY).join(name).with_extension("yaml"))
    }

    /// Those that are values for Kong's chart.
    fn of_kongs_chart() -> impl Iterator<Item = Self> {
        Self::all().into_iter().filter(|overlay| !overlay.is_data_plane())
    }

    /// Whether it is an object for the Kong Operator.
    fn is_data_plane(&self) -> bool {
        self.whole["kind"] == "DataPlane"
    }

    /// Whether Kubernetes keeps the sidecar among the init containers.
    fn is_native(&self) -> bool {
        self.whole["deployment"]["initContainers"].is_array()
    }

    fn pod_spec(&self) -> &Value {
        &self.whole["spec"]["deployment"]["podTemplateSpec"]["spec"]
    }

    fn sidecar(&self) -> &Value {
        let deployment = &self.whole["deployment"];
        let containers = if self.is_data_plane() {
            &self.pod_spec()["containers"]
        } else if self.is_native() {
            &deployment["initContainers"]
        } else {
            &deployment["sidecarContainers"]
        };
        container(containers, "cert-reloader")
    }

    fn volumes(&self) -> &[Value] {
        let volumes = if self.is_data_plane() {
            &self.pod_spec()["volumes"]
        } else {
            &self.whole["deployment"]["userDefinedVolumes"]
        };
        volumes.as_array().unwrap()
    }

    /// What Kong's own container mounts of these volumes.
    fn kongs_mounts(&self) -> Vec<Mount> {
        let mounts = if self.is_data_plane() {
            &container(&self.pod_spec()["containers"], "proxy")["volumeMounts"]
        } else {
            &self.whole["deployment"]["userDefinedVolumeMounts"]
        };
        Mount::all(mounts)
    }

    /// What a setting of `kong.conf` is, if the overlay sets it.
    fn kongs(&self, setting: &str) -> Option<&str> {
        if !self.is_data_plane() {
            return self.whole["env"][setting].as_str();
        }
        let name = format!("KONG_{}", setting.to_uppercase());
        let variables =
            container(&self.pod_spec()["containers"], "proxy")["env"].as_array().unwrap();
        variables.iter().find(|variable| variable["name"] == *name)?["value"].as_str()
    }

    /// The sidecar's variables.
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned().into();
        let variables = self.sidecar()["env"].as_array().unwrap();
        variables
            .iter()
            .map(|variable| (text(&variable["name"]), text(&variable["value"])))
            .collect()
    }

    fn settings(&self) -> Settings {
        Settings::from_env(self.variables())
            .unwrap_or_else(|mistakes| panic!("{}: {mistakes}", self.name))
    }

    /// Every file and directory that the sidecar is told to read, `CERTS_DIR` aside.
    fn files(&self) -> Vec<PathBuf> {
        let settings = self.settings();
        let mut files: Vec<PathBuf> = self
            .variables()
            .into_iter()
            .filter(|(name, _)| {
                let name = name.to_str().unwrap();
                ["_FILE", "__FILE", "__DIR"].iter().any(|end| name.ends_with(end))
            })
            .map(|(_, value)| value.into())
            .collect();
        files.retain(|file| *file != settings.certs_dir);
        files
    }
}

/// A container among several.
fn container<'a>(containers: &'a Value, name: &str) -> &'a Value {
    let containers = containers.as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap()
}

/// Where a volume is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    volume: String,
    path: PathBuf,
}

impl Mount {
    /// Those in a list; each is of a whole volume, and for reading alone.
    fn all(list: &Value) -> Vec<Self> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .map(|mount| {
                assert_eq!(mount.get("subPath"), None, "kubelet does not update it: {mount}");
                assert_eq!(mount.get("subPathExpr"), None, "kubelet does not update it: {mount}");
                assert_eq!(mount["readOnly"], true, "{mount}");
                Self {
                    volume: mount["name"].as_str().unwrap().to_owned(),
                    path: mount["mountPath"].as_str().unwrap().into(),
                }
            })
            .collect()
    }
}

#[test]
fn every_variable_is_a_setting() {
    for overlay in Overlay::all() {
        let variables = overlay.variables();
        let ours = |(name, _): &(OsString, OsString)| name.to_str().unwrap().starts_with(PREFIX);
        assert!(variables.iter().all(ours), "{}: {variables:?}", overlay.name);
        assert_ne!(overlay.settings(), Settings::default(), "{}", overlay.name);
        let told = overlay.text.matches(PREFIX).count();
        assert_eq!(
            told,
            variables.len(),
            "{}: a variable stands in a comment, where it is not tested",
            overlay.name
        );
    }
}

#[test]
fn the_sidecar_talks_to_the_admin_api_that_the_values_open() {
    for overlay in Overlay::of_kongs_chart() {
        let listen = overlay.kongs("admin_listen").unwrap();
        let (address, scheme) = match listen.strip_suffix(" ssl") {
            Some(address) => (address, "https"),
            None => (listen, "http"),
        };
        assert!(address.starts_with("127.0.0.1:"), "{}: {listen}", overlay.name);
        let url = overlay.settings().admin.url.unwrap().to_string();
        assert_eq!(url, format!("{scheme}://{address}"), "{}", overlay.name);
    }
    let url = Overlay::named("dataplane").settings().admin.url;
    assert_eq!(url, None, "the Operator's Admin API is not ours");
}

#[test]
fn nothing_else_that_the_values_bring_writes_to_kong_or_opens_it() {
    for overlay in Overlay::of_kongs_chart() {
        assert_eq!(overlay.whole["ingressController"]["enabled"], false, "{}", overlay.name);
        assert_eq!(overlay.whole["admin"]["enabled"], false, "{}", overlay.name);
        // A page that manages Kong, with a NodePort unless told otherwise.
        assert_eq!(overlay.whole["manager"]["enabled"], false, "{}", overlay.name);
        assert_eq!(overlay.kongs("admin_gui_listen"), Some("off"), "{}", overlay.name);
        if overlay.whole["enterprise"]["enabled"] == true {
            for service in ["portal", "portalapi"] {
                assert_eq!(overlay.whole[service]["enabled"], false, "{}: {service}", overlay.name);
            }
        }
    }
}

#[test]
fn every_certificate_is_mounted_as_a_whole_volume_where_it_is_looked_for() {
    for overlay in Overlay::of_kongs_chart() {
        let settings = overlay.settings();
        let files = overlay.files();
        let is_told = |mount: &Mount| files.iter().any(|file| file.starts_with(&mount.path));
        let mounts = Mount::all(&overlay.sidecar()["volumeMounts"]);
        let certificates = mounts.iter().filter(|mount| !is_told(mount));
        let names: BTreeSet<&str> = certificates
            .map(|mount| {
                assert_eq!(
                    mount.path.parent(),
                    Some(&*settings.certs_dir),
                    "{}: {mount:?}",
                    overlay.name
                );
                mount.path.file_name().unwrap().to_str().unwrap()
            })
            .collect();
        assert!(names.contains("web"), "{}", overlay.name);
        for name in settings.certificates.keys() {
            let name = name.to_string();
            assert!(names.contains(&*name), "{}: {name} is set, but not mounted", overlay.name);
        }
    }
}

#[test]
fn every_file_that_the_sidecar_is_told_of_is_mounted_and_no_certificate_of_kongs() {
    for overlay in Overlay::all() {
        let (settings, mounts) =
            (overlay.settings(), Mount::all(&overlay.sidecar()["volumeMounts"]));
        for file in overlay.files() {
            let is_mounted = mounts.iter().any(|mount| file.starts_with(&mount.path));
            assert!(is_mounted, "{}: {} is not mounted", overlay.name, file.display());
            assert!(!file.starts_with(&settings.certs_dir), "{}: {}", overlay.name, file.display());
        }
    }
}

#[test]
fn every_volume_is_mounted_and_every_mount_has_its_volume() {
    for overlay in Overlay::all() {
        let volumes: Vec<&str> =
            overlay.volumes().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        let distinct: BTreeSet<&str> = volumes.iter().copied().collect();
        assert_eq!(distinct.len(), volumes.len(), "{}: {volumes:?}", overlay.name);
        let ours = Mount::all(&overlay.sidecar()["volumeMounts"]);
        let kongs = overlay.kongs_mounts();
        let mounted: BTreeSet<&str> =
            ours.iter().chain(&kongs).map(|mount| &*mount.volume).collect();
        assert_eq!(mounted, distinct, "{}", overlay.name);
    }
}

#[test]
fn gateway_and_migrations_start_without_what_kong_does_not_need() {
    for overlay in Overlay::all() {
        let kongs = overlay.kongs_mounts();
        for volume in overlay.volumes().iter().filter(|volume| volume["secret"].is_object()) {
            let is_kongs = kongs.iter().any(|mount| volume["name"] == *mount.volume);
            let is_optional = volume["secret"]["optional"] == true;
            // Without a client certificate the sidecar of the hardened one has nothing to say.
            let is_needed = is_kongs || volume["name"] == "admin-client";
            assert_eq!(is_optional, !is_needed, "{}: {volume}", overlay.name);
        }
    }
}

#[test]
fn the_sidecar_has_no_rights_and_little_memory() {
    for overlay in Overlay::all() {
        let (name, sidecar, settings) = (&overlay.name, overlay.sidecar(), overlay.settings());
        // Kong's user, who alone may signal it.
        let user = if settings.reload.files.is_empty() { 65532 } else { 1000 };
        let expected = json!({
            "runAsNonRoot": true,
            "runAsUser": user,
            "runAsGroup": user,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(sidecar["securityContext"], expected, "{name}");
        let limit = if overlay.kongs("database") == Some("off") { "128Mi" } else { "64Mi" };
        let expected =
            json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": limit}});
        assert_eq!(sidecar["resources"], expected, "{name}");
    }
}

#[test]
fn probes_ask_only_whether_the_sidecar_hangs() {
    for overlay in Overlay::all() {
        let (name, sidecar) = (&overlay.name, overlay.sidecar());
        let port = &sidecar["ports"][0]["name"];
        let livez = json!({"path": "/livez", "port": port});
        assert_eq!(sidecar["livenessProbe"]["httpGet"], livez, "{name}");
        assert_eq!(sidecar.get("readinessProbe"), None, "{name}: it would count for the whole pod");
        let startup = sidecar.get("startupProbe").map(|probe| &probe["httpGet"]);
        assert_eq!(startup, overlay.is_native().then_some(&livez), "{name}");
        let policy = sidecar.get("restartPolicy").and_then(Value::as_str);
        assert_eq!(policy, overlay.is_native().then_some("Always"), "{name}");
    }
}

#[test]
fn the_port_is_the_one_that_it_listens_on() {
    for overlay in Overlay::all() {
        assert_eq!(overlay.settings().listen, Listen::Default, "{}", overlay.name);
        // The Operator's own container has a port of that name.
        let port = if overlay.is_data_plane() { "cert-metrics" } else { "metrics" };
        let expected = json!([{"name": port, "containerPort": DEFAULT_PORT, "protocol": "TCP"}]);
        assert_eq!(overlay.sidecar()["ports"], expected, "{}", overlay.name);
        assert_eq!(overlay.sidecar()["args"], json!(["run"]), "{}", overlay.name);
    }
}

#[test]
fn the_image_is_that_of_this_version() {
    for overlay in Overlay::all() {
        let image =
            concat!("ghcr.io/kong-cert-reloader/kong-cert-reloader:", env!("CARGO_PKG_VERSION"));
        assert_eq!(overlay.sidecar()["image"], image, "{}", overlay.name);
    }
}

#[test]
fn a_pair_that_kong_reads_is_reloaded_from_where_kong_reads_it() {
    let mut reloaded = 0;
    for overlay in Overlay::all() {
        let files = overlay.settings().reload.files;
        let (cert, key) = (overlay.kongs("ssl_cert"), overlay.kongs("ssl_cert_key"));
        assert_eq!(files.len(), usize::from(cert.is_some()), "{}", overlay.name);
        for file in files.values() {
            assert_eq!(
                (cert.map(Path::new), key.map(Path::new)),
                (Some(&*file.cert), Some(&*file.key))
            );
            let ours = Mount::all(&overlay.sidecar()["volumeMounts"]);
            let kongs = overlay.kongs_mounts();
            let shared = ours.iter().filter(|mount| kongs.contains(mount));
            assert!(
                shared.into_iter().any(|mount| file.cert.starts_with(&mount.path)),
                "{kongs:?}"
            );
            // Without an Admin API nobody tells where the proxy port is.
            let is_found = file.address == Some(ProxyAddress::Auto);
            assert_eq!(is_found, !overlay.is_data_plane(), "{}: {:?}", overlay.name, file.address);
            reloaded += 1;
        }
    }
    assert_eq!(reloaded, 2);
    assert_eq!(Overlay::named("dataplane").pod_spec()["shareProcessNamespace"], true);
}

#[test]
fn a_kong_without_a_database_and_its_sidecar_read_the_same_file() {
    let overlay = Overlay::named("dbless");
    let file = overlay.settings().declarative.file.unwrap();
    assert_eq!(file.file_name().unwrap(), "kong.yml", "as Kong's chart wants the key to be called");
    let mounts = Mount::all(&overlay.sidecar()["volumeMounts"]);
    let mount = mounts.iter().find(|mount| file.starts_with(&mount.path)).unwrap();
    let volume = overlay.volumes().iter().find(|volume| volume["name"] == *mount.volume).unwrap();
    assert_eq!(volume["configMap"]["name"], overlay.whole["dblessConfig"]["configMap"]);
}

#[test]
fn the_hardened_admin_api_wants_a_certificate_and_gets_one() {
    let overlay = Overlay::named("hardened");
    assert_eq!(overlay.kongs("nginx_admin_ssl_verify_client"), Some("on"));
    let kongs = overlay.kongs_mounts();
    for setting in ["admin_ssl_cert", "admin_ssl_cert_key", "nginx_admin_ssl_client_certificate"] {
        let file = Path::new(overlay.kongs(setting).unwrap());
        assert!(kongs.iter().any(|mount| file.starts_with(&mount.path)), "{setting}");
    }
    let admin = overlay.settings().admin;
    assert!(admin.ca_file.is_some() && admin.client.is_some() && admin.server_name.is_some());
    let ours = Mount::all(&overlay.sidecar()["volumeMounts"]);
    assert!(ours.iter().all(|mount| !kongs.contains(mount)), "Kong's key is not the sidecar's");
}

#[test]
fn the_licence_is_not_hidden_by_one_that_the_chart_brings() {
    let overlay = Overlay::named("enterprise");
    assert_eq!(overlay.settings().licenses.len(), 1);
    assert_eq!(overlay.whole["enterprise"].get("license_secret"), None);
    assert_eq!(overlay.kongs("license_data"), None);
    assert_eq!(overlay.kongs("license_path"), None);
}

/// What `kubernetes-validate` says to `objects`; nothing where it is not installed.
fn validate(objects: &[Value], core: usize) {
    let Some(validate) = Tool::find("kubernetes-validate") else { return };
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("objects.yaml");
    fs::write(&file, manifest::text(objects)).unwrap();
    let ended = validate.run(&["--strict", file.to_str().unwrap()]);
    let told = format!("{}{}", ended.output, ended.errors);
    assert!(ended.well, "{told}");
    assert_eq!(told.matches(" passed for resource ").count(), core, "{told}");
}

#[test]
fn kubernetes_takes_the_container_and_its_volumes() {
    let labels = json!({"app": "gateway"});
    let pods: Vec<Value> = Overlay::all()
        .iter()
        .map(|overlay| {
            let kong = json!({"name": "proxy", "image": "kong:3.9"});
            let mut spec = json!({"containers": [kong], "volumes": overlay.volumes()});
            if overlay.is_data_plane() {
                spec = overlay.pod_spec().clone();
            } else if overlay.is_native() {
                spec["initContainers"] = json!([overlay.sidecar()]);
            } else {
                spec["containers"].as_array_mut().unwrap().push(overlay.sidecar().clone());
            }
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": overlay.name},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec},
                },
            })
        })
        .collect();
    validate(&pods, pods.len());
}

const POST_RENDERER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/helm/overlays/share-process-namespace");

/// An object whose pods have one container.
fn workload(kind: &str, component: &str) -> Value {
    let labels =
        json!({"app.kubernetes.io/name": "kong", "app.kubernetes.io/component": component});
    json!({
        "apiVersion": if kind == "Job" { "batch/v1" } else { "apps/v1" },
        "kind": kind,
        "metadata": {"name": format!("{kind}-{component}").to_lowercase(), "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "kong:3.9"}]}}},
    })
}

#[test]
fn the_post_renderer_shares_the_processes_of_kongs_pods_and_changes_nothing_else() {
    if Tool::find("kubectl").is_none() {
        return;
    }
    let sh = Tool::find("sh").unwrap();
    let mut objects = vec![
        workload("DaemonSet", "app"),
        workload("Deployment", "app"),
        workload("Deployment", "other"),
        workload("Job", "init-migrations"),
    ];
    let ended = sh.feed(&manifest::text(&objects), &[&format!("{POST_RENDERER}/render")]);
    assert!(ended.well, "{}", ended.errors);
    for object in &mut objects[..2] {
        object["spec"]["template"]["spec"]["shareProcessNamespace"] = true.into();
    }
    let by_name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut rendered = documents(&ended.output);
    rendered.sort_by_key(by_name);
    objects.sort_by_key(by_name);
    assert_eq!(rendered, objects);
}

fn names(containers: &Value) -> Vec<&str> {
    let containers = containers.as_array().map(Vec::as_slice).unwrap_or_default();
    containers.iter().map(|container| container["name"].as_str().unwrap()).collect()
}

#[test]
fn every_overlay_has_a_golden_and_every_golden_an_overlay() {
    let overlays: Vec<String> = Overlay::of_kongs_chart().map(|overlay| overlay.name).collect();
    assert_eq!(kongs_chart::goldens(), overlays);
}

#[test]
fn kongs_chart_makes_the_pod_that_the_values_mean() {
    let chart = KongsChart::find();
    for overlay in Overlay::of_kongs_chart() {
        let name = &overlay.name;
        let rendered = chart.as_ref().map(|chart| chart.render(name, &[]));
        if let Some(rendered) = &rendered {
            rendered.is_as_the_golden_says(name);
        }
        let rendered = rendered.unwrap_or_else(|| Rendered::golden(name));
        let pod = rendered.kong();
        if overlay.is_native() {
            let expected = ["clear-stale-pid", "cert-reloader", "wait-for-db"];
            assert_eq!(names(&pod["initContainers"]), expected);
            assert_eq!(names(&pod["containers"]), ["proxy"]);
        } else {
            assert_eq!(names(&pod["containers"]), ["cert-reloader", "proxy"], "{name}");
        }
        let list = if overlay.is_native() { "initContainers" } else { "containers" };
        assert_eq!(container(&pod[list], "cert-reloader"), overlay.sidecar(), "{name}");

        let kong = container(&pod["containers"], "proxy");
        let variable = |name: &str| {
            let variables = kong["env"].as_array().unwrap();
            variables.iter().find(|variable| variable["name"] == name)?["value"].as_str()
        };
        assert_eq!(variable("KONG_ADMIN_LISTEN"), overlay.kongs("admin_listen"), "{name}");
        assert_eq!(variable("KONG_DATABASE"), overlay.kongs("database"), "{name}");
        assert_eq!(variable("KONG_ADMIN_GUI_LISTEN"), Some("off"), "{name}");
        assert_eq!(variable("KONG_KIC"), None, "{name}: the controller is on");
        assert_eq!(variable("KONG_LICENSE_DATA"), None, "{name}");
        assert_eq!(kong["securityContext"]["runAsUser"], 1000, "{name}");
        assert_eq!(pod["securityContext"].get("fsGroup"), None, "{name}");
        let volumes = names(&pod["volumes"]);
        let mounts = Mount::all(&overlay.sidecar()["volumeMounts"]);
        assert!(
            mounts.iter().all(|mount| volumes.contains(&&*mount.volume)),
            "{name}: {volumes:?}"
        );
        let is_there = |volume| pod["volumes"].as_array().unwrap().contains(volume);
        assert!(overlay.volumes().iter().all(is_there), "{name}: {}", pod["volumes"]);
        assert_eq!(rendered.names("Service"), ["kong-kong-proxy"], "{name}: what else is open?");
        if overlay.kongs("database") == Some("off") {
            assert_eq!(variable("KONG_DECLARATIVE_CONFIG"), Some("/kong_dbless/kong.yml"));
            let config_map = &overlay.whole["dblessConfig"]["configMap"];
            let of_it = |volume: &&Value| volume["configMap"]["name"] == *config_map;
            assert_eq!(pod["volumes"].as_array().unwrap().iter().filter(of_it).count(), 2);
        } else if chart.is_some() {
            let jobs = rendered.pods("Job");
            assert_eq!(jobs.len(), 3, "{name}");
            for job in jobs {
                assert_eq!(
                    names(&job["initContainers"]).contains(&"cert-reloader"),
                    overlay.is_native()
                );
            }
        }
        let core = rendered.objects.len();
        validate(&rendered.objects, core);
    }
}

#[test]
fn the_post_renderer_goes_with_kongs_chart() {
    let Some(mut chart) = KongsChart::find() else { return };
    if Tool::find("kubectl").is_none() {
        return;
    }
    let plain = chart.render("default-certificate", &[]);
    assert_eq!(
        plain.kong().get("shareProcessNamespace"),
        None,
        "the chart can do it by itself now"
    );
    let plugins = tempfile::tempdir().unwrap();
    let plugin = plugins.path().join("share-process-namespace");
    std::os::unix::fs::symlink(POST_RENDERER, &plugin).unwrap();
    chart.helm = chart.helm.with("HELM_PLUGINS", plugins.path());
    let version = chart.helm.run(&["version", "--short"]).output;
    let program = format!("{POST_RENDERER}/render");
    let renderer = if version.starts_with("v3") { &*program } else { "share-process-namespace" };
    let rendered = chart.render("default-certificate", &["--post-renderer", renderer]);
    assert_eq!(rendered.kong()["shareProcessNamespace"], true);
    for job in rendered.pods("Job") {
        assert_eq!(job.get("shareProcessNamespace"), None);
    }
    assert_eq!(rendered.objects.len(), plain.objects.len());
}
