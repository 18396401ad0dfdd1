//! What did not hold in any of many cases, told at once.

use std::fmt::Display;

/// Keeps what did not hold in any case, and tells all of it at once.
#[derive(Default)]
pub(crate) struct Table {
    cases: usize,
    flaws: Vec<String>,
}

impl Table {
    /// A case was played.
    pub(crate) fn note(&mut self, case: impl Display, flaws: Vec<String>) {
        self.cases += 1;
        self.flaws.extend(flaws.into_iter().map(|flaw| format!("{case}: {flaw}")));
    }

    /// Fails if something did not hold, or if fewer cases were played than there are, or none.
    pub(crate) fn assert_holds(self, cases: usize) {
        assert!(cases > 0, "there are no cases");
        let Self { flaws, .. } = &self;
        assert!(flaws.is_empty(), "of {} cases:\n{}", self.cases, flaws.join("\n"));
        assert_eq!(self.cases, cases, "cases that were played");
    }
}
