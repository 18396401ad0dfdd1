//! The words in which dates and digests are told to people.

use crate::bundle::LeafDigest;
use crate::clock::Timestamp;

const DAY: i64 = 24 * 60 * 60;
/// So many characters are the first eight bytes of a digest, with their colons.
const SHORT_DIGEST: usize = 8 * 3 - 1;

/// The day.
pub(crate) fn date(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('T').map_or(text.clone(), |(day, _)| day.to_owned())
}

/// Day and time.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().replace('T', " ").replace('Z', " UTC")
}

/// Whole days until `not_after`; negative once it is past.
pub(crate) const fn days_left(not_after: Timestamp, now: Timestamp) -> i64 {
    not_after.0.saturating_sub(now.0).div_euclid(DAY)
}

/// How far away an end is, or how long ago it was.
pub(crate) fn distance(not_after: Timestamp, now: Timestamp) -> String {
    match days_left(not_after, now) {
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        days @ 2.. => format!("{days} days left"),
        // The last day is not over yet.
        days => match -1 - days {
            0 => "expired less than a day ago".to_owned(),
            1 => "expired 1 day ago".to_owned(),
            ago => format!("expired {ago} days ago"),
        },
    }
}

/// The day, and how far away it is.
pub(crate) fn until(not_after: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", date(not_after), distance(not_after, now))
}

/// The first bytes of a digest: enough to tell certificates apart.
pub(crate) fn short(digest: &LeafDigest) -> String {
    digest.to_string().chars().take(SHORT_DIGEST).collect()
}

/// The first bytes of each leaf's digest.
pub(crate) fn leaves(leaf_sha256: &[LeafDigest]) -> String {
    leaf_sha256.iter().map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_distance() {
        let end = Timestamp(1_795_324_280);
        for (seconds, told) in [
            (30 * DAY + 5, "2026-11-22 (30 days left)"),
            (2 * DAY - 1, "2026-11-22 (1 day left)"),
            (DAY - 1, "2026-11-22 (less than a day left)"),
            (0, "2026-11-22 (less than a day left)"),
            (-1, "2026-11-22 (expired less than a day ago)"),
            (-DAY - 1, "2026-11-22 (expired 1 day ago)"),
            (-9 * DAY - 1, "2026-11-22 (expired 9 days ago)"),
        ] {
            assert_eq!(until(end, Timestamp(end.0 - seconds)), told);
        }
        assert_eq!(days_left(end, Timestamp(end.0 + 1)), -1);
        assert!(until(Timestamp(i64::MAX), Timestamp(0)).contains("days left"));
    }

    #[test]
    fn the_first_bytes_of_each_digest_are_shown() {
        let digests = LeafDigest::from_hex(&"AB".repeat(32)).map(|digest| [digest; 2]);
        assert_eq!(
            digests.map(|both| leaves(&both)),
            Some(["AB:AB:AB:AB:AB:AB:AB:AB"; 2].join(" "))
        );
        assert_eq!(leaves(&[]), "");
    }
}
