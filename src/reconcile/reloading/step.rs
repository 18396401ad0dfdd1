//! What follows for one pair of files that nginx reads. Pure.

/// What handshakes showed in place of files of which it is not known whether nginx has read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// None can be asked.
    Never,
    /// Nothing yet.
    NotYet,
    /// Another chain, or no key of this type.
    Other,
}

/// All that counts for [`step`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// nginx is known to have read the files.
    pub(super) is_read: bool,
    /// It was told of them, and it is not known what became of it.
    pub(super) is_under_way: bool,
    /// It was told of other files at this place, likewise.
    pub(super) loads_other: bool,
    /// It may have read them before we looked, or when someone else had it reload.
    pub(super) is_perhaps_read: bool,
    /// It could not be told of them: someone else may have done so since.
    pub(super) is_untold: bool,
    /// It was told and did not take them; whether it is too early to tell it again.
    pub(super) refused: Option<bool>,
    pub(super) shown: Shown,
    /// They may have been written after it loaded its files.
    pub(super) may_be_newer: bool,
}

/// What follows for one pair of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// nginx has read them.
    InPlace,
    /// A handshake will tell whether it has.
    Ask,
    /// It was told, and has not answered by new workers.
    Wait,
    /// It was told, and went on with what it had.
    NotTaken,
    /// It is to be told.
    Tell,
}

pub(super) fn step(situation: &Situation) -> Step {
    let Situation { shown, refused, .. } = *situation;
    let may_be_read = situation.is_perhaps_read || situation.is_untold;
    let may_be_read = may_be_read || (shown != Shown::Never && !situation.may_be_newer);
    let is_older = shown == Shown::Never && !situation.may_be_newer;
    if situation.is_under_way || situation.loads_other {
        Step::Wait
    } else if situation.is_read || (is_older && (may_be_read || refused.is_some())) {
        Step::InPlace
    } else if refused == Some(true) {
        Step::NotTaken
    } else if shown == Shown::NotYet && may_be_read && refused.is_none() {
        Step::Ask
    } else {
        Step::Tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that nginx may have read when it started.
    const FOUND: Situation = Situation {
        is_read: false,
        is_under_way: false,
        loads_other: false,
        is_perhaps_read: true,
        is_untold: false,
        refused: None,
        shown: Shown::NotYet,
        may_be_newer: true,
    };
    /// Files that changed while we looked.
    const CHANGED: Situation = Situation { is_perhaps_read: false, ..FOUND };

    #[test]
    fn nginx_is_told_of_what_it_has_not_read_and_of_nothing_else() {
        let older = |situation| Situation { may_be_newer: false, ..situation };
        let shown = |situation, shown| Situation { shown, ..situation };
        let refused = |situation, early| Situation { refused: Some(early), ..situation };
        let untold = Situation { is_untold: true, ..CHANGED };
        let under_way = Situation { is_under_way: true, ..CHANGED };
        for (case, situation, expected) in [
            ("read", Situation { is_read: true, ..CHANGED }, Step::InPlace),
            (
                "read, whatever is shown",
                Situation { is_read: true, ..shown(CHANGED, Shown::Other) },
                Step::InPlace,
            ),
            ("told", under_way, Step::Wait),
            (
                "read, and told of another since",
                Situation { is_read: true, loads_other: true, ..CHANGED },
                Step::Wait,
            ),
            ("told, and shown another still", shown(under_way, Shown::Other), Step::Wait),
            ("found, and not asked", FOUND, Step::Ask),
            ("found, and not asked, though older", older(FOUND), Step::Ask),
            ("found, and another is shown", shown(FOUND, Shown::Other), Step::Tell),
            (
                "found, another is shown, though older",
                older(shown(FOUND, Shown::Other)),
                Step::Tell,
            ),
            ("found, shown nowhere, newer", shown(FOUND, Shown::Never), Step::Tell),
            ("found, shown nowhere, older", older(shown(FOUND, Shown::Never)), Step::InPlace),
            ("changed", CHANGED, Step::Tell),
            ("changed, shown nowhere", shown(CHANGED, Shown::Never), Step::Tell),
            ("changed, a worker crashed or a master came since", older(CHANGED), Step::Ask),
            ("changed, and shown other", older(shown(CHANGED, Shown::Other)), Step::Tell),
            ("changed, a worker crashed since", older(shown(CHANGED, Shown::Never)), Step::Tell),
            ("nginx was away", untold, Step::Ask),
            ("nginx was away, and has not read it", shown(untold, Shown::Other), Step::Tell),
            ("nginx was away, and is", shown(untold, Shown::Never), Step::Tell),
            ("nginx was away, and is back", older(shown(untold, Shown::Never)), Step::InPlace),
            ("not taken just now", refused(CHANGED, true), Step::NotTaken),
            ("not taken a while ago", refused(CHANGED, false), Step::Tell),
            ("found, not taken a while ago", refused(FOUND, false), Step::Tell),
            (
                "not taken, shown nowhere",
                refused(shown(CHANGED, Shown::Never), true),
                Step::NotTaken,
            ),
            (
                "not taken, and read since",
                older(refused(shown(CHANGED, Shown::Never), true)),
                Step::InPlace,
            ),
        ] {
            assert_eq!(step(&situation), expected, "{case}");
        }
    }
}
