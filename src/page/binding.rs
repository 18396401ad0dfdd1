//! A binding as a row of the table.

use super::bar::{self, Due};
use super::html::Html;
use super::{advice, moment};
use crate::binding::Kind;
use crate::clock::Timestamp;
use crate::names::BindingName;
use crate::status::{BindingStatus, KongStatus, Shown, Side, State, sides, words};

/// What stands above the cells.
pub(super) const COLUMNS: [&str; 5] =
    ["Binding", "State, and what to do", "In the file", "In Kong", "Served"];

/// The places of [`sides`] as columns.
const PLACES: [&str; 3] = ["file", "kong", "served"];
/// So many names stand in the row, the rest behind a click.
const FIRST_NAMES: usize = 4;

/// How a state looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Good,
    Waiting,
    Trouble,
    Aside,
}

impl Look {
    const fn of(state: State) -> Self {
        match state {
            State::InSync => Self::Good,
            State::Pending | State::NotYetValid | State::Held => Self::Waiting,
            State::Invalid
            | State::Refused
            | State::Unauthorized
            | State::Unreachable
            | State::NotServed => Self::Trouble,
            State::Unsupported => Self::Aside,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waiting => "waiting",
            Self::Trouble => "trouble",
            Self::Aside => "aside",
        }
    }

    /// A tick; a clock; a triangle with an exclamation mark; a circle with a bar.
    const fn shape(self) -> &'static str {
        match self {
            Self::Good => "M6.2 13.3.9 8l1.9-1.9 3.4 3.4 7-7L15.1 4.4Z",
            Self::Waiting => {
                "M8 .5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15ZM8 2.3a5.7 5.7 0 1 0 0 11.4A5.7 5.7 0 0 0 8 2.3ZM7.1 4h1.8v3.6l2.6 1.5-.9 1.56-3.5-2.02Z"
            }
            Self::Trouble => "M8 .8 15.8 14.8H.2ZM7.1 5.4v4.8h1.8V5.4ZM7.1 11.3v1.8h1.8v-1.8Z",
            Self::Aside => {
                "M8 .5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15ZM8 2.3a5.7 5.7 0 1 0 0 11.4A5.7 5.7 0 0 0 8 2.3ZM4.5 7.1h7v1.8h-7Z"
            }
        }
    }
}

/// The shape beside the word of a state.
pub(super) fn icon(html: &mut Html, state: State) {
    let look = Look::of(state);
    let class = format!("icon {}", look.class());
    let box_of = [("class", &*class), ("viewBox", "0 0 16 16"), ("aria-hidden", "true")];
    html.element("svg", &box_of, |html| {
        html.element("path", &[("fill-rule", "evenodd"), ("d", look.shape())], |_| {});
    });
}

/// The whole row.
pub(super) fn row(
    html: &mut Html,
    name: &BindingName,
    binding: &BindingStatus,
    kong: &KongStatus,
    now: Timestamp,
) {
    let class = Look::of(binding.state).class();
    html.element("tr", &[("role", "row"), ("class", class)], |html| {
        html.element("th", &[("scope", "row"), ("role", "rowheader")], |html| {
            html.leaf("span", &[("class", "name")], name.as_ref());
            html.leaf("span", &[("class", "kind")], advice::kind(binding.kind));
            names(html, binding);
            authorities(html, binding);
        });
        cell(html, 1, "state", |html| state(html, binding, kong));
        let sides = sides(binding);
        for (place, title) in PLACES.into_iter().zip(2..) {
            let side = sides.iter().find(|(found, _)| *found == place).map(|(_, side)| *side);
            cell(html, title, place, |html| match side {
                Some(Side::Bundle(shown)) => bundle(html, place, shown, binding, now),
                Some(other) => {
                    html.leaf("p", &[("class", "quiet")], &other.words().unwrap_or_default());
                }
                None => html.leaf("p", &[("class", "quiet")], absent(binding.kind, place)),
            });
        }
    });
    html.text("");
}

fn cell(html: &mut Html, column: usize, class: &str, content: impl FnOnce(&mut Html)) {
    let title = COLUMNS.get(column).copied().unwrap_or_default();
    html.element("td", &[("role", "cell"), ("class", class)], |html| {
        // Where the head of the table is not seen. Screen readers have it already.
        html.leaf("p", &[("class", "label"), ("aria-hidden", "true")], title);
        content(html);
    });
}

