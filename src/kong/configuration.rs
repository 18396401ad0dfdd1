//! The wire to a Kong without a database: `GET /config` and `POST /config`, all of it at once.

mod entry;
mod refusal;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use tokio::time::Instant;

pub use self::entry::enter;
pub use self::refusal::Bad;
use super::{Answer, Call, Failure, Kong, Lost, Method, Unanswered, Wire, judge, parse};
use crate::allowance::{LARGEST, Room};
use crate::declarative::{Document, Unreadable};
use crate::quote::Quoted;

/// So often is a configuration read again that changed meanwhile.
const LOOKS: usize = 3;
/// Kong needs 1.25 to 1.5 s for each megabyte (measured: 5 s for 1,000 certificates, 30 s for
/// 5,000); it gets twice that.
const PER_MEGABYTE: Duration = Duration::from_secs(3);
const MEGABYTE: usize = 1_000_000;
/// How long Kong may take to write all of it down for us: it does not say how large it is before.
const EXPORT: Duration = Duration::from_secs(50);

/// What Kong runs.
#[derive(Debug)]
pub struct Running {
    /// The configuration.
    pub document: Document,
    /// Its hash.
    pub hash: Hash,
}

/// What tells one configuration of Kong from another (`configuration_hash` in `GET /status`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 16]);

impl Hash {
    /// Of a configuration as it is sent. By Kong's source it is the MD5 digest of the text; were it
    /// not, a configuration that runs would be sent once more, and not taken (304).
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut digest = Md5::new();
        document.each_piece(&mut |piece| digest.update(piece));
        // In place: what is moved is not wiped.
        Self(digest.finalize_reset().into())
    }

    /// Whether Kong has no configuration, or one without any object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self([0; 16])
    }
}

impl FromStr for Hash {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 16];
        hex::decode_to_slice(text, &mut hash).map(|()| Self(hash))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why Kong does not run what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLoaded {
    /// As for any other call. Too large for Kong is [`Failure::Refused`].
    Failure(Failure),
    /// It will not have these objects.
    Objects(Vec<Bad>),
    /// It will not have something, and does not say what.
    Unnamed(Quoted),
    /// It did not answer in time: it may go on, and run it later.
    Unknown {
        /// So long it may take from now on, by its size and by how long it was waited for.
        within: Duration,
    },
}

impl<W: Wire> Kong<W> {
    /// Reads all that Kong runs; `hash` is what it said last.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or changes all the time.
    pub async fn configuration(&self, mut hash: Hash) -> Result<Running, Failure> {
        for _ in 0..LOOKS {
            let document = self.export().await?;
            let before = std::mem::replace(&mut hash, self.configuration_hash().await?);
            if before == hash {
                return Ok(Running { document, hash });
            }
        }
        let message = Quoted::new("its configuration changed each time that it was looked at");
        Err(Failure::Conflict { message })
    }

    /// Asks Kong which configuration it runs.
    ///
    /// # Errors
    ///
    /// If it does not say.
    pub async fn configuration_hash(&self) -> Result<Hash, Failure> {
        #[derive(Deserialize)]
        struct Status {
            configuration_hash: Option<String>,
        }
        let answer = self.ask(Call::new(Method::Get, "/status", None)).await?;
        let Status { configuration_hash } = parse(&answer)?;
        // A Kong on a database has none.
        let no_config = || Failure::NoSuchPath { status: 404, path: "/config".to_owned() };
        configuration_hash
            .ok_or_else(no_config)?
            .parse()
            .map_err(|_| Failure::not_kong("its configuration_hash is no MD5 digest"))
    }

    async fn export(&self) -> Result<Document, Failure> {
        let call = Call::new(Method::Get, "/config", None);
        let call = Call { limit: LARGEST, more_time: EXPORT, ..call };
        let Answer { status, body, .. } = self.ask(call).await?;
        let another_body = || Failure::not_kong(format!("status {status} with another body"));
        let document = Document::exported(Room::of_memory(), body).ok_or_else(another_body)?;
        document.map_err(|problem| match problem {
            Unreadable::TooLarge => {
                Failure::TooLarge { detail: format!("of its configuration, {problem}") }
            }
            _ => Failure::not_kong(format!("its configuration cannot be read: {problem}")),
        })
    }

