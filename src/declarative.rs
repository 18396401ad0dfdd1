//! The configuration of a Kong without a database: one text, read and written as a whole.

mod carry;
mod document;
mod entities;
mod json;
mod merge;
mod scalar;
mod snapshot;
mod unreadable;
mod value;
mod yaml;

pub use self::carry::Outlived;
pub use self::document::Document;
pub use self::entities::{Entity, RawAuthority, RawLicense};
pub use self::merge::{AltPair, Entry, OwnFields};
pub use self::snapshot::Known;
pub use self::unreadable::{Flaw, Place, Unreadable};
