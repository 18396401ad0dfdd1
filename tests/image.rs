//! The image that the Dockerfile makes of a built program, and the program in it as Kubernetes
//! starts it: process 1, a user without a name, a read-only root that holds nothing else.
//!
//! The program is the one that is shipped: `KONG_CERT_RELOADER_STATIC` names it, and `.ci/run`
//! builds it. Without it, without buildah or the rights of root, this is told and not tested.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "a test reads what it likes")]

#[path = "image/built.rs"]
mod built;
#[path = "image/container.rs"]
mod container;
#[path = "image/name_server.rs"]
mod name_server;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use built::Image;
use container::{Pod, Process};
use name_server::NameServer;
use serde_json::{Value, json};
use testkit::{CertifiedPair, KongStandIn, Pki, TlsClient};

/// Where the program is in the image.
const PROGRAM: &str = "usr/local/bin/kong-cert-reloader";
/// Bytes that a node has to pull at most; it was 4.5 MB when this was written.
const LARGEST: u64 = 5_500_000;

#[test]
fn the_image_holds_one_static_file_and_tells_what_it_is() {
    let Some(image) = Image::build() else { return };

    assert_eq!(image.leaves(), [Path::new(PROGRAM)]);
    let file = image.root().join(PROGRAM);
    assert!(!has_interpreter(&fs::read(&file).unwrap()), "it needs libraries that are not there");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(image.size <= LARGEST, "{} bytes to pull", image.size);

    let config = &image.config;
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!([format!("/{PROGRAM}")]));
    assert_eq!(config["Cmd"], Value::Null);
    assert_eq!(config["ExposedPorts"], json!({"9797/tcp": {}}));
    assert_eq!(config["Env"], json!(["PATH=/usr/local/bin"]), "`kubectl exec` looks there");
    let label = |name: &str| &config["Labels"][format!("org.opencontainers.image.{name}")];
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("source"), env!("CARGO_PKG_REPOSITORY"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("version"), "1.2.3");
    assert_eq!(label("revision"), "0123abc");
}

#[tokio::test]
async fn the_program_does_its_work_in_the_image_and_is_probed_there() {
    let Some(image) = Image::build() else { return };
    let (kong, pki, pod) = (KongStandIn::start().await, Pki::new(), Pod::of(image, &[]));
    let first = pki.pair(&["web.test"]);
    pod.publish(&first);
    let mut sidecar = pod.sidecar(&[("ADMIN__URL", &kong.admin_url())]).await;

    let program = Process::innermost(sidecar.pid());
    assert_eq!(program.status("NSpid").last().unwrap(), "1");
    assert_eq!(program.status("Uid"), ["65532"; 4]);
    assert_eq!(program.status("Gid"), ["65532"; 4]);
    assert_eq!(program.status("Groups"), [""; 0]);
    assert_eq!(program.status("CapEff"), ["0000000000000000"]);
    assert_eq!(program.status("NoNewPrivs"), ["1"]);

    sidecar.until("web", in_sync_with(&first)).await;
    assert_eq!(served(&kong).await, first.chain_ders());
    let renewed = pki.pair(&["web.test"]);
    pod.publish(&renewed);
    sidecar.until("web", in_sync_with(&renewed)).await;
    assert_eq!(served(&kong).await, renewed.chain_ders());

    let address = sidecar.address().to_string();
    let probe = |what: &str| pod.command(&["probe", what], &[("LISTEN", &address)]);
    for what in ["livez", "readyz"] {
        let answer = probe(what);
        assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    }
    let (status, metrics) = sidecar.page("/metrics").await;
    assert_eq!(status, 200);
    // From /proc, as this user sees it.
    assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");

    program.terminate();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    let answer = probe("livez");
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
}

#[tokio::test]
async fn the_name_of_the_admin_api_is_looked_up_as_in_a_cluster() {
    const NAME: &str = "kong-admin.kong.svc.cluster.local";
    let Some(image) = Image::build() else { return };
    let Some(names) = NameServer::of(NAME).await else { return };
    let (kong, pki) = (KongStandIn::start().await, Pki::new());
    let pod = Pod::of(image, &[("resolv.conf", &names.resolv_conf())]);
    pod.publish(&pki.pair(&["web.test"]));

    let url = format!("http://kong-admin.kong:{}", kong.admin_addr().port());
    // The name is not one of this host, as far as the program knows.
    let settings = [("ADMIN__URL", url.as_str()), ("ADMIN__ALLOW_INSECURE", "true")];
    let sidecar = pod.sidecar(&settings).await;
    sidecar.until_state("web", "in_sync").await;
    assert!(names.asked().contains(NAME), "{:?}", names.asked());
}

#[test]
fn the_image_is_built_by_the_same_rust_as_everything_else() {
    let dockerfile = include_str!("../Dockerfile");
    let toolchain = include_str!("../rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let version = channel.trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{version}-slim-")));
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")));
}

/// The build itself takes Docker; but cargo reads the whole manifest before it misses a program.
#[test]
fn what_reaches_the_builder_is_all_that_cargo_asks_for() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().unwrap();
    let ignored = fs::read_to_string(repository.join(".dockerignore")).unwrap();
    let passed: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(passed.contains(&".cargo"), "the linker's settings are in there: {passed:?}");
    for name in passed.into_iter().filter(|name| repository.join(name).exists()) {
        let place = context.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(repository.join(name), place).unwrap();
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--locked", "--bin", "none"]).current_dir(context.path());
    let told = String::from_utf8(cargo.output().unwrap().stderr).unwrap();
    assert!(told.contains("no bin target named `none`"), "{told}");
}

fn in_sync_with(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let bytes = pair.leaf_sha256();
    let leaf = bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    move |shown| shown["state"] == "in_sync" && shown["kong"]["leaf_sha256"][0] == leaf.as_str()
}

async fn served(kong: &KongStandIn) -> Vec<Vec<u8>> {
    TlsClient::new().sni("web.test").chain(kong.proxy_addr()).await.unwrap()
}

/// Does this program ask for another one that loads its libraries?
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    assert_eq!(elf[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let start = u64::from_le_bytes(elf[32..40].try_into().unwrap());
    let (start, size, count) = (usize::try_from(start).unwrap(), half(54), half(56));
    let kind = |header: &[u8]| u32::from_le_bytes(header[..4].try_into().unwrap());
    elf[start..].chunks(size).take(count).any(|header| kind(header) == PT_INTERP)
}
