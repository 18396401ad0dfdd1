//! What in a Kong is not ours, and has to stay as it is.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{
    Authority, CertifiedPair, KeyKind, KongModel, KongStandIn, Pki, Request, SecretVolume,
};

use crate::Outcome;
use crate::binding::Binding;

/// The object of someone else, in both kinds of Kong.
const ID: &str = "22222222-2222-4222-8222-222222222222";
const HOST: &str = "others.soak.test";
const CREDENTIAL: &str = "credential-of-ann";

/// What others have in a Kong on a database.
#[derive(Debug)]
pub(crate) struct Others {
    pair: CertifiedPair,
    ca: Authority,
    /// Where their objects are, and the fields of each that are ours to write.
    places: Vec<(String, &'static [&'static str])>,
    was: Vec<Value>,
}

impl Others {
    pub(crate) fn new() -> Self {
        let pair = Pki::new().pair(&[HOST]);
        let ca = Authority::root("Others", KeyKind::P256);
        Self { pair, ca, places: Vec::new(), was: Vec::new() }
    }

    /// Puts into an empty Kong what they have there. The last of it are the objects that `adopted`
    /// are to go on with.
    pub(crate) fn seed(&mut self, kong: &KongStandIn, adopted: &[&Binding]) {
        let mut model = kong.model();
        let service = json!({ "name": "echo", "host": "10.0.0.1", "tags": ["team:echo"] });
        model.elsewhere(|model| model.insert_raw("services", service));
        let (pair, ca) = (&self.pair, self.ca.pem());
        let tags = json!(["managed-by:someone-else", "team:others"]);
        let certificate = |pair: &CertifiedPair, host: &str| json!({ "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": [host], "tags": tags });
        let mut all = vec![
            (format!("/certificates/{ID}"), certificate(pair, HOST), &[][..]),
            (format!("/ca_certificates/{ID}"), json!({ "cert": ca, "tags": tags }), &[]),
        ];
        for (number, binding) in adopted.iter().enumerate() {
            let path = format!("/certificates/33333333-3333-4333-8333-33333333333{number}");
            let tags = json!(["team:adopted"]);
            let pair = binding.older();
            let body = json!({
                "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": [binding.host()], "tags": tags,
            });
            all.push((path, body, &["cert", "key", "updated_at"]));
        }
        self.places = vec![("/services".to_owned(), &[])];
        self.places.push((format!("/snis/{HOST}"), &[]));
        for (path, body, ours) in all {
            let answer = model.elsewhere(|model| model.answer(&Request::json("PUT", &path, &body)));
            assert_eq!(answer.status, 200, "{path}");
            self.places.push((path, ours));
        }
        self.was = self.are(&mut model);
    }

    /// Their owner changes something.
    pub(crate) fn change(&mut self, kong: &KongStandIn, tag: &str) {
        let mut model = kong.model();
        let path = format!("/certificates/{ID}");
        let body = json!({ "tags": [tag] });
        model.elsewhere(|model| model.answer(&Request::json("PATCH", &path, &body)));
        self.was = self.are(&mut model);
    }

    /// Fails where something of it is not as it was.
    pub(crate) fn check(&self, kong: &KongStandIn) -> Outcome {
        let are = self.are(&mut kong.model());
        let differs = are.iter().zip(&self.was).position(|(is, was)| is != was);
        differs.map_or(Ok(()), |at| Err(format!("not as its owner left it: {}", self.places[at].0)))
    }

    fn are(&self, model: &mut KongModel) -> Vec<Value> {
        let mut ask = |(path, ours): &(String, &'static [&'static str])| {
            let mut value =
                model.elsewhere(|model| model.answer(&Request::new("GET", path))).value();
            if let Some(fields) = value.as_object_mut() {
                fields.retain(|name, _| !ours.contains(&name.as_str()));
            }
            value
        };
        self.places.iter().map(&mut ask).collect()
    }
}

/// The whole configuration, as Kong tells it.
fn exported(kong: &KongStandIn) -> String {
    let request = Request::new("GET", "/config");
    let answer = kong.model().elsewhere(|model| model.answer(&request)).value();
    answer["config"].as_str().unwrap_or_default().to_owned()
}

/// What others have in a Kong without a database: it comes from a file that the sidecar loads.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) volume: SecretVolume,
    pair: CertifiedPair,
    edition: u32,
}

impl Declared {
    pub(crate) const FILE: &str = "kong.json";

    pub(crate) fn new(directory: &Path) -> Self {
        let pair = Pki::new().pair(&[HOST]);
        let declared =
            Self { volume: SecretVolume::mount(directory.join("declared")), pair, edition: 0 };
        declared.publish(&declared.text());
        declared
    }

    /// The next edition is in the file.
    pub(crate) fn edit(&mut self) {
        self.edition += 1;
        self.publish(&self.text());
    }

    /// What is in the file is no configuration.
    pub(crate) fn break_it(&self) {
        self.publish("_format_version: [");
    }

    /// What someone else takes for the whole configuration.
    pub(crate) fn of_someone_else(&self) -> String {
        self.text().replace("10.0.", "10.9.")
    }

    /// What Kong has not as it is in the file.
    pub(crate) fn differs(&self, kong: &KongStandIn) -> Option<&'static str> {
        let has = |path: &str, fields: &[(&str, Value)]| {
            let request = Request::new("GET", path);
            let answer = kong.model().elsewhere(|model| model.answer(&request)).value();
            let row = answer["data"].get(0).unwrap_or(&answer);
            fields.iter().all(|(field, value)| row[field] == *value)
        };
        let certificate = [
            ("cert", json!(self.pair.chain_pem())),
            ("key", json!(self.pair.key_pem())),
            ("snis", json!([HOST])),
        ];
        if !has("/services", &[("host", json!(self.host()))]) {
            Some("the service")
        } else if !exported(kong).contains(CREDENTIAL) {
            Some("the credential")
        } else if !has(&format!("/certificates/{ID}"), &certificate) {
            Some("the certificate")
        } else {
            None
        }
    }

    fn host(&self) -> String {
        format!("10.0.{}.{}", self.edition / 256 % 256, self.edition % 256)
    }

    fn text(&self) -> String {
        json!({
            "_format_version": "3.0",
            "services": [{ "name": "echo", "host": self.host() }],
            "consumers": [{ "username": "ann", "keyauth_credentials": [{ "key": CREDENTIAL }] }],
            "certificates": [{
                "id": ID, "cert": self.pair.chain_pem(), "key": self.pair.key_pem(),
                "snis": [{ "name": HOST }],
            }],
        })
        .to_string()
    }

    fn publish(&self, text: &str) {
        self.volume.publish(&[(Self::FILE, text.as_bytes())]);
    }
}
