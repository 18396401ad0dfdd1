//! Whatever goes wrong, and whenever: fault by moment, and what must hold afterwards. The one
//! assertion that every case ends with is [`stage::Stage::flaws`]. Where the kernel watches no more
//! files is in `diagnosis.rs`, which has the rights to set such limits.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic, read its files, and tell its figures"
)]

#[path = "faults/calls.rs"]
mod calls;
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/files.rs"]
mod files;
#[path = "schedule/kong.rs"]
mod kong;
#[path = "schedule/log.rs"]
mod log;
#[path = "faults/material.rs"]
mod material;
#[path = "faults/outages.rs"]
mod outages;
#[path = "schedule/pod.rs"]
mod pod;
#[path = "faults/process.rs"]
mod process;
#[path = "faults/reading.rs"]
mod reading;
#[path = "secrecy/searcher.rs"]
#[allow(dead_code, reason = "keys alone are looked for here")]
mod searcher;
#[path = "faults/stage.rs"]
mod stage;
#[path = "faults/table.rs"]
mod table;
#[path = "faults/watching.rs"]
mod watching;

use serde_json::{Value, json};
use stage::Stage;
use table::Table;
use testkit::{CertifiedPair, KongModel, Request};

/// A Kong of this kind with objects of others, of which one can be adopted.
fn furnished(mut kong: KongModel) -> (Stage, KongModel, CertifiedPair) {
    let mut stage = Stage::at(pod::START);
    let pair = stage.bundle(&["a.test"], 10);
    stage.offer("a.test", &pair);
    stage.furnish(&mut kong);
    (stage, kong, pair)
}

fn patch(path: &'static str, body: Value) -> impl Fn(&mut KongModel) {
    move |kong| drop(kong.answer(&Request::json("PATCH", path, &body)))
}

#[test]
fn the_assertion_sees_each_thing_that_must_not_be() {
    type Deed = Box<dyn FnOnce(&mut KongModel)>;
    let deeds: [(&str, Deed); 7] = [
        ("nothing", Box::new(|_| {})),
        (
            "is gone",
            Box::new(|kong| drop(kong.answer(&Request::new("DELETE", "/snis/other.test")))),
        ),
        ("[\"tags\"", Box::new(patch("/certificates/other.test", json!({ "tags": null })))),
        ("[\"tags\"", Box::new(patch("/snis/a.test", json!({ "tags": ["another"] })))),
        (
            "a.test is not served",
            Box::new(|kong| {
                kong.answer(&Request::new("DELETE", "/snis/a.test"));
            }),
        ),
        (
            "has other fields",
            Box::new(|kong| {
                kong.insert_raw(
                    "services",
                    json!({ "id": "44444444-4444-4444-8444-444444444444" }),
                );
            }),
        ),
        (
            "2 writes",
            Box::new(|kong| {
                (0..2).for_each(|_| patch("/certificates/a.test", json!({}))(kong));
            }),
        ),
    ];
    for (expected, deed) in deeds {
        let (stage, mut kong, pair) = furnished(KongModel::new());
        deed(&mut kong);
        let flaws = stage.flaws(&mut kong, &[("a.test", &pair)], 1, "nothing of interest");
        let found = flaws.iter().any(|flaw| flaw.contains(expected));
        assert!(found || (expected == "nothing" && flaws.is_empty()), "{expected}: {flaws:?}");
    }
    let (stage, mut kong, pair) = furnished(KongModel::new());
    let flaws = stage.flaws(&mut kong, &[], 1, &pair.key_pem());
    assert_eq!(flaws, ["a private key was shown"]);
}

#[test]
fn without_a_database_others_may_be_loaded_again_as_they_are() {
    let (mut stage, mut kong, _) = furnished(KongModel::without_database());
    stage.furnish(&mut kong);
    assert_eq!(stage.flaws(&mut kong, &[], 1, ""), [""; 0]);
    kong.forget_everything();
    assert_eq!(stage.flaws(&mut kong, &[], 1, "").len(), 11);
}

#[test]
#[should_panic(expected = "of 2 cases:\ndown: a is gone\ndown: b is gone\nslow: c is gone")]
fn all_that_does_not_hold_is_told_at_once() {
    let mut table = Table::default();
    table.note("down", vec!["a is gone".to_owned(), "b is gone".to_owned()]);
    table.note("slow", vec!["c is gone".to_owned()]);
    table.assert_holds(2);
}
