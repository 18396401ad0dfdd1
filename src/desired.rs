//! Which object of Kong a binding feeds, and what its fields should be. Pure.

mod authorities;
mod certificate;
mod license;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

pub use self::authorities::{
    AuthorityFooting, DesiredAuthorities, DesiredAuthority, held_together,
};
pub use self::certificate::{Alt, CertificateFields, DesiredCertificate, Footing, Names, names};
pub use self::license::DesiredLicense;
use crate::binding::Wish;
use crate::bundle::{CertificateBundle, Fingerprint, LeafDigest, License};
use crate::claims::Claims;
use crate::held::{Held, INGRESS_CONTROLLER, Snapshot};
use crate::names::{BindingName, Instance, Sni, Workspace};
use crate::quote::Quoted;
use crate::settings::CertificateSettings;

/// UUIDv5 namespace of the objects that we create. Never changes: an id that changes is a duplicate.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_29a4_58d3_4b7e_9a02_c4d1_7be3_50f6);
/// Our tag is this and the instance's name.
const MANAGED_BY: &str = "managed-by:kong-cert-reloader:";

/// Ids and tag of the objects that an instance creates.
#[derive(Clone, Debug)]
pub struct Own {
    instance: Instance,
    workspace: Option<Workspace>,
    tag: String,
}

impl Own {
    /// Of the instance in a workspace.
    #[must_use]
    pub fn new(instance: &Instance, workspace: Option<&Workspace>) -> Self {
        Self {
            instance: instance.clone(),
            workspace: workspace.cloned(),
            tag: format!("{MANAGED_BY}{instance}"),
        }
    }

    /// The tag on every object that this instance created.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The id of the certificate that `name` feeds if nothing else is configured or found: replicas
    /// that race to create it meet in one object.
    #[must_use]
    pub fn certificate(&self, name: &BindingName) -> Uuid {
        self.id("certificates", name.as_ref())
    }

    /// The configured id, or else [`Self::certificate`].
    #[must_use]
    pub fn certificate_of(&self, name: &BindingName, settings: &CertificateSettings) -> Uuid {
        settings.id.unwrap_or_else(|| self.certificate(name))
    }

    /// The id of the object for one CA certificate of the file of `name`, unless Kong has it.
    #[must_use]
    pub fn authority(&self, name: &BindingName, digest: LeafDigest) -> Uuid {
        self.id("ca_certificates", &format!("{name}/{digest}"))
    }

    /// The id of the licence that `name` feeds.
    #[must_use]
    pub fn license(&self, name: &BindingName) -> Uuid {
        self.id("licenses", name.as_ref())
    }

    fn id(&self, kind: &str, name: &str) -> Uuid {
        let workspace = self.workspace.as_ref().map_or("default", AsRef::as_ref);
        let path = format!("{}/{workspace}/{kind}/{name}", self.instance);
        Uuid::new_v5(&NAMESPACE, path.as_bytes())
    }
}

/// What a binding asks of Kong, besides its bundle.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Whose wish it is.
    pub binding: &'a BindingName,
    /// Ids and tag of objects of ours.
    pub own: &'a Own,
    /// What the other bindings ask for.
    pub claims: &'a Claims,
}

/// What Kong should hold, with the bundle to write.
#[derive(Clone, Debug)]
pub enum Desired {
    /// A certificate object.
    Certificate(DesiredCertificate, CertificateBundle),
    /// CA certificates.
    Authorities(DesiredAuthorities),
    /// A licence.
    License(DesiredLicense, Arc<License>),
}

