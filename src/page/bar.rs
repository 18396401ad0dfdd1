//! How much of a life has passed, as a bar. Its words stand beside it.

use super::html::Html;
use crate::clock::Timestamp;
use crate::status::Shown;

/// The share of its life after which a bundle should have been renewed, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due(u64);

impl Due {
    /// The share at which `renew_at` comes in the life of the bundle in the file.
    pub(super) fn of(file: &Shown, renew_at: Timestamp) -> Self {
        Self(share(file, renew_at))
    }
}

/// Whether it should have been renewed, or is past its life.
pub(super) fn is_late(shown: &Shown, due: Option<Due>, now: Timestamp) -> bool {
    now > shown.not_after || due.is_some_and(|due| due.0 <= share(shown, now))
}

/// Draws the life of what is shown, with a mark where a renewal is due.
pub(super) fn draw(html: &mut Html, shown: &Shown, due: Option<Due>, now: Timestamp) {
    let passed = share(shown, now);
    let is_late = is_late(shown, due, now);
    // Told by shape, too: what is late has stripes.
    let class = if is_late { "bar late" } else { "bar" };
    // Lengths are attributes of SVG: the content security policy knows no inline style.
    html.element("svg", &[("class", class), ("aria-hidden", "true")], |html| {
        rect(html, "life", "0%", "100%");
        rect(html, "passed", "0%", &percent(passed));
        if is_late {
            let stripes = [("width", &*percent(passed)), ("height", "100%")];
            html.element("rect", &[&[("fill", "url(#stripes)")], &stripes[..]].concat(), |_| {});
        }
        if let Some(due) = due {
            rect(html, "due", &percent(due.0.min(990)), "2");
        }
    });
}

/// What the stripes of all bars are made of.
pub(super) fn patterns(html: &mut Html) {
    let size = [("id", "stripes"), ("width", "5"), ("height", "5")];
    let slanted = [("patternUnits", "userSpaceOnUse"), ("patternTransform", "rotate(45)")];
    html.element(
        "svg",
        &[("class", "hidden"), ("aria-hidden", "true"), ("width", "0"), ("height", "0")],
        |html| {
            html.element("pattern", &[&size[..], &slanted[..]].concat(), |html| {
                let stripe = [("class", "stripe"), ("width", "2"), ("height", "5")];
                html.element("rect", &stripe, |_| {});
            });
        },
    );
}

fn rect(html: &mut Html, class: &str, x: &str, width: &str) {
    let place = [("class", class), ("x", x), ("width", width), ("height", "100%")];
    html.element("rect", &place, |_| {});
}

/// The share of the life that has passed at a time, in thousandths.
fn share(shown: &Shown, at: Timestamp) -> u64 {
    let life = shown.not_before.until(shown.not_after).as_secs();
    let passed = shown.not_before.until(at).as_secs().min(life);
    let thousandths = (u128::from(passed) * 1000).checked_div(u128::from(life));
    // A life of no length is over.
    thousandths.and_then(|share| u64::try_from(share).ok()).unwrap_or(1000)
}

fn percent(thousandths: u64) -> String {
    format!("{}.{}%", thousandths / 10, thousandths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Fingerprint;

    fn shown(not_before: i64, not_after: i64) -> Shown {
        Shown {
            fingerprint: Fingerprint::of_text(b""),
            leaf_sha256: Box::default(),
            not_before: Timestamp(not_before),
            not_after: Timestamp(not_after),
            names: [].into(),
        }
    }

    #[test]
    fn a_life_passes_from_nothing_to_all_and_never_beyond() {
        for (now, told) in [(-5, "0.0%"), (0, "0.0%"), (333, "33.3%"), (1000, "100.0%")] {
            assert_eq!(percent(share(&shown(0, 1000), Timestamp(now))), told);
        }
        assert_eq!(share(&shown(0, 1000), Timestamp(i64::MAX)), 1000);
        assert_eq!(share(&shown(7, 7), Timestamp(7)), 1000);
        assert_eq!(share(&shown(i64::MIN, i64::MAX), Timestamp(i64::MAX)), 1000);
    }

    #[test]
    fn what_is_late_is_told_by_shape() {
        let drawn = |now, renew_at: Option<i64>| {
            let due = renew_at.map(|at| Due::of(&shown(0, 1000), Timestamp(at)));
            Html::document(|html| draw(html, &shown(0, 1000), due, Timestamp(now)))
        };
        for (now, renew_at, is_late) in [
            (100, Some(750), false),
            (750, Some(750), true),
            (900, None, false),
            (1001, None, true),
        ] {
            let html = drawn(now, renew_at);
            assert_eq!(html.contains("url(#stripes)"), is_late, "{html}");
            assert_eq!(html.contains("class=\"due\""), renew_at.is_some(), "{html}");
        }
    }
}
