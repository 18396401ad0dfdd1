//! A look at Kong that begins before the files are read: most renewals are for the names that the
//! binding had, so what will be asked is known. It is a look just before the write as any other, only
//! that Kong's answer is on its way while the new pair is parsed; where the files turn out to ask for
//! something else, it is thrown away.

use std::future::Future;

use futures_util::future::{Either, select};
use tokio::task::yield_now;

use super::files::Changed;
use super::ledger::Ledger;
use crate::binding::Material;
use crate::held::Snapshot;
use crate::kong::{Failure, Query};

/// So many turns of the runtime pass until a request is on its way: a connection is made, a task of its
/// own takes it over, and that takes the request.
const TURNS: usize = 3;

/// What Kong answered before it was known that it would be asked.
pub(super) type Ahead = Result<Snapshot, Failure>;

impl Ledger {
    /// What will be asked of Kong, if there is one new generation, of a certificate with the names that
    /// it had.
    pub(super) fn foreseen(&self, changed: &[Changed]) -> Option<Query> {
        let [Changed { binding, is_next: true, .. }] = changed else { return None };
        let Material::Certificate(settings) = &binding.material else { return None };
        let id = self.own.certificate_of(&binding.name, settings);
        let names = self.claims.names_of(&binding.name)?.clone();
        Some(Query::Certificate { id, names })
    }
}

/// Does `work` while `look` is under way. What is not wanted for what came of the work is neither waited
/// for nor returned.
pub(super) async fn meanwhile<T>(
    look: impl Future<Output = Ahead>,
    work: impl Future<Output = T>,
    is_wanted: impl FnOnce(&T) -> bool,
) -> (T, Option<Ahead>) {
    let look = std::pin::pin!(look);
    let work = std::pin::pin!(async {
        for _ in 0..TURNS {
            yield_now().await;
        }
        work.await
    });
    match select(look, work).await {
        Either::Left((look, work)) => {
            let done = work.await;
            let look = is_wanted(&done).then_some(look);
            (done, look)
        }
        Either::Right((done, look)) => {
            let look = if is_wanted(&done) { Some(look.await) } else { None };
            (done, look)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_question_is_on_its_way_before_the_files_are_read() {
        let is_sent = Arc::new(AtomicBool::new(false));
        let sends = Arc::clone(&is_sent);
        let look = async move {
            // As a new connection: one task makes it, and another sends what goes over it.
            let send = async move { sends.store(true, Ordering::Relaxed) };
            tokio::spawn(async move { tokio::spawn(send).await.unwrap() }).await.unwrap();
            pending().await
        };
        let read = async { is_sent.load(Ordering::Relaxed) };
        let (was_sent, answer) = meanwhile(look, read, |_| false).await;
        assert!(was_sent && answer.is_none());
    }
}
