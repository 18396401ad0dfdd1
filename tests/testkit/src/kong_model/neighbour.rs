//! Other nodes on the database of a [`KongModel`]. Each has a cache of its own, and hears of what was
//! written elsewhere when it asks for it, every `db_update_frequency` (`kong/cluster_events`).

use std::sync::Arc;

use super::KongModel;
use super::exchange::{Answer, Request};
use super::serving::{Cache, Offers, Serving};

/// A node of Kong beside that of a [`KongModel`].
#[derive(Debug, Default)]
pub struct Neighbour {
    cache: Cache,
    /// So many changes of the database it has heard of.
    heard: usize,
}

impl Neighbour {
    /// What its Admin API answers: that is read from the database. It hears at once of what it
    /// writes.
    pub fn answer(&mut self, kong: &mut KongModel, request: &Request) -> Answer {
        let before = kong.changes();
        let answer = kong.answer(request);
        self.cache.hear(kong.changes[before..].to_vec());
        answer
    }

    /// It asks for the first so many [`KongModel::changes`].
    pub fn hear(&mut self, kong: &KongModel, changes: usize) {
        if let Some(missed) = kong.changes.get(self.heard..changes) {
            self.cache.hear(missed.to_vec());
            self.heard = changes;
        }
    }

    /// What a handshake with its proxy port gets. Fills its cache.
    pub fn chain_for(&mut self, kong: &KongModel, sni: Option<&str>, offers: Offers) -> Serving {
        let database = (!kong.database_down).then_some(&kong.database);
        match sni {
            Some(sni) => self.cache.serve(sni, offers, database, &kong.default),
            None => Serving::Certified(Arc::clone(&kong.default)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{CertifiedPair, Pki};

    #[test]
    fn a_node_serves_what_it_has_cached_until_it_hears_of_the_change() {
        let [old, new] = [1, 2].map(|_| Pki::new().pair(&["a.test"]));
        let body = |pair: &CertifiedPair| json!({"cert": pair.chain_pem(), "key": pair.key_pem(), "snis": ["a.test"]});
        let mut kong = KongModel::new();
        let [mut writer, mut other] = [Neighbour::default(), Neighbour::default()];
        let serves = |node: &mut Neighbour, kong: &KongModel, pair: &CertifiedPair| {
            node.chain_for(kong, Some("a.test"), Offers::ALL).chain().unwrap()[0] == pair.leaf_der()
        };
        writer.answer(&mut kong, &Request::json("POST", "/certificates", &body(&old)));
        other.hear(&kong, kong.changes());
        assert!(serves(&mut writer, &kong, &old) && serves(&mut other, &kong, &old));
        let before = kong.changes();
        writer.answer(&mut kong, &Request::json("PUT", "/certificates/a.test", &body(&new)));
        other.hear(&kong, before);
        assert!(serves(&mut writer, &kong, &new) && serves(&mut other, &kong, &old));
        other.hear(&kong, kong.changes());
        assert!(serves(&mut other, &kong, &new));
    }
}