impl Desired {
    /// The objects that are fed.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        match self {
            Self::Certificate(desired, _) => vec![desired.id],
            Self::Authorities(desired) => desired.objects.iter().map(|object| object.id).collect(),
            Self::License(desired, _) => vec![desired.id],
        }
    }

    /// Their ids, for messages.
    #[must_use]
    pub fn shown(&self) -> Quoted {
        let ids: Vec<String> = self.ids().iter().map(ToString::to_string).collect();
        Quoted::new(&ids.join(", "))
    }

    /// What Kong holds in their place.
    #[must_use]
    pub fn held(&self, snapshot: &Snapshot) -> Option<Held> {
        match self {
            Self::Certificate(desired, _) => {
                Some(desired.held(snapshot.certificate(desired.id)?.clone()))
            }
            Self::Authorities(desired) => desired.held(snapshot),
            Self::License(desired, license) => desired.held(license, snapshot),
        }
    }

    /// Whether other fields than the bundle are not as they should be.
    #[must_use]
    pub fn fields_differ(&self) -> bool {
        match self {
            Self::Certificate(desired, _) => desired.fields_differ(),
            Self::Authorities(desired) => desired.fields_differ(),
            Self::License(..) => false,
        }
    }

    /// Whether Kong lacks a part of it, whatever it holds of the rest.
    #[must_use]
    pub fn lacks_some(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Authorities(desired) => desired.lacks_some(snapshot),
            Self::Certificate(..) | Self::License(..) => false,
        }
    }

    /// What another binding of ours is to write before this one is whole, if that is all that is
    /// missing.
    #[must_use]
    pub fn waits_for(&self, snapshot: &Snapshot) -> Option<Quoted> {
        match self {
            Self::Authorities(desired) => desired.waits_for(snapshot),
            Self::Certificate(..) | Self::License(..) => None,
        }
    }

    /// The names that are written with it.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        match self {
            Self::Certificate(desired, _) => desired.written_names(),
            Self::Authorities(_) | Self::License(..) => BTreeSet::new(),
        }
    }

    /// What Kong calls such an object.
    #[must_use]
    pub const fn entity(&self) -> &'static str {
        match self {
            Self::Certificate(..) => "certificate",
            Self::Authorities(_) => "ca_certificate",
            Self::License(..) => "license",
        }
    }

    /// CA certificates that Kong did not hold: nothing may refer to them yet.
    pub fn created_authorities(&self) -> impl Iterator<Item = &DesiredAuthority> {
        let authorities = match self {
            Self::Authorities(desired) => Some(desired),
            Self::Certificate(..) | Self::License(..) => None,
        };
        authorities.into_iter().flat_map(DesiredAuthorities::created)
    }

    /// Names that are left to others.
    #[must_use]
    pub fn left(&self) -> BTreeMap<Sni, Owner> {
        match self {
            Self::Certificate(desired, _) => desired.left.clone(),
            Self::Authorities(_) | Self::License(..) => BTreeMap::new(),
        }
    }
}

/// Who has a name that the binding wants too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An object in Kong.
    Object(Uuid),
    /// Another binding, which comes first.
    Binding(BindingName),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(id) => write!(f, "certificate {id}"),
            Self::Binding(name) => write!(f, "binding {name}"),
        }
    }
}

/// Why no object may be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No name that Kong could serve it for.
    #[error("the certificate has no name that kong can serve it for{}; give it a DNS name, or configure SNIS", listed(" but ", .unusable))]
    NoSni {
        /// Names that Kong does not take.
        unusable: Vec<Quoted>,
    },
    /// Every name belongs to someone else.
    #[error("every name is taken ({}); remove it there, or set TAKE_SNIS", names_and_owners(.left))]
    SnisTaken {
        /// The names and who has them.
        left: BTreeMap<Sni, Owner>,
    },
    /// The names belong to several objects.
    #[error("the names belong to several certificates ({}); gather them in one, set TAKE_SNIS, or set ADOPT to false", names_and_owners(.owners))]
    SeveralOwners {
        /// The names and who has them.
        owners: BTreeMap<Sni, Owner>,
    },
    /// The object of someone else also serves names that the file does not cover.
    #[error("certificate {id} also serves {}, which the file does not cover; add the names to the file, set TAKE_SNIS, or set ADOPT to false", listed("", .names))]
    Uncovered {
        /// The object.
        id: Uuid,
        /// The names that would be lost.
        names: Vec<Quoted>,
    },
    /// Another controller writes it.
    #[error(
        "object {id} is managed by another controller (tag {tag}); renew it there, or set ID to an object of its own"
    )]
    OtherController {
        /// The object.
        id: Uuid,
        /// The tag that says so.
        tag: Quoted,
    },
    /// Certificate or key is in a vault.
    #[error(
        "certificate {id} refers to a vault; rotate it there, or set ID to an object of its own"
    )]
    VaultReference {
        /// The object.
        id: Uuid,
    },
    /// A configured id is the place of one CA.
    #[error(
        "the file holds {count} CA certificates, and ID names one object ({id}); leave one in the file, or leave ID out"
    )]
    SeveralAuthorities {
        /// The configured object.
        id: Uuid,
        /// So many are in the file.
        count: usize,
    },
    /// Kong holds a CA certificate once only.
    #[error(
        "kong holds this CA certificate as {other}, and would not take it as {id}; set ID to {other}, or remove that"
    )]
    AuthorityElsewhere {
        /// The configured object.
        id: Uuid,
        /// The one that has it.
        other: Uuid,
    },
    /// The configured object is not ours, and may not be adopted.
    #[error("certificate {id} was not created by this instance; set ADOPT to true, or another ID")]
    NotOurs {
        /// The object.
        id: Uuid,
    },
    /// The second pair of an adopted object has our key type.
    #[error(
        "certificate {id} has a second pair with the key type of the file; remove cert_alt and key_alt there, or mount both pairs"
    )]
    AltKeyType {
        /// The object.
        id: Uuid,
    },
}

