//! What is known, as a value: of each binding, of Kong, and of this process.

mod sides;
pub(crate) mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

pub(crate) use self::sides::{Side, sides};
use crate::binding::{Kind, Unfit};
use crate::bundle::{self, Facts, Fingerprint, LeafDigest, ServedChain};
use crate::clock::Timestamp;
use crate::declarative::Unreadable;
use crate::few::Few;
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::volume;

/// Everything that is shown at `/status`, and what the gauges of `/metrics` are read from.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of this program.
    pub version: &'static str,
    /// The group of replicas.
    pub instance: String,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// Whether no look follows at once from what is known; not before the first was made.
    #[serde(skip)]
    pub idle: bool,
    /// Why changes are found by polling alone, if they are.
    pub polling: Option<String>,
    /// The Kong beside us.
    pub kong: KongStatus,
    /// What is wrong around the bindings, in plain words with the mend.
    pub findings: BTreeSet<String>,
    /// Each binding, by name.
    pub bindings: BTreeMap<BindingName, Arc<BindingStatus>>,
}

/// The Kong beside us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KongStatus {
    /// `database`, `control_plane` or `dbless`, once that is known.
    pub mode: Option<&'static str>,
    /// Its version, if it tells.
    pub version: Option<String>,
    /// The port whose handshakes prove what is served.
    pub proxy: Option<String>,
    /// Why none are made.
    pub unproven: Option<String>,
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BindingStatus {
    /// What it feeds.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// Why, as a word of a closed list.
    pub reason: Option<Reason>,
    /// Why, in plain words, and what to do.
    pub message: Option<String>,
    /// Since when it stands there.
    pub since: Timestamp,
    /// The objects in Kong.
    pub objects: Vec<ObjectStatus>,
    /// What is in the files, or was when they could last be parsed.
    pub file: Option<Arc<Shown>>,
    /// What Kong holds.
    pub kong: Option<Arc<Shown>>,
    /// What a handshake got when it was last asked.
    pub served: Option<Arc<Shown>>,
    /// What is odd, although Kong serves it.
    pub warnings: Vec<String>,
    /// Handshakes are under way that will show what is served.
    #[serde(skip)]
    pub is_asking: bool,
    /// When Kong was last seen to serve what the file holds; where no handshakes are made, to hold
    /// it.
    pub last_success: Option<Timestamp>,
    /// When the file should have been renewed (`RENEW_BY`).
    pub renew_at: Option<Timestamp>,
}

impl BindingStatus {
    /// One of which nothing is known yet: a certificate, until its kind is told.
    #[must_use]
    pub const fn starting(now: Timestamp) -> Self {
        Self {
            kind: Kind::Certificate,
            state: State::Pending,
            reason: Some(Reason::Starting),
            message: None,
            since: now,
            objects: Vec::new(),
            file: None,
            kong: None,
            served: None,
            warnings: Vec::new(),
            is_asking: false,
            last_success: None,
            renew_at: None,
        }
    }

    /// Whether waiting changes nothing more.
    #[must_use]
    pub fn is_concluded(&self) -> bool {
        let lasts =
            matches!(self.reason, Some(Reason::DryRun | Reason::NoReload { may_pass: false, .. }));
        self.state.is_concluded() || lasts
    }

    /// Whether there is nothing left to do.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.state.is_in_place() || self.reason == Some(Reason::DryRun)
    }

    /// Whether the file is past the share of its life at which it should have been renewed.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.renew_at.is_some_and(|at| at <= now)
    }
}

/// An object in Kong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectStatus {
    /// Its id.
    pub id: Uuid,
    /// Whether someone else made it.
    pub adopted: bool,
    /// The SNIs of a certificate.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub snis: Few<String>,
    /// Whose a CA certificate is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// A bundle without its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The identity of the bundle.
    pub fingerprint: Fingerprint,
    /// Each leaf's, as openssl prints it.
    pub leaf_sha256: Box<[LeafDigest]>,
    /// Validity of the leaf (the latest beginning of several).
    pub not_before: Timestamp,
    /// Validity of the leaf (the earliest end of several).
    pub not_after: Timestamp,
    /// DNS names of the leaf.
    pub names: Few<String>,
}

impl From<&Facts> for Shown {
    fn from(facts: &Facts) -> Self {
        Self {
            fingerprint: facts.fingerprint,
            leaf_sha256: facts.leaves.as_slice().into(),
            not_before: facts.validity.not_before,
            not_after: facts.validity.not_after,
            names: quoted(&facts.names),
        }
    }
}

