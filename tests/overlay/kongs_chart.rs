//! What Kong's chart makes of an overlay: rendered where `KONG_CHART` names a directory that has the chart,
//! and as it was when the golden was written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::Tool;
use testkit::manifest::{self, documents};

const OVERLAYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/overlays");
const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/helm/overlays");

/// The chart, and the Helm that renders it.
pub(crate) struct KongsChart {
    directory: PathBuf,
    pub(crate) helm: Tool,
}

impl KongsChart {
    /// `None`, and told so, where there is no chart or no Helm.
    pub(crate) fn find() -> Option<Self> {
        let Some(directory) = std::env::var_os("KONG_CHART") else {
            testkit::not_tested("Kong's own chart; set KONG_CHART to a directory with it");
            return None;
        };
        Some(Self { directory: directory.into(), helm: Tool::find("helm")? })
    }

    /// Renders it with an overlay, and with what else Helm is to be told.
    pub(crate) fn render(&self, overlay: &str, more: &[&str]) -> Rendered {
        let values = format!("{OVERLAYS}/{overlay}.yaml");
        let chart = self.directory.to_str().unwrap();
        let arguments = ["template", "kong", chart, "--values", &values];
        let ended = self.helm.run(&[&arguments, more].concat());
        assert!(ended.well, "{overlay}: {}", ended.errors);
        Rendered { objects: documents(&ended.output) }
    }
}

/// Objects that the chart made.
pub(crate) struct Rendered {
    pub(crate) objects: Vec<Value>,
}

impl Rendered {
    /// What the golden of an overlay has: the gateway and its Services.
    pub(crate) fn golden(overlay: &str) -> Self {
        let text = fs::read_to_string(golden(overlay)).unwrap();
        Self { objects: documents(&text) }
    }

    /// Compares it with the golden of `overlay`. `UPDATE_GOLDEN` has it written first.
    pub(crate) fn is_as_the_golden_says(&self, overlay: &str) {
        let objects = self.without_what_repeats();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(golden(overlay), manifest::text(&objects)).unwrap();
        }
        assert_eq!(Self::golden(overlay).objects, objects, "{}", golden(overlay).display());
    }

    /// Deployment and Services. Kong's init containers have the variables of Kong's own container once
    /// more.
    fn without_what_repeats(&self) -> Vec<Value> {
        let concern =
            |object: &&Value| object["kind"] == "Deployment" || object["kind"] == "Service";
        let mut objects: Vec<Value> = self.objects.iter().filter(concern).cloned().collect();
        for object in &mut objects {
            let init = object.pointer_mut("/spec/template/spec/initContainers");
            for container in init.and_then(Value::as_array_mut).into_iter().flatten() {
                if container["name"] != "cert-reloader" {
                    container.as_object_mut().unwrap().remove("env");
                }
            }
        }
        objects
    }

    /// The pods of a kind of workload.
    pub(crate) fn pods(&self, kind: &str) -> Vec<&Value> {
        self.of_kind(kind).map(|object| &object["spec"]["template"]["spec"]).collect()
    }

    /// The one pod of Kong itself.
    pub(crate) fn kong(&self) -> &Value {
        let pods = self.pods("Deployment");
        assert_eq!(pods.len(), 1);
        pods[0]
    }

    /// What of a kind is called.
    pub(crate) fn names(&self, kind: &str) -> Vec<&str> {
        self.of_kind(kind).map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }
}

/// Names of the overlays that have a golden.
pub(crate) fn goldens() -> Vec<String> {
    let files = fs::read_dir(GOLDENS).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn golden(overlay: &str) -> PathBuf {
    Path::new(GOLDENS).join(overlay).with_extension("yaml")
}
