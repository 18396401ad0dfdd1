//! What a run leaves behind in Kong: nothing.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt as _;
use serde_json::Value;
use testkit::Request;

use crate::stage::Stage;
use crate::target::Target;

/// Plays a scenario on a Kong and then removes what is of its run, also where it fails. Its panic
/// goes on after that.
pub(crate) async fn play(kong: Target, scenario: impl AsyncFnOnce(&Stage)) {
    let stage = Stage::on(kong);
    // Its sidecars are killed when it ends, either way.
    let played = AssertUnwindSafe(scenario(&stage)).catch_unwind().await;
    stage.kong.clean().await;
    if let Err(panic) = played {
        resume_unwind(panic);
    }
}

impl Target {
    /// Removes what is of the run. SNIs go with their certificates.
    async fn clean(&self) {
        for list in ["certificates", "ca_certificates"] {
            loop {
                let found = self.of_the_run(list).await;
                if found.is_empty() {
                    break;
                }
                for object in found {
                    let path = format!("/{list}/{}", object["id"].as_str().unwrap());
                    let answer = self.ask(&Request::new("DELETE", &path)).await;
                    assert_eq!(answer.status, 204, "DELETE {path}");
                }
            }
        }
    }

    /// Every object of a list that has a name of the run, or the tag of its instance, or was made by
    /// a scenario itself.
    pub(crate) async fn of_the_run(&self, list: &str) -> Vec<Value> {
        let mut found = self.all(list).await;
        found.retain(|object| self.is_of_the_run(object));
        found
    }

    fn is_of_the_run(&self, object: &Value) -> bool {
        let has = |field: &str, is_it: &dyn Fn(&str) -> bool| {
            object[field].as_array().into_iter().flatten().filter_map(Value::as_str).any(is_it)
        };
        let (suffix, own_tag) = (format!(".{}", self.suffix()), self.own_tag());
        has("snis", &|sni| sni.ends_with(&suffix))
            || has("tags", &|tag| tag == own_tag)
            || self.has_made(object)
    }
}
