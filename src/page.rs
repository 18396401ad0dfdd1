//! The page at `/`: what is known, for people. A pure function of the status and the time.
//!
//! It works without scripts, loads nothing, and shows nothing that `/status` does not.

mod advice;
mod bar;
mod binding;
mod html;
#[cfg(test)]
mod tests;

use self::html::Html;
use crate::clock::Timestamp;
use crate::names::BindingName;
use crate::status::{BindingStatus, KongStatus, State, Status, words};

/// What browsers may do with the page: apply its one style sheet, known by its hash, and no more.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-5yhIyNKjAaXtzfeiTI5mGI6PUTQ+Jc7cAmEp5/Fp/bg='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Seconds between two loads of the page by itself.
pub const REFRESH: &str = "10";

const STYLE: &str = include_str!("page/style.css");

/// How the reader wants the page, as the query of its address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether it loads itself again. Whoever reads slowly, or has it read aloud, can stop that.
    pub refreshes: bool,
    /// The one state whose bindings are shown.
    pub only: Option<State>,
}

impl View {
    /// What the query asks for; what it says besides is ignored.
    #[must_use]
    pub fn of_query(query: Option<&str>) -> Self {
        let mut view = Self { refreshes: true, only: None };
        for part in query.unwrap_or_default().split('&') {
            match part.split_once('=') {
                Some(("refresh", "off")) => view.refreshes = false,
                Some(("state", word)) => {
                    view.only = State::ALL.into_iter().find(|state| state.as_str() == word);
                }
                _ => {}
            }
        }
        view
    }

    fn address(self) -> String {
        let state = self.only.map(|state| format!("state={state}"));
        let refresh = (!self.refreshes).then(|| "refresh=off".to_owned());
        let query: Vec<String> = [state, refresh].into_iter().flatten().collect();
        if query.is_empty() { "/".to_owned() } else { format!("/?{}", query.join("&")) }
    }
}

/// The whole page.
#[must_use]
pub fn render(status: &Status, now: Timestamp, view: View) -> String {
    Html::document(|html| {
        html.element("head", &[], |html| head(html, status));
        html.element("body", &[], |html| {
            bar::patterns(html);
            html.element("header", &[], |html| masthead(html, status, now, view));
            html.element("main", &[], |html| {
                findings(html, status);
                if status.bindings.is_empty() {
                    nothing_found(html);
                } else {
                    counts(html, status, view);
                    table(html, status, now, view);
                }
            });
        });
    })
}

fn head(html: &mut Html, status: &Status) {
    html.void("meta", &[("charset", "utf-8")]);
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.leaf("title", &[], &format!("{} – kong-cert-reloader", title(status)));
    html.style(STYLE);
}

fn title(status: &Status) -> String {
    let mut worst: Vec<State> = status.bindings.values().map(|binding| binding.state).collect();
    worst.sort_by_key(|state| severity(*state));
    match worst.first() {
        Some(state) if !state.is_in_place() => {
            format!("{}, worst: {}", standing(status), advice::name(*state).to_lowercase())
        }
        _ => standing(status),
    }
}

/// How all bindings stand, in a few words.
fn standing(status: &Status) -> String {
    let all = status.bindings.len();
    let open = status.bindings.values().filter(|binding| !binding.state.is_in_place()).count();
    match (open, all) {
        (_, 0) => "No bindings found".to_owned(),
        (0, 1) => "1 in place".to_owned(),
        (0, all) => format!("All {all} in place"),
        (open, all) => format!("{open} of {all} not in place"),
    }
}

/// The worst first.
const fn severity(state: State) -> u8 {
    match state {
        State::NotServed => 0,
        State::Invalid => 1,
        State::Refused => 2,
        State::Unauthorized => 3,
        State::Unreachable => 4,
        State::Held => 5,
        State::Pending => 6,
        State::NotYetValid => 7,
        State::InSync => 8,
        State::Unsupported => 9,
    }
}

fn masthead(html: &mut Html, status: &Status, now: Timestamp, view: View) {
    html.element("p", &[("class", "product")], |html| {
        html.leaf("strong", &[], "kong-cert-reloader");
        html.text(&format!(" {}, instance ", status.version));
        html.leaf("strong", &[], &status.instance);
    });
    html.leaf("h1", &[], &standing(status));
    html.element("p", &[("class", "as-of")], |html| {
        html.text("As of ");
        moment(html, now);
        if view.refreshes {
            html.text(&format!(", refreshed every {REFRESH} s. "));
        } else {
            html.text(", not refreshed. ");
        }
        let other = View { refreshes: !view.refreshes, ..view };
        let offer = if view.refreshes { "Pause" } else { "Refresh by itself" };
        html.leaf("a", &[("href", &other.address())], offer);
    });
    html.element("dl", &[("class", "facts")], |html| {
        for (term, told) in facts(status) {
            html.element("div", &[], |html| {
                html.leaf("dt", &[], term);
                html.leaf("dd", &[], &told);
            });
        }
    });
}

fn moment(html: &mut Html, at: Timestamp) {
    html.leaf("time", &[("datetime", &at.to_string())], &words::moment(at));
}

