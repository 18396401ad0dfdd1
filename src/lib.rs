//! A container in the Kong pod that makes Kong serve what is in mounted certificate files.

pub mod clock;
pub mod quote;