impl Refusal {
    /// The word, as it stands in states and labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoSni { .. } => "no_sni",
            Self::SnisTaken { .. } => "snis_taken",
            Self::SeveralOwners { .. } => "several_owners",
            Self::Uncovered { .. } => "names_uncovered",
            Self::OtherController { .. } => "other_controller",
            Self::VaultReference { .. } => "vault_reference",
            Self::SeveralAuthorities { .. } => "several_authorities",
            Self::AuthorityElsewhere { .. } => "authority_elsewhere",
            Self::NotOurs { .. } => "not_ours",
            Self::AltKeyType { .. } => "alt_key_type",
        }
    }
}

/// Chooses the objects and their fields.
///
/// `settled` is the last bundle on which file and Kong agreed.
///
/// # Errors
///
/// Says why no object may be written, naming owners and names.
pub fn desired(
    want: &Want<'_>,
    wish: &Wish,
    snapshot: &Snapshot,
    settled: Option<Fingerprint>,
) -> Result<Desired, Refusal> {
    match wish {
        Wish::Certificate(settings, bundle) => {
            let facts = bundle.facts();
            let desired = certificate::desired(want, settings, facts, snapshot, settled)?;
            Ok(Desired::Certificate(desired, bundle.clone()))
        }
        Wish::Authorities(settings, authorities) => {
            authorities::desired(want, settings, authorities, snapshot).map(Desired::Authorities)
        }
        Wish::License(settings, license) => {
            let desired = license::desired(want, settings, license, snapshot);
            Ok(Desired::License(desired, Arc::clone(license)))
        }
    }
}

/// Objects of those who would undo what we write are left to them.
fn demand_no_other_controller<'a>(
    id: Uuid,
    tags: impl IntoIterator<Item = &'a String>,
) -> Result<(), Refusal> {
    let foreign = |tag: &&String| *tag == INGRESS_CONTROLLER || tag.starts_with(MANAGED_BY);
    match tags.into_iter().find(foreign) {
        Some(tag) => Err(Refusal::OtherController { id, tag: Quoted::new(tag) }),
        None => Ok(()),
    }
}

fn names_and_owners(left: &BTreeMap<Sni, Owner>) -> String {
    let pairs: Vec<_> = left.iter().map(|(sni, owner)| format!("{sni}: {owner}")).collect();
    Quoted::new(&pairs.join(", ")).to_string()
}

fn listed(lead: &str, names: &[Quoted]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<_> = names.iter().map(Quoted::as_str).collect();
    Quoted::new(&format!("{lead}{}", names.join(", "))).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn ids_are_the_same_in_every_replica_and_differ_by_instance_workspace_and_name() {
        let id = |instance: &str, workspace: Option<&str>, name: &str| {
            let workspace = workspace.map(|name| name.parse().unwrap());
            Own::new(&instance.parse().unwrap(), workspace.as_ref())
                .certificate(&name.parse().unwrap())
        };
        let expected: Uuid = "53ba7694-8c43-5413-a2d1-7732f254482c".parse().unwrap();
        assert_eq!(id("default", None, "web"), expected);
        assert_eq!(id("default", Some("default"), "web"), expected);
        for other in
            [id("edge", None, "web"), id("default", Some("a"), "web"), id("default", None, "api")]
        {
            assert_ne!(other, expected);
        }
    }
}