/// What is around the bindings.
fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Kong", kong(&status.kong)), ("Proof", proof(&status.kong))];
    if status.dry_run {
        facts.push(("Dry run", "nothing is written to Kong (DRY_RUN)".to_owned()));
    }
    let files = match &status.polling {
        Some(why) => format!("found by polling alone: {why}"),
        None => "watched".to_owned(),
    };
    facts.push(("Files", files));
    facts.push(("Ready", if status.ready { "yes" } else { "not yet" }.to_owned()));
    facts
}

fn kong(kong: &KongStatus) -> String {
    let version = kong.version.as_deref().unwrap_or("of unknown version");
    match kong.mode {
        Some("database") => format!("{version}, on a database"),
        Some("control_plane") => format!("{version}, a control plane"),
        Some("dbless") => format!("{version}, without a database"),
        Some(other) => format!("{version}, {other}"),
        None => "not known yet".to_owned(),
    }
}

fn proof(kong: &KongStatus) -> String {
    match (&kong.unproven, &kong.proxy) {
        (Some(why), _) => format!("none, no handshakes are made: {why}"),
        (None, Some(port)) => format!("by handshakes with {port}"),
        (None, None) => "not known yet".to_owned(),
    }
}

fn findings(html: &mut Html, status: &Status) {
    if status.findings.is_empty() {
        return;
    }
    html.element("section", &[("class", "findings")], |html| {
        html.leaf("h2", &[], "Findings");
        html.element("ul", &[], |html| {
            for finding in &status.findings {
                html.leaf("li", &[], finding);
            }
        });
    });
}

fn nothing_found(html: &mut Html) {
    html.element("section", &[("class", "empty")], |html| {
        html.leaf("h2", &[], "What to do");
        html.element("p", &[], |html| {
            html.text("Mount Secrets, each with ");
            html.leaf("code", &[], "tls.crt");
            html.text(" and ");
            html.leaf("code", &[], "tls.key");
            html.text(", as directories beneath ");
            html.leaf("code", &[], "CERT_RELOADER__CERTS_DIR");
            html.text(" (");
            html.leaf("code", &[], "/etc/kong-certs");
            html.text(" if it is not set), or name a directory in ");
            html.leaf("code", &[], "CERT_RELOADER__CERTIFICATES__<NAME>__DIR");
            html.text(". A directory that appears later is taken in.");
        });
    });
}

/// How many bindings are in each state, each a link to them alone.
fn counts(html: &mut Html, status: &Status, view: View) {
    let mut states = State::ALL;
    states.sort_by_key(|state| severity(*state));
    html.element("nav", &[("aria-label", "Bindings by state")], |html| {
        html.element("ul", &[("class", "counts")], |html| {
            count(html, "All", status.bindings.len(), View { only: None, ..view }, view);
            for state in states {
                let bindings = status.bindings.values();
                let number = bindings.filter(|binding| binding.state == state).count();
                if number > 0 || view.only == Some(state) {
                    let only = View { only: Some(state), ..view };
                    count(html, advice::name(state), number, only, view);
                }
            }
        });
    });
}

fn count(html: &mut Html, name: &str, number: usize, leads_to: View, view: View) {
    html.element("li", &[], |html| {
        let address = leads_to.address();
        let mut attributes = vec![("href", &*address)];
        if leads_to == view {
            attributes.push(("aria-current", "true"));
        }
        html.element("a", &attributes, |html| {
            if let Some(state) = leads_to.only {
                binding::icon(html, state);
            }
            html.text(&format!("{name} "));
            html.leaf("b", &[], &number.to_string());
        });
    });
}

fn table(html: &mut Html, status: &Status, now: Timestamp, view: View) {
    let shown = |binding: &BindingStatus| view.only.is_none_or(|only| binding.state == only);
    let all = status.bindings.iter().map(|(name, binding)| (name, &**binding));
    let mut rows: Vec<(&BindingName, &BindingStatus)> =
        all.filter(|(_, binding)| shown(binding)).collect();
    // Within a state, what is odd comes first. The names are in order already.
    rows.sort_by_key(|(_, binding)| {
        (severity(binding.state), !binding.is_overdue(now) && binding.warnings.is_empty())
    });
    let caption = match view.only.map(|state| advice::name(state).to_lowercase()) {
        None => "Each binding, trouble first".to_owned(),
        Some(state) if rows.is_empty() => format!("Bindings that are {state}: none"),
        Some(state) => format!("Bindings that are {state}"),
    };
    // A narrow window shows each row as a card; the roles keep it a table for screen readers.
    html.element("table", &[("role", "table")], |html| {
        html.leaf("caption", &[], &caption);
        html.element("thead", &[("role", "rowgroup")], |html| {
            html.element("tr", &[("role", "row")], |html| {
                for title in binding::COLUMNS {
                    html.leaf("th", &[("scope", "col"), ("role", "columnheader")], title);
                }
            });
        });
        html.element("tbody", &[("role", "rowgroup")], |html| {
            for (name, binding) in rows {
                binding::row(html, name, binding, &status.kong, now);
            }
        });
    });
}
