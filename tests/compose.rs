//! `docker-compose.yml`, against the settings and commands that there are. No Docker runs here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use kong_cert_reloader::settings::Settings;
use serde_json::{Value, json};
use testkit::manifest::document;

const COMPOSE: &str = include_str!("../docker-compose.yml");

fn service(name: &str) -> Value {
    document(COMPOSE)["services"][name].clone()
}

/// The sidecar's variables, read as the sidecar reads them.
fn settings() -> Settings {
    let sidecar = service("cert-reloader");
    let variables = sidecar["environment"].as_object().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned().into();
    Settings::from_env(variables.iter().map(|(name, value)| (name.into(), text(value)))).unwrap()
}

#[test]
fn the_sidecar_talks_to_the_admin_api_of_the_kong_whose_network_it_shares() {
    assert_eq!(service("cert-reloader")["network_mode"], "service:kong");
    let listen = service("kong")["environment"]["KONG_ADMIN_LISTEN"].as_str().unwrap().to_owned();
    let url = settings().admin.url.unwrap().to_string();
    assert_eq!(url, format!("http://{listen}"));
    let ports = service("kong")["ports"].as_array().unwrap().clone();
    assert!(ports.iter().all(|port| !port.as_str().unwrap().contains("8001")), "{ports:?}");
}

#[test]
fn migrations_and_kong_have_the_same_database() {
    assert_eq!(service("migrations")["environment"], service("kong")["environment"]);
    assert_eq!(service("migrations")["image"], service("kong")["image"]);
}

#[test]
fn certificates_are_mounted_as_a_directory_where_they_are_looked_for() {
    let directory = settings().certs_dir;
    let expected = format!("./certs:{}:ro", directory.display());
    assert_eq!(service("cert-reloader")["volumes"], json!([expected]));
    assert!(include_str!("../.gitignore").lines().any(|line| line == "/certs"), "keys in git");
}

#[test]
fn the_sidecar_has_no_rights_and_little_memory() {
    let sidecar = service("cert-reloader");
    assert_eq!(sidecar["user"], "65532:65532");
    assert_eq!(sidecar["read_only"], true);
    assert_eq!(sidecar["cap_drop"], json!(["ALL"]));
    assert_eq!(sidecar["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(sidecar["mem_limit"], "64m");
    assert_eq!(sidecar.get("privileged"), None);
    assert_eq!(sidecar.get("pid"), None);
}

#[test]
fn the_health_check_is_a_command_of_the_program() {
    let sidecar = service("cert-reloader");
    let check = sidecar["healthcheck"]["test"].as_array().unwrap();
    let words: Vec<&str> = check.iter().map(|word| word.as_str().unwrap()).collect();
    let ["CMD", "/usr/local/bin/kong-cert-reloader", arguments @ ..] = &*words else {
        panic!("{words:?}")
    };
    let mut probe = Command::new(env!("CARGO_BIN_EXE_kong-cert-reloader"));
    // A port on which nobody is: 1 is a no, 2 would be a wrong usage.
    let probe = probe.args(arguments).env_clear().env("CERT_RELOADER__LISTEN", "127.0.0.1:1");
    assert_eq!(probe.output().unwrap().status.code(), Some(1));
}
