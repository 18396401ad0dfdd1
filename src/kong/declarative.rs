//! The configuration of a Kong without a database: one text, read and written as a whole.

mod document;
mod json;
mod scalar;
mod unreadable;
mod value;
mod yaml;

pub use self::document::Document;
pub use self::unreadable::{Flaw, Place, Unreadable};
