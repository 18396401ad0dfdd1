//! Programs that watch a volume and bring what is in it to Kong, each with a volume and a Kong of its
//! own, so that one idles while another is measured.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::instant_kong::InstantKong;

/// The program that is measured: the one that cargo built for this, or the one that is named, such as
/// the static program of the image.
pub(crate) fn program() -> PathBuf {
    let named = std::env::var_os("KONG_CERT_RELOADER_STATIC").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kong-cert-reloader")))
}

/// A running program; ended when dropped, with the programs that it started.
pub(crate) struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(silent.process_group(0).spawn()?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// Settings beside those that every sidecar has, by their names without the prefix.
pub(crate) type Settings<'a> = [(&'a str, &'a str)];

/// The sidecar on the bindings beneath `certs`. There is nothing to shake hands with.
pub(crate) fn sidecar(certs: &Path, kong: &InstantKong) -> io::Result<Running> {
    sidecar_at(certs, &kong.url(), &[("PROXY__ADDRESS", "")])
}

/// The same beside another Kong.
pub(crate) fn sidecar_at(
    certs: &Path,
    admin: &str,
    settings: &Settings<'_>,
) -> io::Result<Running> {
    let mut command = Command::new(program());
    command.env_clear().env("CERT_RELOADER__ADMIN__URL", admin);
    command.env("CERT_RELOADER__CERTS_DIR", certs).env("CERT_RELOADER__LISTEN", "127.0.0.1:0");
    command.envs(settings.iter().map(|(name, value)| (format!("CERT_RELOADER__{name}"), value)));
    Running::start(&mut command)
}

/// The floor, compiled here and now; an error tells what it lacks.
pub(crate) fn floor(volume: &Path, kong: &InstantKong) -> io::Result<Running> {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(&source).status()?;
    if !built.success() {
        return Err(io::Error::other("cc cannot compile benches/floor.c"));
    }
    Running::start(Command::new(program).arg(volume).arg(kong.port().to_string()))
}

/// What people write by hand: a shell loop around inotify-tools and curl. `None` where one of them is
/// not installed.
pub(crate) fn shell_loop(volume: &Path, kong: &InstantKong) -> io::Result<Option<Running>> {
    let has = |tool| Command::new(tool).arg("--help").output().is_ok();
    if !has("inotifywait") || !has("curl") {
        return Ok(None);
    }
    let script = r#"
        inotifywait --quiet --monitor --event moved_to "$1" | while read -r _; do
            curl --silent --output /dev/null --request PUT \
                --form "cert=@$1/tls.crt" --form "key=@$1/tls.key" "$2/certificates/shell"
        done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(volume).arg(kong.url());
    Running::start(&mut command).map(Some)
}
