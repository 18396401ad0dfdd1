//! How long it takes from a swap until a client gets the new chain: with the stand-in, and with a real
//! Kong where `KONG_ADMIN_URL` and `KONG_PROXY_TLS` say where one is.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use super::certificates::{renewals, swap};
use super::contender::{Settings, sidecar_at};
use super::percentiles::{Durations, ms};
use testkit::http_client::exchange;
use testkit::{KeyKind, KongStandIn, Request, SecretVolume, TlsClient};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

/// What changes more often than ten times a minute is slowed down.
const BINDINGS: usize = 40;
const SWAPS_OF_EACH: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);
/// Its objects are known by it, and removed.
const INSTANCE: &str = "kong-cert-reloader-bench";

pub(crate) fn print(_: Option<usize>) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let kong = KongStandIn::start().await;
        tell("the stand-in", &measure(&kong.admin_url(), kong.proxy_addr()).await);
        let told = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(admin), Some(proxy)) = (told("KONG_ADMIN_URL"), told("KONG_PROXY_TLS")) else {
            println!("not measured: a real Kong; KONG_ADMIN_URL and KONG_PROXY_TLS name one");
            return;
        };
        let took = measure(&admin, address(&proxy)).await;
        clean(address(admin.trim_start_matches("http://").trim_end_matches('/'))).await;
        tell("a real Kong", &took);
    });
}

fn address(text: &str) -> SocketAddr {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).expect(text)
}

fn tell(kong: &str, took: &Durations) {
    println!(
        "swap → a handshake with {kong} gets the new chain: {} ms p50, {} ms p99 of {}",
        ms(took.percentile(0.5)),
        ms(took.percentile(0.99)),
        took.count(),
    );
}

async fn measure(admin: &str, proxy: SocketAddr) -> Durations {
    let home = tempfile::tempdir().unwrap();
    let name = |number| format!("web{number}.bench.test");
    let bindings: Vec<_> = (0..BINDINGS)
        .map(|number| {
            let volume = SecretVolume::mount(home.path().join(format!("web{number}")));
            let mut pairs = renewals(&name(number), KeyKind::P256, SWAPS_OF_EACH + 1);
            let first = pairs.remove(0);
            swap(&volume, &first, || ());
            (volume, first, pairs)
        })
        .collect();
    let proxy_address = proxy.to_string();
    let settings: &Settings<'_> =
        &[("INSTANCE", INSTANCE), ("PROXY__ADDRESS", &proxy_address), ("RESYNC_INTERVAL", "24h")];
    let _running = sidecar_at(home.path(), admin, settings).unwrap();
    for (number, (_, first, _)) in bindings.iter().enumerate() {
        until_served(&name(number), first.chain_ders(), proxy).await;
    }
    let mut took = Durations::default();
    for turn in 0..SWAPS_OF_EACH {
        for (number, (volume, _, pairs)) in bindings.iter().enumerate() {
            let swapped = swap(volume, &pairs[turn], Instant::now);
            until_served(&name(number), pairs[turn].chain_ders(), proxy).await;
            took.add(swapped.elapsed());
            sleep(Duration::from_millis(fastrand::u64(10..30))).await;
        }
    }
    took
}

/// One handshake after the other.
async fn until_served(name: &str, chain: &[Vec<u8>], proxy: SocketAddr) {
    let client = TlsClient::new().sni(name);
    let is_served = async {
        while client.chain(proxy).await.ok().as_deref() != Some(chain) {
            sleep(Duration::from_micros(200)).await;
        }
    };
    timeout(PATIENCE, is_served).await.expect(name);
}

/// Removes what was made in a Kong that goes on.
async fn clean(admin: SocketAddr) {
    let list = format!("/certificates?size=1000&tags=managed-by:kong-cert-reloader:{INSTANCE}");
    let found = exchange(admin, &Request::new("GET", &list)).await.unwrap().value();
    for object in found["data"].as_array().unwrap() {
        let path = format!("/certificates/{}", object["id"].as_str().unwrap());
        exchange(admin, &Request::new("DELETE", &path)).await.unwrap();
    }
}
