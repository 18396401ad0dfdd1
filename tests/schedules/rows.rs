//! What Kong has stored, and whose it is.

use std::collections::{BTreeMap, BTreeSet};

use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use serde_json::Value;
use testkit::{KongModel, Request};

use super::bundles::{BUNDLES, Binding};

pub(crate) const OWN_TAG: &str = "managed-by:kong-cert-reloader:default";

/// What Kong has stored.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) certificates: BTreeMap<String, Value>,
    pub(crate) snis: BTreeMap<String, Value>,
    pub(crate) services: BTreeMap<String, Value>,
}

impl Rows {
    /// `None` while the database is away.
    pub(crate) fn of(model: &mut KongModel) -> Option<Self> {
        let mut list = |path: &str, key: &str| -> Option<BTreeMap<String, Value>> {
            let request = Request::new("GET", path);
            let answer = model.elsewhere(|model| model.answer(&request)).value();
            let rows = answer["data"].as_array()?.iter();
            Some(rows.map(|row| (row[key].as_str().unwrap().to_owned(), row.clone())).collect())
        };
        Some(Self {
            certificates: list("/certificates", "id")?,
            snis: list("/snis", "name")?,
            services: list("/services", "id")?,
        })
    }

    pub(crate) fn owner(&self, name: &str) -> Option<&str> {
        self.snis.get(name)?["certificate"]["id"].as_str()
    }

    /// The names that clients are served this object for.
    pub(crate) fn names_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.snis.keys().map(String::as_str).filter(move |name| self.owner(name) == Some(id))
    }
}

pub(crate) fn is_tagged(row: &Value, tag: &str) -> bool {
    row["tags"].as_array().is_some_and(|tags| tags.iter().any(|one| one == tag))
}

pub(crate) fn tags(row: &Value) -> BTreeSet<&str> {
    row["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The id of a binding's object, if it is ours.
pub(crate) fn own_id(binding: Binding) -> String {
    Own::new(&Instance::default(), None).certificate(&binding.name().parse().unwrap()).to_string()
}

pub(crate) fn is_ours(id: &str, row: &Value) -> bool {
    is_tagged(row, OWN_TAG) || Binding::ALL.into_iter().any(|binding| own_id(binding) == id)
}

/// For messages.
pub(crate) fn brief(row: &Value) -> String {
    let (id, snis, tags) = (&row["id"], &row["snis"], &row["tags"]);
    format!("{:?} in {id} for {snis} with {tags}", BUNDLES.held(row))
}
