//! A round of handshakes, and what came of it.

use super::{Handshake, ProxyPort, Question, Unseen};
use crate::bundle::ServedChain;
use crate::names::BindingName;

/// What a round is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Whether the names of a binding are served with what Kong holds, in this round of asking:
    /// what an earlier round has shown is no answer to it.
    Binding(BindingName, u64),
    /// What clients get that send no name.
    NoName,
}

/// A round of handshakes with one port, to be made whenever there is time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// What it is about.
    pub about: About,
    /// Whom to ask.
    pub port: ProxyPort,
    /// What to ask.
    pub questions: Vec<Question>,
    /// What stands for a wildcard.
    pub label: String,
}

/// What came of an [`Errand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it is about.
    pub about: About,
    /// What was asked, and what came.
    pub seen: Vec<(Question, Result<ServedChain, Unseen>)>,
}

impl Evidence {
    /// Whether the port may not be Kong's any more, or want something else.
    #[must_use]
    pub fn doubts_port(&self) -> bool {
        let doubts = |unseen: &Unseen| unseen.is_silence() || *unseen == Unseen::Closed;
        self.seen.iter().any(|(_, seen)| seen.as_ref().is_err_and(doubts))
    }
}

impl Errand {
    /// Asks one by one; where nobody answers the rest is not asked.
    pub async fn run(self, handshake: &impl Handshake) -> Evidence {
        let mut seen = Vec::new();
        for question in self.questions {
            let sni = question.asked(&self.label);
            let chain = handshake.chain(&self.port, sni.as_deref(), question.key_type).await;
            let is_over = chain.as_ref().is_err_and(Unseen::is_silence);
            seen.push((question, chain));
            if is_over {
                break;
            }
        }
        Evidence { about: self.about, seen }
    }
}