    /// Makes Kong run `document`; nothing is done where it runs that already.
    ///
    /// # Errors
    ///
    /// Says what Kong will not have; then it goes on with what it ran.
    pub async fn load(&self, document: &Document) -> Result<(), NotLoaded> {
        let body = super::wiped(document.posted());
        // What refers to a bad object is named in the second form only.
        let mut words = Quoted::new("");
        for more in ["&flatten_errors=1", ""] {
            let Some(answer) = self.post(&body, more).await? else { return Ok(()) };
            let bad = refusal::named(&answer, document).map_err(NotLoaded::Failure)?;
            if !bad.is_empty() {
                return Err(NotLoaded::Objects(bad));
            }
            words = refusal::unnamed(&answer);
        }
        Err(NotLoaded::Unnamed(words))
    }

    /// `None` if Kong took it; else what it says of it.
    async fn post(&self, body: &Bytes, more: &str) -> Result<Option<Answer>, NotLoaded> {
        let megabytes = u32::try_from(body.len() / MEGABYTE + 1).unwrap_or(u32::MAX);
        let path = format!("/config?check_hash=1{more}");
        let more_time = PER_MEGABYTE.saturating_mul(megabytes);
        let call = Call::new(Method::Post, &path, Some(body.clone()));
        let call = Call { limit: LARGEST, more_time, answer_is_unread: true, ..call };
        let began = Instant::now();
        // A gateway may give up long before Kong has had its time.
        let unknown = || NotLoaded::Unknown { within: began.elapsed().max(more_time) };
        let answer = match self.exchange(call).await {
            Ok(answer) => answer,
            // That it takes its time is no silence.
            Err(Unanswered::Lost(Lost::Timeout)) => return Err(unknown()),
            Err(Unanswered::Lost(Lost::TooLarge { status: status @ 400..=499, .. })) => {
                let message = Quoted::new("its answer is too long to read; see its error log");
                return Err(self.failed(Failure::Refused { status, message }));
            }
            // Kong's answers to what it takes are not read.
            Err(Unanswered::Lost(lost @ Lost::TooLarge { status: ..=399, .. })) => {
                return Err(self.failed(Failure::not_kong(lost.to_string())));
            }
            Err(Unanswered::Lost(lost)) => return Err(self.failed(lost.into())),
            Err(Unanswered::NotSent) => return Err(NotLoaded::Failure(Failure::NotSent)),
        };
        match answer.status {
            304 => Ok(None),
            400 if answer.is_json => Ok(Some(answer)),
            413 => Err(NotLoaded::Failure(too_large(&answer))),
            504 => Err(unknown()),
            _ => judge(answer, &path).map(|_| None).map_err(|failure| self.failed(failure)),
        }
    }

    fn failed(&self, failure: Failure) -> NotLoaded {
        self.gate.note(!failure.is_silence(Method::Post));
        NotLoaded::Failure(failure)
    }
}

