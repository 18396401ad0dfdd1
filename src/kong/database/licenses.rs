//! Licences of Kong Enterprise: `/licenses`, which belong to no workspace.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::{Failure, Kong, LICENSE_REFUSED, Method, Wire, parse, wiped_json};
use super::another_body;
use crate::bundle::{License, held_license};
use crate::desired::DesiredLicense;
use crate::held::{Held, HeldLicense, HeldObject, Snapshot};
use crate::quote::Quoted;

/// Their list, without which this is no Kong Enterprise.
const LIST: &str = "/licenses";

impl<W: Wire> Kong<W> {
    pub(super) async fn look_at_licenses(&self, snapshot: &mut Snapshot) -> Result<(), Failure> {
        let read = self.each(LIST, |object: Object| snapshot.insert_license(object.into())).await;
        read.map_err(|failure| match failure {
            Failure::NoSuchPath { status: 404, .. } => Failure::NoLicenses,
            failure => failure,
        })
    }

    pub(super) async fn write_license(
        &self,
        desired: &DesiredLicense,
        license: &License,
    ) -> Result<Held, Failure> {
        #[derive(Serialize)]
        struct Whole<'a> {
            payload: &'a str,
        }
        let body = wiped_json(&Whole { payload: license.payload() });
        let sent = self.send(Method::Put, &path(desired.id), body).await;
        let answer = sent.map_err(without_words)?;
        let written: HeldLicense = parse::<Object>(&answer)?.into();
        let facts = written.facts.clone();
        let is_shown = |fingerprint| fingerprint == license.facts().fingerprint;
        if written.id == desired.id && facts.as_ref().is_ok_and(|facts| is_shown(facts.fingerprint))
        {
            Ok(Held { facts, object: HeldObject::License(written) })
        } else {
            Err(another_body(&answer))
        }
    }
}

pub(super) fn path(id: Uuid) -> String {
    format!("{LIST}/{id}")
}

fn without_words(failure: Failure) -> Failure {
    let message = Quoted::new(LICENSE_REFUSED);
    match failure {
        Failure::Refused { status, .. } => Failure::Refused { status, message },
        Failure::Conflict { .. } => Failure::Conflict { message },
        failure => failure,
    }
}

#[derive(Deserialize)]
struct Object {
    id: Uuid,
    payload: Zeroizing<String>,
    updated_at: Option<i64>,
}

impl From<Object> for HeldLicense {
    fn from(object: Object) -> Self {
        let facts = held_license(&object.payload).map_err(|invalid| invalid.reason());
        Self { id: object.id, facts, updated_at: object.updated_at }
    }
}