/// Why a kind has nothing in a place.
fn absent(kind: Kind, place: &str) -> &'static str {
    match (kind, place) {
        (Kind::Reload, _) => "not kept in the Admin API",
        (Kind::Declarative, "file") => "a configuration",
        (Kind::Declarative, _) => "no certificate",
        _ => "shown by no handshake",
    }
}

/// The names that Kong serves it for; those in the file where Kong has none.
fn names(html: &mut Html, binding: &BindingStatus) {
    let snis = binding.objects.iter().flat_map(|object| &object.snis);
    let mut names: Vec<&String> = snis.collect();
    if names.is_empty() {
        names = binding.file.iter().flat_map(|file| &file.names).collect();
    }
    let (first, more) = names.split_at(names.len().min(FIRST_NAMES));
    list(html, first);
    if !more.is_empty() {
        html.element("details", &[], |html| {
            html.leaf("summary", &[], &format!("{} more names", more.len()));
            list(html, more);
        });
    }
}

fn list(html: &mut Html, names: &[&String]) {
    if !names.is_empty() {
        html.element("ul", &[("class", "names")], |html| {
            for name in names {
                html.leaf("li", &[], name);
            }
        });
    }
}

/// Plugins and services name CA certificates by these ids.
fn authorities(html: &mut Html, binding: &BindingStatus) {
    if binding.kind != Kind::CaCertificate || binding.objects.is_empty() {
        return;
    }
    html.element("details", &[], |html| {
        let count = binding.objects.len();
        html.leaf("summary", &[], &if count == 1 { "1 id".into() } else { format!("{count} ids") });
        html.element("ul", &[("class", "ids")], |html| {
            for object in &binding.objects {
                html.element("li", &[], |html| {
                    html.leaf("code", &[], &object.id.to_string());
                    html.text(" ");
                    html.text(object.subject.as_deref().unwrap_or_default());
                });
            }
        });
    });
}

fn state(html: &mut Html, binding: &BindingStatus, kong: &KongStatus) {
    let state = binding.state;
    html.element("p", &[("class", "standing")], |html| {
        icon(html, state);
        html.leaf("strong", &[], advice::name(state));
        if let Some(reason) = binding.reason {
            html.text(" ");
            html.leaf("code", &[], reason.as_str());
        }
    });
    let sentence = || advice::sentence(binding, kong.unproven.is_none());
    html.leaf("p", &[("class", "why")], binding.message.as_deref().unwrap_or_else(sentence));
    for warning in &binding.warnings {
        html.element("p", &[("class", "warning")], |html| {
            html.leaf("strong", &[], "Warning:");
            html.text(" ");
            html.text(warning);
        });
    }
    html.element("p", &[("class", "quiet")], |html| {
        html.text("since ");
        moment(html, binding.since);
        if let Some(at) = binding.last_success.filter(|_| state != State::InSync) {
            html.text(", last in place ");
            moment(html, at);
        }
    });
}

/// What is in a place, and until when.
fn bundle(html: &mut Html, place: &str, shown: &Shown, binding: &BindingStatus, now: Timestamp) {
    // What Kong holds or serves is due for renewal by the same rule.
    let due = binding.file.as_ref().zip(binding.renew_at).map(|(file, at)| Due::of(file, at));
    let class = if bar::is_late(shown, due, now) { "left late" } else { "left" };
    html.leaf("p", &[("class", class)], &words::distance(shown.not_after, now));
    bar::draw(html, shown, due, now);
    let count = shown.leaf_sha256.len();
    let several = binding.kind == Kind::CaCertificate && count > 1;
    html.element("p", &[("class", "span")], |html| {
        if several {
            html.text("the first ends ");
        } else {
            html.text(&format!("{} to ", words::date(shown.not_before)));
        }
        day(html, shown.not_after);
        html.text(" UTC");
    });
    if let Some(at) = binding.renew_at.filter(|_| place == "file") {
        let due = if at <= now { "renewal overdue since " } else { "renewal due " };
        html.element("p", &[("class", "quiet")], |html| {
            html.text(due);
            day(html, at);
        });
    }
    if several {
        html.leaf("p", &[("class", "quiet")], &format!("{count} CA certificates"));
    } else {
        for leaf in &*shown.leaf_sha256 {
            html.leaf("code", &[("class", "digest")], &words::short(leaf));
        }
    }
    if place == "file" && binding.state == State::Invalid {
        html.leaf("p", &[("class", "quiet")], "the last that could be served");
    }
}

fn day(html: &mut Html, at: Timestamp) {
    html.leaf("time", &[("datetime", &at.to_string())], &words::date(at));
}
