//! The image, built by buildah, and its files.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{missing, not_tested};

/// What is to be trusted where no signature is looked at.
const POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// An image as a registry would get it, unpacked.
pub(crate) struct Image {
    home: TempDir,
    /// What a runtime reads: user, entry point, environment.
    pub(crate) config: Value,
    /// Bytes of all layers, as they are pulled.
    pub(crate) size: u64,
}

impl Image {
    /// `None`, and told so, where it cannot be built or run.
    pub(crate) fn build() -> Option<Self> {
        let program = program()?;
        let home = tempfile::tempdir().unwrap();
        let context = home.path().join("context");
        let dist = context.join("dist").join(architecture());
        fs::create_dir_all(&dist).unwrap();
        fs::copy(&program, dist.join("kong-cert-reloader")).unwrap();
        fs::write(home.path().join("policy.json"), POLICY).unwrap();
        let image = Self { home, config: Value::Null, size: 0 };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut build = image.buildah("build");
        build.args(["--isolation", "chroot", "--target", "prebuilt", "--tag", "tested"]);
        build.args(["--platform", &format!("linux/{}", architecture())]);
        build.args(["--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=0123abc"]);
        build.arg("--ignorefile").arg(repository.join(".dockerignore"));
        build.arg("--file").arg(repository.join("Dockerfile")).arg(&context);
        run(&mut build);
        Some(image.unpacked())
    }

    /// Its files, and what a runtime adds to them.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// A place beside them.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A list of texts in the configuration.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let texts = self.config[name].as_array().unwrap();
        texts.iter().map(|text| text.as_str().unwrap()).collect()
    }

    /// All files, links and empty directories, as paths within it.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        leaves(&self.root(), &self.root())
    }

    fn buildah(&self, command: &str) -> Command {
        let mut buildah = buildah(self.home.path());
        buildah.args([command, "--signature-policy"]).arg(self.home.path().join("policy.json"));
        buildah
    }

    /// Reads what would be pushed, and unpacks its layers in order.
    fn unpacked(mut self) -> Self {
        let layout = self.home.path().join("layout");
        let target = format!("oci:{}", layout.display());
        run(self.buildah("push").args(["localhost/tested", &target]));
        let blob = |of: &Value| {
            let digest = of["digest"].as_str().unwrap().replace(':', "/");
            layout.join("blobs").join(digest)
        };
        let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let index = json(&layout.join("index.json"));
        let manifest = json(&blob(&index["manifests"][0]));
        self.config = json(&blob(&manifest["config"]))["config"].clone();
        fs::create_dir(self.root()).unwrap();
        fs::set_permissions(self.root(), fs::Permissions::from_mode(0o755)).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            self.size += layer["size"].as_u64().unwrap();
            let mut tar = Command::new("tar");
            tar.args(["--extract", "--gzip", "--same-owner", "--same-permissions"]);
            tar.arg("--file").arg(blob(layer)).arg("--directory").arg(self.root());
            run(&mut tar);
        }
        self
    }
}

/// The static program, where an image can be made of it and run. In CI it has to be, once there is one.
fn program() -> Option<PathBuf> {
    let Some(program) = env::var_os("KONG_CERT_RELOADER_STATIC") else {
        not_tested(
            "the image: KONG_CERT_RELOADER_STATIC names no static program; .ci/run builds one",
        );
        return None;
    };
    let without = |what: &str| {
        missing(&format!("the image: {what}"));
        None
    };
    if !rustix::process::geteuid().is_root() {
        return without("only root can change the root directory of a process");
    }
    let mount = ["--pid", "--mount", "--fork", "mount", "--types", "proc", "proc", "/proc"];
    if let Err(problem) = attempt(Command::new("unshare").args(mount)) {
        return without(&format!("nothing can be mounted: {problem}"));
    }
    let scratch = tempfile::tempdir().unwrap();
    if let Err(problem) = attempt(buildah(scratch.path()).args(["from", "scratch"])) {
        return without(&format!("buildah does not run: {problem}"));
    }
    Some(program.into())
}

/// buildah, with all that it keeps beneath `home`.
fn buildah(home: &Path) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(home.join("storage")).arg("--runroot").arg(home.join("run"));
    buildah.args(["--storage-driver", "vfs"]);
    buildah
}

fn attempt(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

fn run(command: &mut Command) {
    if let Err(problem) = attempt(command) {
        panic!("{command:?}: {problem}");
    }
}

/// As images name it.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn leaves(root: &Path, directory: &Path) -> Vec<PathBuf> {
    let within = |path: &Path| path.strip_prefix(root).unwrap().to_path_buf();
    let entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    if entries.is_empty() {
        return vec![within(directory)];
    }
    let beneath = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => leaves(root, &entry.path()),
        false => vec![within(&entry.path())],
    };
    entries.into_iter().flat_map(beneath).collect()
}
