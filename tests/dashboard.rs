//! The dashboard: that Grafana can read it, and that all it asks for is there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "alerts/query.rs"]
mod query;
#[path = "readme/vocabulary.rs"]
mod vocabulary;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use kong_cert_reloader::status::State;
use query::Exported;
use serde_json::Value;

const DASHBOARD: &str = include_str!("../helm/kong-cert-reloader/files/dashboard.json");
/// Grafana's own, and with what they are filled in for a check.
const OF_GRAFANA: [(&str, &str); 2] = [("$__rate_interval", "5m"), ("$__range", "24h")];

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn variables(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["templating"]["list"]).collect()
}

/// Those that show something, not the headings between them.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = list(&dashboard["panels"]);
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// Each query with the title of its panel.
fn queries(dashboard: &Value) -> Vec<(&str, String)> {
    let of = |panel| {
        let title = text(panel, "title");
        list(&panel["targets"]).map(move |target| (title, text(target, "expr").to_owned()))
    };
    panels(dashboard).into_iter().flat_map(of).collect()
}

/// With something in the place of each variable.
fn filled(query: &str, dashboard: &Value) -> String {
    let mut filled = query.to_owned();
    for (variable, value) in OF_GRAFANA {
        filled = filled.replace(variable, value);
    }
    for variable in variables(dashboard) {
        filled = filled.replace(&format!("${}", text(variable, "name")), "x");
    }
    filled
}

#[test]
fn each_query_names_what_is_exported() {
    let dashboard = dashboard();
    let exported = Exported::now();
    for (title, query) in queries(&dashboard) {
        let query = filled(&query, &dashboard);
        assert!(!query.contains('$'), "{title}: a variable that there is not: {query}");
        assert_eq!(exported.mistakes(&query), [""; 0], "{title}: {query}");
    }
}

#[test]
fn each_variable_asks_for_what_is_exported() {
    let dashboard = dashboard();
    let exported = Exported::now();
    let mut names = Vec::new();
    for variable in variables(&dashboard) {
        names.push(text(variable, "name"));
        if variable["type"] == "datasource" {
            continue;
        }
        assert_eq!(text(&variable["datasource"], "uid"), "${datasource}");
        let query = filled(text(&variable["query"], "query"), &dashboard);
        assert_eq!(text(variable, "definition"), text(&variable["query"], "query"));
        let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        assert_eq!(exported.mistakes(selector), [""; 0], "{query}");
        assert!(exported.has_label(label), "{query}");
    }
    assert_eq!(names, ["datasource", "namespace", "pod", "binding"]);
}

#[test]
fn each_query_can_be_asked() {
    let dashboard = dashboard();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (_, query) in queries(&dashboard) {
        let query = serde_json::to_string(&filled(&query, &dashboard)).unwrap();
        writeln!(rules, "  - record: a\n    expr: {query}").unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("rules.yaml");
    std::fs::write(&file, rules).unwrap();
    let arguments = ["check", "rules", "--lint=none"];
    let Ok(checked) = Command::new("promtool").args(arguments).arg(file).output() else {
        testkit::missing("promtool is not installed; .ci/run fetches it");
        return;
    };
    let told = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn each_label_of_a_legend_is_left_by_its_query() {
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for target in list(&panel["targets"]) {
            let expr = text(target, "expr");
            for label in text(target, "legendFormat").split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                let mut grouped = expr.split(" by (").skip(1);
                let first = grouped.next().map(|rest| rest.split(')').next().unwrap());
                let is_left = first.is_none_or(|labels| labels.split(", ").any(|one| one == label));
                assert!(is_left, "{}: {label} is summed away", text(panel, "title"));
            }
        }
    }
}

#[test]
fn each_column_of_a_table_comes_from_a_query() {
    let dashboard = dashboard();
    let exported = Exported::now();
    for panel in panels(&dashboard).into_iter().filter(|panel| panel["type"] == "table") {
        let title = text(panel, "title");
        let targets: Vec<&Value> = list(&panel["targets"]).collect();
        let values: BTreeSet<String> = match targets.len() {
            1 => ["Value".to_owned()].into(),
            _ => targets.iter().map(|of| format!("Value #{}", text(of, "refId"))).collect(),
        };
        let organize = list(&panel["transformations"]).find(|of| of["id"] == "organize").unwrap();
        let options = &organize["options"];
        let renamed = options["renameByName"].as_object().unwrap();
        let excluded = options["excludeByName"].as_object().unwrap();
        for column in renamed.keys().chain(excluded.keys()) {
            let known = column == "Time" || values.contains(column) || exported.has_label(column);
            assert!(known, "{title}: no column {column}");
        }
        for value in &values {
            let told = renamed.contains_key(value) || excluded.contains_key(value);
            assert!(told, "{title}: what is {value}?");
        }
        let shown: BTreeSet<&str> = renamed.values().map(|name| name.as_str().unwrap()).collect();
        let sorted = list(&panel["options"]["sortBy"]).map(|by| text(by, "displayName"));
        let overridden = list(&panel["fieldConfig"]["overrides"]);
        let overridden = overridden.map(|of| text(&of["matcher"], "options"));
        for name in sorted.chain(overridden) {
            assert!(shown.contains(name), "{title}: no column {name}");
        }
    }
}

#[test]
fn each_state_has_its_own_name_and_colour() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    let panel = |title| *panels.iter().find(|panel| panel["title"] == title).unwrap();
    let timeline = panel("State");
    let expr = text(&timeline["targets"][0], "expr");
    let mappings = &timeline["fieldConfig"]["defaults"]["mappings"][0]["options"];
    assert_eq!(mappings.as_object().unwrap().len(), State::ALL.len());
    let table = panel("What is served, and until when");
    let mut columns = list(&table["fieldConfig"]["overrides"]);
    let column = columns.find(|of| of["matcher"]["options"] == "State").unwrap();
    let mapping = list(&column["properties"]).find(|of| of["id"] == "mappings").unwrap();
    let coloured = &mapping["value"][0]["options"];
    for state in State::ALL.map(State::as_str) {
        let (_, rest) = expr.split_once(&format!("state=\"{state}\"}} * ")).unwrap();
        let number = rest.split_whitespace().next().unwrap();
        assert_eq!(mappings[number]["text"], state);
        assert_eq!(coloured[state]["text"], state);
    }
}

#[test]
fn each_panel_has_a_title_a_description_and_a_unit() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(titles.insert(title), "{title} twice");
        assert!(text(panel, "description").len() > 20, "{title}");
        assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}");
        assert_eq!(text(&panel["datasource"], "uid"), "${datasource}", "{title}");
        for target in list(&panel["targets"]) {
            assert_eq!(text(&target["datasource"], "uid"), "${datasource}", "{title}");
        }
    }
}

#[test]
fn panels_do_not_overlap_and_have_ids_of_their_own() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another one");
            }
        }
    }
}

#[test]
fn it_has_an_address_that_stays_and_no_id_of_one_grafana() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "kong-cert-reloader");
    assert!(dashboard.get("id").is_none_or(Value::is_null), "Grafana gives it");
    assert_eq!(dashboard["schemaVersion"], 39);
    assert!(!DASHBOARD.contains("__inputs"), "it is provisioned, and nobody is asked");
}
