//! The image, run: what a container runtime and kubelet do, with what every Debian has.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testkit::{CertifiedPair, SecretVolume, SidecarProcess};

use crate::built::Image;

/// Makes the root read-only, mounts `/proc` and the Secrets in it, and goes on as what follows.
const ENTER: &str = r#"
    mount --bind "$1" "$1"
    mount --options remount,bind,ro "$1"
    mount --types proc proc "$1/proc"
    mount --bind "$2" "$1/etc/kong-certs"
    mount --options remount,bind,ro "$1/etc/kong-certs"
    shift 2
    exec "$@"
"#;

/// Containers of one pod, all of the same image.
pub(crate) struct Pod {
    image: Image,
}

impl Pod {
    /// `files` are what kubelet writes into `/etc`.
    pub(crate) fn of(image: Image, files: &[(&str, &str)]) -> Self {
        for mountpoint in ["proc", "etc/kong-certs"] {
            fs::create_dir_all(image.root().join(mountpoint)).unwrap();
        }
        for (name, content) in files {
            fs::write(image.root().join("etc").join(name), content).unwrap();
        }
        Self { image }
    }

    /// Has the Secret `web` hold this pair.
    pub(crate) fn publish(&self, pair: &CertifiedPair) {
        let volume = SecretVolume::mount(self.certs().join("web"));
        assert!(volume.publish_pair(pair));
    }

    /// The sidecar, when it listens; its environment is what the image and `settings` say.
    pub(crate) async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let any_port = [("LISTEN", "127.0.0.1:0")];
        let settings = [&any_port, settings].concat();
        SidecarProcess::spawn(self.container(&["run"], &settings).into()).await
    }

    /// A command in a container of its own, to its end.
    pub(crate) fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        self.container(arguments, settings).stdin(Stdio::null()).output().unwrap()
    }

    /// The entry point, in a container that shares nothing but the network with us.
    fn container(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        // Whoever kills the first kills all. What tells a child of its parent's death is lost when
        // the child changes its user; that a namespace ends with its first process is not.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]);
        command.args(["unshare", "--pid", "--mount", "--fork"]);
        command.args(["sh", "-euc", ENTER, "enter"]).args([self.image.root(), self.certs()]);
        command.args(["setpriv", "--no-new-privs", "env", "--ignore-environment"]);
        command.args(self.image.texts("Env"));
        for (name, value) in settings {
            command.arg(format!("CERT_RELOADER__{name}={value}"));
        }
        let user = self.image.config["User"].as_str().unwrap();
        command.args(["/usr/sbin/chroot", "--groups=", &format!("--userspec={user}")]);
        command.arg(self.image.root()).args(self.image.texts("Entrypoint")).args(arguments);
        command
    }

    /// What is mounted at `/etc/kong-certs`.
    fn certs(&self) -> PathBuf {
        let certs = self.image.beside("certs");
        fs::create_dir_all(&certs).unwrap();
        certs
    }
}

/// A process, as the kernel tells of it.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// The last of the line of children that `first` began: the program, where `first` is what a
    /// container was started by.
    pub(crate) fn innermost(first: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let child = children.split_whitespace().next();
        child.map_or(Self(first), |child| Self::innermost(child.parse().unwrap()))
    }

    /// The words behind `name` in its `/proc/PID/status`.
    pub(crate) fn status(self, name: &str) -> Vec<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(self) {
        let kill = Command::new("kill").args(["-TERM", &self.0.to_string()]).status().unwrap();
        assert!(kill.success());
    }
}
