//! The scenarios of `end_to_end/scenarios.rs` against a stand-in Kong, and their cleaning up.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and has a clock"
)]

#[path = "end_to_end/cleaning.rs"]
mod cleaning;
#[path = "end_to_end/scenarios.rs"]
mod scenarios;
#[path = "end_to_end/stage.rs"]
mod stage;
#[path = "end_to_end/target.rs"]
mod target;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use testkit::{KongStandIn, Pki, Request};

use cleaning::play;
use stage::{Stage, in_sync_with, publish};
use target::{Place, Target};

macro_rules! against_the_stand_in {
    ($scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            let kong = stand_in().await;
            play(Target::new(place_of(&kong)), scenarios::$scenario).await;
            assert_eq!(left_in(&kong), [""; 0]);
        }
    };
}
scenarios::for_each_scenario!(against_the_stand_in);

/// A Kong whose clock goes on, as a real one's does.
async fn stand_in() -> Arc<KongStandIn> {
    let kong = Arc::new(KongStandIn::start().await);
    let ticking = Arc::downgrade(&kong);
    tokio::spawn(async move {
        while let Some(kong) = ticking.upgrade() {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
            kong.model().set_now(now.try_into().unwrap());
            drop(kong);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    kong
}

fn place_of(kong: &KongStandIn) -> Place {
    let settings = vec![("ADMIN__URL", kong.admin_url()), ("PROXY__ADDRESS", "auto".to_owned())];
    Place { admin: kong.admin_addr(), proxy: kong.proxy_addr(), settings }
}

/// The ids of certificates in Kong, and the names of SNIs.
fn left_in(kong: &KongStandIn) -> Vec<String> {
    let mut left = Vec::new();
    for (list, field) in [("/certificates", "id"), ("/snis", "name")] {
        let mut next = Some(format!("{list}?size=1000"));
        while let Some(path) = next {
            let page = kong.model().answer(&Request::new("GET", &path)).value();
            let rows = page["data"].as_array().unwrap().iter();
            left.extend(rows.map(|row| row[field].as_str().unwrap().to_owned()));
            next = page["next"].as_str().map(str::to_owned);
        }
    }
    left
}

#[tokio::test]
async fn a_scenario_that_fails_leaves_nothing_behind_and_what_is_foreign_stays() {
    let kong = stand_in().await;
    let put = |id: &str, more: &Value| {
        let pair = Pki::new().pair(&["a.test"]);
        let mut body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = Request::json("PUT", &format!("/certificates/{id}"), &body);
        assert_eq!(kong.model().answer(&request).status, 200);
    };
    // Lists go by ids: a whole page of others' comes first.
    for number in 0..1000 {
        put(&format!("00000000-0000-4000-8000-{number:012}"), &json!({}));
    }
    let target = Target::new(place_of(&kong));
    let suffix = target.suffix();
    put(
        "00000000-0000-4000-9000-000000000000",
        &json!({"snis": ["kong-cert-reloader.test", "a.other.kong-cert-reloader.test", format!("a.{suffix}.org"), format!("x{suffix}")]}),
    );
    put(
        "00000000-0000-4000-9000-000000000001",
        &json!({"tags": ["managed-by:kong-cert-reloader:default", format!("{}2", target.own_tag())]}),
    );
    let foreign = left_in(&kong);
    let fails = async |stage: &Stage| {
        let pod = stage.pod();
        let pair = stage.pair(&["a", "b"]);
        publish(&pod.volume("web"), &pair);
        let sidecar = pod.sidecar(&[]).await;
        sidecar.until("web", in_sync_with(&pair)).await;
        // Such as a sidecar might leave that is wrong.
        let (name, tag) = (stage.kong.name("hand"), stage.kong.own_tag());
        put("ffffffff-ffff-4fff-8fff-fffffffffff0", &json!({"snis": ["a.test", name]}));
        put("ffffffff-ffff-4fff-8fff-fffffffffff1", &json!({"tags": ["team:edge", tag]}));
        stage.kong.make(&pair, &json!({})).await;
        assert_eq!(left_in(&kong).len(), foreign.len() + (1 + 2) + (1 + 2) + 1 + 1);
        panic!("as tests may");
    };
    let panic = AssertUnwindSafe(play(target, fails)).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"as tests may"));
    assert_eq!(left_in(&kong), foreign);
}
