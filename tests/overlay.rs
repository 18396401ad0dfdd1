//! The values for Kong's chart, against the settings that there are.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::{Config, File, FileFormat};
use kong_cert_reloader::settings::{Listen, Settings};
use serde::Deserialize;

const OVERLAY: &str = include_str!("../helm/overlays/database.yaml");
const PREFIX: &str = "CERT_RELOADER__";

#[derive(Debug, Deserialize)]
struct Values {
    env: Env,
    deployment: Deployment,
}

#[derive(Debug, Deserialize)]
struct Env {
    database: String,
    admin_listen: String,
}

#[derive(Debug, Deserialize)]
struct Deployment {
    #[serde(rename = "sidecarContainers")]
    sidecar_containers: Vec<Container>,
    #[serde(rename = "userDefinedVolumes")]
    user_defined_volumes: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Container {
    args: Vec<String>,
    env: Vec<Variable>,
    ports: Vec<Port>,
    #[serde(rename = "volumeMounts")]
    volume_mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: String,
    #[serde(rename = "containerPort")]
    container_port: u16,
}

#[derive(Debug, Deserialize)]
struct Mount {
    name: String,
    #[serde(rename = "mountPath")]
    mount_path: String,
    #[serde(rename = "subPath")]
    sub_path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

fn values() -> Values {
    let yaml = File::from_str(OVERLAY, FileFormat::Yaml);
    Config::builder().add_source(yaml).build().unwrap().try_deserialize().unwrap()
}

fn sidecar() -> Container {
    values().deployment.sidecar_containers.remove(0)
}

fn settings(variables: &[Variable]) -> Settings {
    let vars = variables.iter().map(|var| (var.name.clone().into(), var.value.clone().into()));
    Settings::from_env(vars).unwrap()
}

#[test]
fn every_variable_is_a_setting() {
    let variables = sidecar().env;
    assert!(variables.iter().all(|variable| variable.name.starts_with(PREFIX)), "{variables:?}");
    assert_ne!(settings(&variables), Settings::default());
    let told = OVERLAY.matches(PREFIX).count();
    assert_eq!(told, variables.len(), "a variable stands in a comment, where it is not tested");
}

#[test]
fn the_sidecar_talks_to_the_admin_api_that_the_values_open() {
    let Values { env, .. } = values();
    assert_eq!(env.database, "postgres");
    let url = settings(&sidecar().env).admin.url.unwrap().to_string();
    assert_eq!(url, format!("http://{}", env.admin_listen));
}

#[test]
fn every_certificate_is_mounted_as_a_whole_volume_where_it_is_looked_for() {
    let (container, volumes) = (sidecar(), values().deployment.user_defined_volumes);
    let volumes: BTreeSet<&str> = volumes.iter().map(|volume| &*volume.name).collect();
    let settings = settings(&container.env);
    let mounts: BTreeMap<&str, &Mount> =
        container.volume_mounts.iter().map(|mount| (&*mount.name, mount)).collect();
    assert_eq!(mounts.keys().copied().collect::<BTreeSet<_>>(), volumes);
    let mut names = BTreeSet::new();
    for mount in mounts.values() {
        let path = Path::new(&mount.mount_path);
        assert_eq!(path.parent(), Some(&*settings.certs_dir), "{mount:?}");
        assert_eq!(mount.sub_path, None, "kubelet does not update it: {mount:?}");
        names.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in settings.certificates.keys() {
        assert!(names.contains(&name.to_string()), "{name} is set, but not mounted");
    }
}

#[test]
fn the_port_is_the_one_that_it_listens_on() {
    let container = sidecar();
    assert_eq!(settings(&container.env).listen, Listen::Default);
    let ports: Vec<_> =
        container.ports.iter().map(|port| (&*port.name, port.container_port)).collect();
    assert_eq!(ports, [("metrics", kong_cert_reloader::http::DEFAULT_PORT)]);
    assert_eq!(container.args, ["run"]);
}