/// There are two limits, and each has its own mend.
fn too_large(answer: &Answer) -> Failure {
    let message = if answer.is_json {
        "the configuration does not fit into its memory; raise KONG_LMDB_MAP_SIZE, or KONG_MEM_CACHE_SIZE if its log names that"
    } else {
        "the configuration is larger than its Admin API takes; raise KONG_NGINX_ADMIN_CLIENT_MAX_BODY_SIZE"
    };
    Failure::Refused { status: answer.status, message: Quoted::new(message) }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a test may panic, and read recordings"
    )]

    use std::collections::{BTreeSet, VecDeque};
    use std::fs;
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use testkit::kong_model::{KongModel, Request};
    use zeroize::Zeroizing;

    use super::*;
    use crate::metrics::Metrics;
    use crate::settings::Admin;

    const SERVICE: &str = "_format_version: '3.0'\nservices:\n- {name: echo, host: '010'}\n";

    /// Status, whether it is JSON, and body; or no answer.
    type Instead = Result<(u16, bool, String), Lost>;

    /// A Kong without a database, whose next answers may be a test's own.
    struct Wired {
        model: Mutex<KongModel>,
        instead: Mutex<VecDeque<Instead>>,
        calls: Mutex<Vec<Call>>,
    }

    impl Wired {
        fn running(config: &str) -> Self {
            let mut model = KongModel::without_database();
            let body = json!({ "config": config });
            assert_eq!(model.answer(&Request::json("POST", "/config", &body)).status, 201);
            Self { model: Mutex::new(model), instead: Mutex::default(), calls: Mutex::default() }
        }

        fn answer_next(&self, status: u16, body: &str) {
            let is_json = body.starts_with('{');
            self.instead.lock().unwrap().push_back(Ok((status, is_json, body.to_owned())));
        }

        fn lose_next(&self, lost: Lost) {
            self.instead.lock().unwrap().push_back(Err(lost));
        }

        fn kong(&self) -> Kong<&Self> {
            Kong::new(self, &Admin::default(), Metrics::default())
        }

        fn paths(&self) -> Vec<String> {
            self.calls.lock().unwrap().iter().map(|call| call.path.clone()).collect()
        }
    }

    impl Wire for &Wired {
        async fn call(&self, call: Call) -> Result<Answer, Lost> {
            self.calls.lock().unwrap().push(call.clone());
            if let Some(instead) = self.instead.lock().unwrap().pop_front() {
                let (status, is_json, body) = instead?;
                let body = Zeroizing::new(body.into_bytes());
                return Ok(Answer { status, is_json, retry_after: None, body });
            }
            let body = call.body.as_deref().map(serde_json::from_slice::<Value>);
            let request = match body {
                Some(body) => Request::json(call.method.as_str(), &call.path, &body.unwrap()),
                None => Request::new(call.method.as_str(), &call.path),
            };
            let answer = self.model.lock().unwrap().answer(&request);
            let is_json = answer.headers.iter().any(|(_, value)| value.contains("json"));
            let body = Zeroizing::new(answer.body);
            Ok(Answer { status: answer.status, is_json, retry_after: None, body })
        }
    }

    fn document(config: &str) -> Document {
        Document::parse(config.as_bytes()).unwrap()
    }

    /// The body of a recorded answer.
    fn recorded(name: &str) -> (u16, String) {
        let path =
            format!("{}/tests/data/kong-contract/dbless/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let recording: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let status = recording["response"]["status"].as_u64().unwrap();
        (u16::try_from(status).unwrap(), recording["response"]["body"].to_string())
    }

    #[tokio::test]
    async fn what_runs_is_read_with_its_hash_and_sent_back_unchanged() {
        let wired = Wired::running(SERVICE);
        let kong = wired.kong();
        let hash = kong.configuration_hash().await.unwrap();
        let running = kong.configuration(hash).await.unwrap();
        assert_eq!((running.hash, hash.is_empty()), (hash, false));
        assert_eq!(kong.load(&running.document).await, Ok(()));
        let again = kong.configuration(hash).await.unwrap();
        assert_eq!(again.document.to_json(), running.document.to_json());
        let nothing = Wired::running("_format_version: '3.0'\n");
        assert!(nothing.kong().configuration_hash().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_configuration_that_changes_meanwhile_is_read_again() {
        let wired = Wired::running(SERVICE);
        let other: Hash = "ab".repeat(16).parse().unwrap();
        let running = wired.kong().configuration(other).await.unwrap();
        assert_eq!(running.hash, wired.kong().configuration_hash().await.unwrap());
        for number in 0..20_u8 {
            wired.answer_next(200, &json!({ "config": SERVICE }).to_string());
            let hash = json!({ "configuration_hash": hex::encode([number; 16]) });
            wired.answer_next(200, &hash.to_string());
        }
        let restless = wired.kong().configuration(other).await;
        assert!(matches!(restless, Err(Failure::Conflict { .. })), "{restless:?}");
    }

    #[tokio::test]
    async fn the_same_text_is_not_loaded_twice() {
        let wired = Wired::running(SERVICE);
        let kong = wired.kong();
        let other = document(&SERVICE.replace("echo", "other"));
        assert_eq!(kong.load(&other).await, Ok(()));
        let writes = wired.model.lock().unwrap().writes();
        assert_eq!(kong.load(&other).await, Ok(()));
        assert_eq!(wired.model.lock().unwrap().writes(), writes);
        assert_eq!(wired.paths().pop().unwrap(), "/config?check_hash=1&flatten_errors=1");
    }

    #[tokio::test]
    async fn bad_objects_are_named_without_what_they_hold() {
        let (status, flattened) = recorded("19-post-config-mismatch-flattened");
        let wired = Wired::running(SERVICE);
        wired.answer_next(status, &flattened);
        let told = wired.kong().load(&document(SERVICE)).await.unwrap_err();
        let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
        assert_eq!(bad.len(), 1);
        assert_eq!((bad[0].entity.as_str(), bad[0].name.as_deref()), ("certificate", None));
        assert_eq!(bad[0].id.unwrap().to_string(), "11111111-1111-4111-8111-111111111111");
        assert_eq!(bad[0].message.as_str(), "certificate does not match key");
        assert!(!format!("{told:?}").contains("@pem"), "{told:?}");
    }

    #[tokio::test]
    async fn where_flattened_errors_name_nothing_the_places_are_asked_for() {
        let config = "_format_version: '3.0'\ncertificates:\n- {id: 11111111-1111-4111-8111-111111111111, cert: a, key: b}\n";
        for (name, entity, shown) in [
            (
                "18-post-config-mismatch",
                "certificate",
                "certificate 11111111-1111-4111-8111-111111111111: certificate does not match key",
            ),
            ("25-post-config-license-oss", "license", "license all of them: unknown field"),
            ("24-post-config-unknown-entity", "gizmo", "gizmo all of them: unknown field"),
        ] {
            let wired = Wired::running(SERVICE);
            wired.answer_next(400, r#"{"message":"x","flattened_errors":{},"fields":{}}"#);
            let (status, nested) = recorded(name);
            wired.answer_next(status, &nested);
            let told = wired.kong().load(&document(config)).await.unwrap_err();
            let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
            assert_eq!((bad[0].entity.as_str(), bad[0].shown().as_str()), (entity, shown));
            assert_eq!(wired.paths()[1], "/config?check_hash=1");
        }
    }

    #[tokio::test]
    async fn a_name_that_stands_there_twice_is_named_whatever_its_place() {
        let words =
            "uniqueness violation: 'snis' entity with name set to 'a.test' already declared";
        let wired = Wired::running(SERVICE);
        wired.answer_next(400, r#"{"message":"x","flattened_errors":{},"fields":{}}"#);
        wired.answer_next(
            400,
            &json!({ "message": "x", "fields": { "snis": [words] } }).to_string(),
        );
        let told = wired.kong().load(&document(SERVICE)).await.unwrap_err();
        let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
        assert_eq!((bad[0].entity.as_str(), bad[0].name.as_deref()), ("sni", Some("a.test")));
        assert!(!bad[0].is_all_of("sni"));
    }

    #[tokio::test]
    async fn a_place_in_a_list_with_gaps_is_counted_as_lua_does() {
        let config = "_format_version: '3.0'\nsnis:\n- {name: a.test}\n- {name: b.test}\n";
        let wired = Wired::running(SERVICE);
        wired.answer_next(400, r#"{"message":"x","flattened_errors":[]}"#);
        let fields = json!({ "snis": { "2": { "certificate": "required field missing" } } });
        wired.answer_next(400, &json!({ "message": "x", "fields": fields }).to_string());
        let told = wired.kong().load(&document(config)).await.unwrap_err();
        let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
        assert_eq!(bad[0].shown().as_str(), "sni b.test: certificate: required field missing");
    }

    #[tokio::test]
    async fn what_refers_to_nothing_is_named_by_its_name() {
        let config = "_format_version: '3.0'\nsnis:\n- {name: a.test}\n- {name: b.test}\n";
        let wired = Wired::running(SERVICE);
        wired.answer_next(400, r#"{"message":"x","flattened_errors":{},"fields":{}}"#);
        let fields = json!({ "snis": { "b.test": ["invalid reference 'certificate: {}'"] } });
        wired.answer_next(400, &json!({ "message": "x", "fields": fields }).to_string());
        let told = wired.kong().load(&document(config)).await.unwrap_err();
        let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
        assert_eq!((bad.len(), bad[0].name.as_deref()), (1, Some("b.test")));
    }

    #[tokio::test]
    async fn what_kong_quotes_of_others_is_not_repeated() {
        let words = "uniqueness violation: 'keyauth_credentials' entity with key set to 's3cret' already declared";
        let expected = "uniqueness violation: '…' already declared";
        let nested = json!({ "keyauth_credentials": [words] });
        let flat = json!([
            { "entity_type": "consumer", "entity_name": "ann", "entity": { "key": "s3cret" },
              "errors": [{ "field": "key", "message": words }, { "messages": ["invalid value: s3cret"] }] },
            { "entity_type": "license", "entity_id": "11111111-1111-4111-8111-111111111111",
              "errors": [{ "message": "s3cret" }] },
        ]);
        let wired = Wired::running(SERVICE);
        wired.answer_next(400, &json!({ "message": words, "flattened_errors": flat }).to_string());
        let told = wired.kong().load(&document(SERVICE)).await.unwrap_err();
        let NotLoaded::Objects(bad) = &told else { panic!("{told:?}") };
        assert_eq!(bad[0].message.as_str(), format!("key: {expected}; invalid value").as_str());
        assert!(bad[1].id.is_some() && !format!("{told:?}").contains("s3cret"), "{told:?}");
        for _ in 0..2 {
            wired.answer_next(400, &json!({ "message": words, "fields": nested }).to_string());
        }
        let told = format!("{:?}", wired.kong().load(&document(SERVICE)).await);
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[tokio::test]
    async fn a_refusal_without_names_is_told_in_kongs_words() {
        for fields in [json!({ "error": "failed parsing" }), json!({}), Value::Null, json!([])] {
            let wired = Wired::running(SERVICE);
            wired.answer_next(400, r#"{"message":"x"}"#);
            wired.answer_next(400, &json!({ "message": "words", "fields": fields }).to_string());
            let told = wired.kong().load(&document(SERVICE)).await;
            assert_eq!(told, Err(NotLoaded::Unnamed(Quoted::new("words"))));
        }
    }

    #[tokio::test]
    async fn each_limit_has_its_own_mend() {
        for (body, mend) in [
            (r#"{"message":"map full"}"#, "KONG_LMDB_MAP_SIZE"),
            ("<html>", "KONG_NGINX_ADMIN_CLIENT_MAX_BODY_SIZE"),
        ] {
            let wired = Wired::running(SERVICE);
            wired.answer_next(413, body);
            let told = wired.kong().load(&document(SERVICE)).await.unwrap_err();
            let NotLoaded::Failure(failure) = told else { panic!("{told:?}") };
            assert!(!failure.is_passing() && failure.to_string().contains(mend), "{failure}");
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_may_be_applied_yet() {
        for status in [429, 500, 502, 503] {
            let wired = Wired::running(SERVICE);
            wired.answer_next(status, r#"{"message":"busy"}"#);
            let told = wired.kong().load(&document(SERVICE)).await.unwrap_err();
            let NotLoaded::Failure(failure) = told else { panic!("{told:?}") };
            assert!(failure.is_passing(), "{failure}");
        }
        let wired = Wired::running(SERVICE);
        let kong = wired.kong();
        // However often: the other calls are answered.
        for _ in 0..5 {
            wired.answer_next(504, r#"{"message":"timeout"}"#);
            let unknown = Err(NotLoaded::Unknown { within: PER_MEGABYTE });
            assert_eq!(kong.load(&document(SERVICE)).await, unknown);
            wired.lose_next(Lost::Timeout);
            assert_eq!(kong.load(&document(SERVICE)).await, unknown);
        }
        assert!(kong.configuration_hash().await.is_ok());
    }

    #[tokio::test]
    async fn a_larger_configuration_gets_more_time() {
        let wired = Wired::running(SERVICE);
        let tags: BTreeSet<String> =
            (0..90_000).map(|number| format!("tag-number-{number}")).collect();
        let large = json!({ "_format_version": "3.0", "services": [{ "name": "a", "host": "a", "tags": tags }] });
        let (small, large) = (document(SERVICE), document(&large.to_string()));
        let kong = wired.kong();
        assert_eq!((kong.load(&small).await, kong.load(&large).await), (Ok(()), Ok(())));
        let times: Vec<_> = wired.calls.lock().unwrap().iter().map(|call| call.more_time).collect();
        assert_eq!(times, [PER_MEGABYTE, PER_MEGABYTE * 2]);
    }
}
