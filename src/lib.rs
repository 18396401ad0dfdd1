//! A container in the Kong pod that makes Kong serve what is in mounted certificate files.
//!
//! The data flows one way; each stage knows the type that the stage before hands over, and nothing
//! of the stage after:
//!
//! ```text
//! Wake ▶ Generation ▶ Bundle ▶ Held ▶ Desired ▶ Decision ▶ Change ▶ Proof ▶ Conclusion ▶ Status
//! watch  volume       bundle   kong   desired   decide     kong     proof   reconcile    status
//! ```
//!
//! A file event means "look again", no more. Events, retries, the safety poll and the resync run the
//! same pass, and a pass writes what differs: a lost event costs time, never truth.

// What is asked for, and the words used for it.
pub mod clock;
pub mod few;
pub mod names;
pub(crate) mod packed;
pub mod quote;
pub mod settings;
pub(crate) mod tls;

// Files into bundles, as far as there is memory for them.
mod allowance;
pub mod binding;
pub mod bundle;
pub mod declarative;
pub mod volume;
pub mod watch;

// What should be, and what to do about it: pure.
pub mod claims;
pub mod decide;
pub mod desired;
pub mod held;

// Kong, what it serves, the pass, and when it runs.
pub mod kong;
pub mod nginx;
pub mod proof;
pub mod reconcile;
pub mod schedule;
pub mod sidecar;

// What is known, and who is told.
pub mod cli;
pub mod http;
pub mod log;
pub mod metrics;
pub mod page;
pub mod status;
