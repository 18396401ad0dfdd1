//! The real world: the system's clock, signals and exit codes.

fn main() {}
