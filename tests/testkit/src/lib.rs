//! What the tests and the example stand on.
#![allow(clippy::unwrap_used, reason = "a test kit that cannot go on fails the test that asked")]
#![allow(clippy::disallowed_methods, reason = "the bans are the product's")]

/// A real browser.
pub mod browser;
/// A client that sends exactly what it is told.
pub mod http_client;
/// Kong's rules, without sockets.
pub mod kong_model;
/// Kubernetes objects, as values to compare.
pub mod manifest;
/// A real nginx, run as a process.
pub mod nginx_process;
/// Certificates of every shape.
pub mod pki;
/// A Secret volume, published as kubelet publishes it.
pub mod secret_volume;
/// The program itself, run as a process.
pub mod sidecar_process;
/// A Kong to talk to: Admin API and TLS proxy port.
pub mod stand_in;
/// A client that looks at what a TLS port serves.
pub mod tls_client;
/// TLS before a plain port.
pub mod tls_front;
/// Programs that tests use where they are installed.
pub mod tool;

pub use browser::{Browser, Window};
pub use kong_model::{Answer, KongModel, Request};
pub use nginx_process::NginxProcess;
pub use pki::{
    Authority, CertifiedPair, KeyKind, KeyPurpose, LeafBuilder, Pki, TestKey, pem_block,
};
pub use secret_volume::SecretVolume;
pub use sidecar_process::{SidecarProcess, with_settings};
pub use stand_in::{Fault, Handshake, KongStandIn};
pub use tls_client::TlsClient;
pub use tls_front::TlsFront;
pub use tool::Tool;

/// Tells what is left out for want of something that `.ci/run` fetches. Where CI is set it is a panic: nobody
/// reads along there, and what is not tested would pass.
pub fn missing(what: &str) {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!ci, "CI has to test it: {what}");
    not_tested(what);
}

/// Tells what a test leaves out here, even where the output of tests is captured.
pub fn not_tested(what: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("not tested: {what}\n"));
}