impl Shown {
    /// What a handshake showed, if it can be read.
    #[must_use]
    pub fn served(chain: &ServedChain) -> Option<Self> {
        let validity = chain.validity?;
        Some(Self {
            fingerprint: chain.fingerprint,
            leaf_sha256: [chain.leaf].into(),
            not_before: validity.not_before,
            not_after: validity.not_after,
            names: quoted(&chain.names),
        })
    }
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> Few<String> {
    names.into_iter().map(|name| Quoted::new(name).to_string()).collect()
}

/// Where a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not concluded yet.
    Pending,
    /// Kong serves what the file holds; where no handshakes are made, it holds it.
    InSync,
    /// The file's certificate begins later.
    NotYetValid,
    /// File and Kong differ, and Kong's may be right.
    Held,
    /// The files are not servable; Kong keeps what it has.
    Invalid,
    /// It may not be written, or Kong will not have it.
    Refused,
    /// Kong wants other credentials.
    Unauthorized,
    /// Kong does not answer.
    Unreachable,
    /// Kong holds it and serves something else.
    NotServed,
    /// This Kong cannot be fed this way.
    Unsupported,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::InSync,
        Self::NotYetValid,
        Self::Held,
        Self::Invalid,
        Self::Refused,
        Self::Unauthorized,
        Self::Unreachable,
        Self::NotServed,
        Self::Unsupported,
    ];

    /// The word, as it stands in `/status` and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InSync => "in_sync",
            Self::NotYetValid => "not_yet_valid",
            Self::Held => "held",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::NotServed => "not_served",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether the binding came to a conclusion that more waiting does not change.
    #[must_use]
    pub const fn is_concluded(self) -> bool {
        !matches!(self, Self::Pending | Self::Unauthorized | Self::Unreachable)
    }

    /// Whether there is nothing left to do.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::InSync | Self::Unsupported)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why a binding stands where it stands: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `pending`: nothing was looked at yet.
    Starting,
    /// `pending`: it would be written, were it not for `DRY_RUN`.
    DryRun,
    /// `pending`: the files are being written.
    Changing,
    /// `pending`: other writers were faster each time.
    Conflict,
    /// `pending`: Kong holds it, and no handshake has shown it yet.
    Proving,
    /// `pending`: nginx was told to reload, and has not done so yet.
    Reloading,
    /// `pending`: nginx was told not long ago (`RELOAD__MIN_INTERVAL`).
    ReloadInterval,
    /// `pending`: this Kong has no configuration yet, and would call itself ready with ours alone.
    EmptyConfiguration,
    /// `pending`: Kong did not answer in time, and may go on with what it was sent.
    Applying,
    /// `not_yet_valid`: the certificate begins later.
    NotBefore,
    /// `invalid`: the files cannot be read.
    File(volume::Reason),
    /// `invalid`: the files cannot be served.
    Bundle(bundle::Reason),
    /// `invalid`: the file is no declarative configuration.
    Configuration,
    /// `held`: see [`crate::decide::Wait`].
    Held(&'static str),
    /// `refused`: see [`crate::desired::Refusal`].
    Refusal(&'static str),
    /// `held`: nginx would not reload for the broken files of another binding.
    BrokenBeside,
    /// `refused`: Kong's word.
    ByKong,
    /// `refused`: nginx was told to reload, and went on with what it had.
    NotReloaded,
    /// `refused`: Kong holds more than is read, so nothing can be decided.
    TooLarge,
    /// `refused`: another writer keeps undoing ours.
    Contested,
    /// `unauthorized`: Kong's word.
    Credentials,
    /// `unauthorized`: the files of credentials cannot be used.
    CredentialsUnusable,
    /// `unreachable`: no answer.
    NoAnswer,
    /// `unreachable`: another server answers.
    NotKong,
    /// `unreachable`: no such path to write to.
    NoSuchPath,
    /// `unreachable`: Kong does not reach its database.
    NoDatabase,
    /// `not_served`: handshakes show another certificate.
    OtherCertificate,
    /// `not_served`: handshakes show what clients without a server name get.
    DefaultCertificate,
    /// `not_served`: handshakes show none; see [`crate::proof::Unseen`].
    Unseen(&'static str),
    /// `unauthorized` or `unreachable`: nginx cannot be told; see [`crate::nginx::NoReload`].
    NoReload {
        /// The word for it.
        word: &'static str,
        /// Whether it goes without anyone who mends it.
        may_pass: bool,
    },
    /// `unsupported`: no Admin API is configured.
    NoAdminApi,
    /// `unsupported`: this Kong has a database, and takes no configuration as a whole.
    HasDatabase,
    /// `unsupported`: this is no Kong Enterprise.
    NoLicenses,
}

impl Reason {
    /// The word, as it stands in `/status` and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::DryRun => "dry_run",
            Self::Changing => "changing",
            Self::Conflict => "conflict",
            Self::Proving => "proving",
            Self::NotBefore => "not_before",
            Self::File(reason) => reason.as_str(),
            Self::Bundle(reason) => reason.as_str(),
            Self::Configuration => "not_a_configuration",
            Self::Held(reason)
            | Self::Refusal(reason)
            | Self::Unseen(reason)
            | Self::NoReload { word: reason, .. } => reason,
            Self::Reloading => "reloading",
            Self::ReloadInterval => "reload_interval",
            Self::EmptyConfiguration => "empty_configuration",
            Self::Applying => "applying",
            Self::BrokenBeside => "broken_beside",
            Self::NotReloaded => "not_reloaded",
            Self::ByKong => "by_kong",
            Self::TooLarge => "too_large",
            Self::Contested => "contested",
            Self::Credentials => "credentials",
            Self::CredentialsUnusable => "credentials_unusable",
            Self::NoAnswer => "no_answer",
            Self::NotKong => "not_kong",
            Self::NoSuchPath => "no_such_path",
            Self::NoDatabase => "no_database",
            Self::OtherCertificate => "other_certificate",
            Self::DefaultCertificate => "default_certificate",
            Self::NoAdminApi => "no_admin_api",
            Self::HasDatabase => "has_database",
            Self::NoLicenses => "no_licenses",
        }
    }
}

impl From<&Unfit> for Reason {
    fn from(unfit: &Unfit) -> Self {
        match unfit {
            Unfit::Bundle(invalid) => Self::Bundle(invalid.reason()),
            Unfit::Configuration { problem: Unreadable::TooLarge, .. } => {
                Self::File(volume::Reason::TooLarge)
            }
            Unfit::Configuration { .. } => Self::Configuration,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
