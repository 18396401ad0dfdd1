//! Pairs to swap in, made beforehand: making them is no part of what is measured.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::{CertifiedPair, KeyKind, Pki, SecretVolume};

/// `count` pairs for `name`, each begun a second after the one before, with their issuer. Those of RSA
/// share a key: a bench need not wait for hundreds of them.
pub(crate) fn renewals(name: &str, kind: KeyKind, count: usize) -> Vec<CertifiedPair> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or_default();
    let pki = Pki::at(now);
    let issuer = pki.intermediate("Bench Issuing CA");
    let leaf = pki.leaf(&[name]).issuer(&issuer).kind(kind);
    let leaf = match kind {
        KeyKind::P256 => leaf,
        _ => leaf.clone().key(leaf.issue().key()),
    };
    let begun = |number: usize| now - 86_400 + i64::try_from(number).unwrap_or_default();
    let issue = |number| leaf.clone().not_before(begun(number)).issue();
    (0..count).map(issue).collect()
}

/// Files as cert-manager writes them.
pub(crate) fn files(pair: &CertifiedPair) -> [(&'static str, Vec<u8>); 2] {
    [("tls.crt", pair.chain_pem().into_bytes()), ("tls.key", pair.key_pem().into_bytes())]
}

/// Publishes `pair` as kubelet does; `at_swap` is called just before the rename that puts it in force.
pub(crate) fn swap<T>(
    volume: &SecretVolume,
    pair: &CertifiedPair,
    at_swap: impl FnOnce() -> T,
) -> T {
    let files = files(pair);
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    let prepared = volume.prepare(&files).expect("a generation of its own");
    let at = at_swap();
    prepared.swap().clean_up();
    at
}

/// A line of base64 that only this PEM has; no line break is in it, so that it is found in JSON, too.
pub(crate) fn mark(pem: &str) -> String {
    // Of a certificate the signature, of a key what is no header.
    let mut lines = pem.lines().filter(|line| line.len() == 64);
    lines.next_back().unwrap_or_default().to_owned()
}
