//! Which binding has a name or an object when several could: no two of ours fight.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::bundle::LeafDigest;
use crate::few::Few;
use crate::names::{BindingName, Sni};
use crate::packed::pack;

/// What every binding of this sidecar asks for.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    names: BTreeMap<Sni, Few<Claim>>,
    objects: BTreeMap<Uuid, BindingName>,
    bindings: BTreeMap<BindingName, Claimed>,
    placed: BTreeMap<LeafDigest, Place>,
}

/// What a binding asks for.
#[derive(Clone, Debug, Default)]
struct Claimed {
    /// `None` if it never asked.
    names: Option<Few<Sni>>,
    /// What it feeds.
    object: Option<Uuid>,
}

/// Where a CA certificate is configured to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose setting it is.
    pub binding: BindingName,
    /// The object.
    pub id: Uuid,
}

/// Orders those who want a name: who has it configured comes first, then the first by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    only_in_certificate: bool,
    binding: BindingName,
}

impl Claims {
    /// Replaces the names that `binding` asks for.
    pub fn claim_names(&mut self, binding: &BindingName, names: &BTreeSet<Sni>, configured: bool) {
        if self.names_of(binding).is_some_and(|known| known.iter().eq(names)) {
            return;
        }
        let claimed = self.bindings.entry(binding.clone()).or_default();
        for sni in claimed.names.replace(names.clone().into()).into_iter().flatten() {
            if let Entry::Occupied(mut claims) = self.names.entry(sni) {
                claims.get_mut().retain(|claim| claim.binding != *binding);
                if claims.get().is_empty() {
                    claims.remove();
                }
            }
        }
        for sni in names {
            let claim = Claim { only_in_certificate: !configured, binding: binding.clone() };
            self.names.entry(sni.clone()).or_default().insert(claim);
        }
    }

    /// The names that `binding` asks for; `None` if it never asked.
    #[must_use]
    pub fn names_of(&self, binding: &BindingName) -> Option<&Few<Sni>> {
        self.bindings.get(binding)?.names.as_ref()
    }

    /// Notes that `binding` feeds the object `id`, unless another does.
    pub fn claim_object(&mut self, binding: &BindingName, id: Uuid) {
        if self.fed_by(binding) == Some(id) {
            return;
        }
        self.release_object(binding);
        self.bindings.entry(binding.clone()).or_default().object = Some(id);
        self.objects.entry(id).or_insert_with(|| binding.clone());
    }

    fn release_object(&mut self, binding: &BindingName) {
        let claimed = self.bindings.get_mut(binding);
        if let Some(id) = claimed.and_then(|claimed| claimed.object.take())
            && self.objects.get(&id) == Some(binding)
        {
            self.objects.remove(&id);
        }
    }

    /// Whether the object `id` is fed.
    #[must_use]
    pub fn is_fed(&self, id: Uuid) -> bool {
        self.objects.contains_key(&id)
    }

    /// The object that `binding` feeds.
    #[must_use]
    pub fn fed_by(&self, binding: &BindingName) -> Option<Uuid> {
        self.bindings.get(binding)?.object
    }

    /// `place` is configured for this CA certificate, and for no other.
    pub fn claim_place(&mut self, digest: LeafDigest, place: Place) {
        self.release_place(&place.binding);
        self.placed.entry(digest).or_insert(place);
    }

    /// `binding` does not write to its place as things are: others need not leave anything to it.
    pub fn release_place(&mut self, binding: &BindingName) {
        self.placed.retain(|_, place| place.binding != *binding);
    }

    /// Where another binding than `binding` has it configured that this CA certificate is.
    #[must_use]
    pub fn place_of(&self, binding: &BindingName, digest: LeafDigest) -> Option<&Place> {
        self.placed.get(&digest).filter(|place| place.binding != *binding)
    }

    /// Takes no more room than is needed, after many were claimed.
    pub fn pack(&mut self) {
        pack(&mut self.names);
        pack(&mut self.objects);
        pack(&mut self.bindings);
    }

    /// `binding` asks for nothing any more.
    pub fn release(&mut self, binding: &BindingName) {
        self.claim_names(binding, &BTreeSet::new(), false);
        self.release_object(binding);
        self.release_place(binding);
        self.bindings.remove(binding);
    }

    /// Whether the binding that feeds the object `id` asks for `sni`; true if none of ours feeds it.
    #[must_use]
    pub fn is_wanted_by_feeder(&self, id: Uuid, sni: &Sni) -> bool {
        let feeder = self.objects.get(&id).and_then(|feeder| self.names_of(feeder));
        feeder.is_none_or(|names| names.contains(sni))
    }

    /// The binding other than `binding` that comes before it for `sni`.
    #[must_use]
    pub fn before(&self, binding: &BindingName, sni: &Sni) -> Option<&BindingName> {
        let first = &self.names.get(sni)?.first()?.binding;
        (first != binding).then_some(first)
    }

    /// Whether a binding other than `binding` feeds the object `id`.
    #[must_use]
    pub fn is_fed_by_another(&self, binding: &BindingName, id: Uuid) -> bool {
        self.objects.get(&id).is_some_and(|owner| owner != binding)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Sni> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_goes_to_whom_it_is_configured_for_then_to_the_first_by_name() {
        let (a, b, c) = ("a".parse().unwrap(), "b".parse().unwrap(), "c".parse().unwrap());
        let sni = "x.test".parse().unwrap();
        let mut claims = Claims::default();
        claims.claim_names(&b, &names(&["x.test"]), false);
        assert_eq!(claims.before(&b, &sni), None);
        claims.claim_names(&a, &names(&["x.test", "y.test"]), false);
        assert_eq!(claims.before(&b, &sni), Some(&a));
        claims.claim_names(&c, &names(&["x.test"]), true);
        assert_eq!(claims.before(&a, &sni), Some(&c));
        claims.claim_names(&c, &names(&[]), true);
        claims.claim_names(&a, &names(&["y.test"]), false);
        assert_eq!(claims.before(&b, &sni), None);
    }

    #[test]
    fn a_place_is_of_one_certificate_and_for_the_other_bindings() {
        let (a, b): (BindingName, BindingName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (one, two) = (LeafDigest::of(b"one"), LeafDigest::of(b"two"));
        let place = Place { binding: a.clone(), id: Uuid::from_u128(1) };
        let mut claims = Claims::default();
        claims.claim_place(one, place.clone());
        assert_eq!((claims.place_of(&b, one), claims.place_of(&a, one)), (Some(&place), None));
        claims.claim_place(two, place.clone());
        assert_eq!((claims.place_of(&b, one), claims.place_of(&b, two)), (None, Some(&place)));
        claims.release_place(&a);
        assert_eq!(claims.place_of(&b, two), None);
        claims.claim_place(two, place);
        claims.release(&a);
        assert_eq!(claims.place_of(&b, two), None);
    }

    #[test]
    fn an_object_is_fed_by_the_first_that_claimed_it() {
        let (a, b): (BindingName, BindingName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut claims = Claims::default();
        claims.claim_object(&b, one);
        claims.claim_object(&a, one);
        assert!(claims.is_fed_by_another(&a, one));
        assert!(!claims.is_fed_by_another(&b, one));
        claims.claim_object(&b, two);
        assert!(!claims.is_fed_by_another(&a, one));
    }
}
