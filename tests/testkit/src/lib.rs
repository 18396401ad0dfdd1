//! What the tests and the example stand on.
