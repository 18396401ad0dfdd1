//! What the sidecar finds out by itself about its surroundings, and says with the mend: the program
//! as it is, where mounts, limits, rights and ports are wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "a test tells what it did not test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use testkit::{CertifiedPair, KongStandIn, Pki, SecretVolume, SidecarProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// The serial number of cert-manager's temporary certificates.
const TEMPORARY: [u8; 5] = [0x12, 0x34, 0x56, 0x78, 0x90];

/// A Kong, and a directory of volumes.
struct Pod {
    kong: KongStandIn,
    home: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        // For users that are not root, too.
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path().join("certs")).unwrap();
        Self { kong: KongStandIn::start().await, home, pki: Pki::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn volume(&self, name: &str) -> SecretVolume {
        SecretVolume::mount(self.path("certs").join(name))
    }

    /// `command` with the settings of this pod's sidecar; `more` win.
    async fn run(&self, mut command: Command, more: &[(&str, &str)]) -> SidecarProcess {
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let (url, certs) = (self.kong.admin_url(), self.path("certs"));
        let settings = [
            ("LISTEN", "127.0.0.1:0"),
            ("LOG__FORMAT", "json"),
            ("LOG__LEVEL", "debug"),
            ("CERTS_DIR", certs.to_str().unwrap()),
            ("ADMIN__URL", &url),
        ];
        for (name, value) in settings.iter().chain(more) {
            command.env(format!("CERT_RELOADER__{name}"), value);
        }
        SidecarProcess::spawn(command).await
    }

    async fn sidecar(&self, more: &[(&str, &str)]) -> SidecarProcess {
        self.run(Command::new(PROGRAM), more).await
    }
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    assert!(volume.publish_pair(pair));
}

fn in_sync_with(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let digest = pair.leaf_sha256();
    let leaf = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    move |shown| shown["state"] == "in_sync" && shown["kong"]["leaf_sha256"][0] == leaf.as_str()
}

/// How often a message was logged.
fn told(sidecar: &SidecarProcess, message: &str) -> usize {
    let is_it = |line: &&String| {
        serde_json::from_str::<Value>(line).is_ok_and(|event| event["message"] == message)
    };
    sidecar.lines().iter().filter(is_it).count()
}

fn warnings(shown: &Value) -> Vec<&str> {
    shown["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A shell in namespaces of its own that runs `script`; the arguments that follow are its own.
/// `None`, and told so, where `needed` may not be done in such a one.
async fn shell_in(namespaces: &[&str], needed: &str, script: &str, what: &str) -> Option<Command> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["--", "sh", "-euc", script, "sh"]);
        command
    };
    match unshare(needed).output().await {
        Ok(output) if output.status.success() => Some(unshare(script)),
        Ok(output) => {
            let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            not_tested(&format!("{what}; {cause}"));
            None
        }
        Err(cause) => {
            not_tested(&format!("{what}; unshare: {cause}"));
            None
        }
    }
}

/// Mounts of our own: as root, or as root of a user namespace.
fn own_mounts() -> &'static [&'static str] {
    if is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] }
}

// Mounts.

#[tokio::test]
async fn a_sub_path_mount_is_told_with_the_mend_and_served_all_the_same() {
    const TOLD: &str = "the mount never shows a renewal";
    let pod = Pod::new().await;
    let bindings = ["files", "directory", "plain", "volume"];
    let script = r#"
        mount --bind "$1/files/..data/tls.crt" "$2/files/tls.crt"
        mount --bind "$1/files/..data/tls.key" "$2/files/tls.key"
        mount --bind "$1/directory/..data/" "$2/directory"
        mount --bind "$1/plain/tls.crt" "$2/plain/tls.crt"
        mount --bind "$1/plain/tls.key" "$2/plain/tls.key"
        mount --bind "$1/volume" "$2/volume"
        shift 2
        exec "$@"
    "#;
    let mounted = shell_in(own_mounts(), "mount --bind /tmp /tmp", script, "subPath mounts").await;
    let Some(mut command) = mounted else { return };
    let (node, certs) = (pod.path("node"), pod.path("certs"));
    let pairs = bindings.map(|binding| pod.pki.pair(&[&format!("{binding}.test")]));
    for (binding, pair) in bindings.iter().zip(&pairs) {
        fs::create_dir_all(certs.join(binding)).unwrap();
        if *binding == "plain" {
            fs::create_dir(node.join(binding)).unwrap();
            fs::write(node.join("plain/tls.crt"), pair.chain_pem()).unwrap();
            fs::write(node.join("plain/tls.key"), pair.key_pem()).unwrap();
        } else {
            publish(&SecretVolume::mount(node.join(binding)), pair);
        }
        for name in ["tls.crt", "tls.key"] {
            fs::write(certs.join(binding).join(name), "").unwrap();
        }
    }
    command.args([&node, &certs, Path::new(PROGRAM)]);
    let sidecar = pod.run(command, &[("RESYNC_INTERVAL", "100ms")]).await;

    let certs = certs.canonicalize().unwrap();
    let sub_path = "is a subPath mount, which kubelet never updates; mount the whole volume";
    let single = "is mounted as a single file, which goes on showing the old one";
    let told_of: [(&[&str], &str); 4] = [
        (&["files/tls.crt", "files/tls.key"], sub_path),
        (&["directory"], sub_path),
        (&["plain/tls.crt", "plain/tls.key"], single),
        (&[], ""),
    ];
    for ((binding, pair), (points, what)) in bindings.iter().zip(&pairs).zip(told_of) {
        let shown = sidecar.until(binding, in_sync_with(pair)).await;
        let warnings: Vec<&str> =
            warnings(&shown).into_iter().filter(|text| text.contains("mount")).collect();
        assert_eq!(warnings.len(), points.len(), "{binding}: {warnings:?}");
        for (said, point) in warnings.iter().zip(points) {
            let expected = format!("{} {what}", certs.join(point).display());
            assert!(said.starts_with(&expected), "{said} is not {expected}");
            let is_it = |event: &Value| event["binding"] == *binding && event["problem"] == **said;
            assert_eq!(sidecar.logged_where(TOLD, is_it).await["level"], "WARN");
        }
    }
    // It stays true at each comparison, and is not said again.
    let compared = |line: &&String| line.contains("looked at") && line.contains("\"files\"");
    while sidecar.lines().iter().filter(compared).count() < 3 {
        sidecar.status().await;
    }
    let shown = sidecar.until_state("files", "in_sync").await;
    let shown = warnings(&shown).iter().filter(|text| text.contains(sub_path)).count();
    assert_eq!((told(&sidecar, TOLD), shown), (5, 2));
}

// Limits of inotify.

/// A sidecar whose kernel gives it no more than `most` of what the limit is for, and the file to
/// write another limit into. `None`, and told so, where that cannot be made.
async fn limited(pod: &Pod, limit: &str, most: u32) -> Option<(SidecarProcess, PathBuf)> {
    let (file, raised) = (format!("/proc/sys/user/max_inotify_{limit}"), pod.path("raised"));
    // The limit is that of the namespace's user: only he raises it again.
    let script = r#"
        echo "$1" > "$2"
        mkfifo "$3"
        timeout 60 cat "$3" > "$2" &
        shift 3
        exec "$@"
    "#;
    let what = format!("the limit of inotify {limit}");
    let namespace = ["--user", "--map-root-user"];
    let needed = format!("echo 0 > {file}");
    let mut command = shell_in(&namespace, &needed, script, &what).await?;
    command.arg(most.to_string()).args([Path::new(&file), &raised, Path::new(PROGRAM)]);
    Some((pod.run(command, &[("POLL_INTERVAL", "100ms")]).await, raised))
}

#[tokio::test]
async fn directories_beyond_the_limit_of_watches_are_polled_and_none_is_lost() {
    let pod = Pod::new().await;
    let names = ["a", "b", "c", "d"];
    let issue = |name: &str| pod.pki.pair(&[&format!("{name}.test")]);
    publish(&pod.volume("a"), &issue("a"));
    // For the directory of all, and for two of the four.
    let Some((sidecar, raised)) = limited(&pod, "watches", 3).await else { return };
    sidecar.until_state("a", "in_sync").await;
    assert_eq!(sidecar.status().await["polling"], Value::Null);
    for turn in 0..3 {
        for name in names {
            publish(&pod.volume(name), &issue(name));
        }
        let newest = names.map(|name| (name, issue(name)));
        for (name, pair) in &newest {
            publish(&pod.volume(name), pair);
        }
        for (name, pair) in &newest {
            sidecar.until(name, in_sync_with(pair)).await;
        }
        let polling = sidecar.status().await["polling"].as_str().map(str::to_owned);
        assert_eq!(polling.is_some_and(|why| why.contains("max_user_watches")), turn < 2);
        if turn == 1 {
            fs::write(&raised, "1000\n").unwrap();
            sidecar.logged("files are watched again").await;
        }
    }
    assert_eq!(told(&sidecar, "files are polled"), 1);
}

#[tokio::test]
async fn without_inotify_it_polls_tells_the_limit_and_watches_when_it_can() {
    let limits = [
        ("instances", "fs.inotify.max_user_instances"),
        ("watches", "fs.inotify.max_user_watches"),
    ];
    for (limit, mend) in limits {
        let pod = Pod::new().await;
        let volume = pod.volume("web");
        let pair = pod.pki.pair(&["a.test"]);
        publish(&volume, &pair);
        let Some((sidecar, raised)) = limited(&pod, limit, 0).await else { return };
        let event = sidecar.logged("files are polled").await;
        assert_eq!(event["level"], "ERROR");
        let problem = event["problem"].as_str().unwrap();
        assert!(problem.contains(mend), "{problem}");
        sidecar.until("web", in_sync_with(&pair)).await;
        assert_eq!(sidecar.status().await["polling"], problem);
        let gauge = "kong_cert_reloader_watch_polling";
        assert!(sidecar.page("/metrics").await.1.contains(&format!("\n{gauge} 1\n")));

        let renewed = pod.pki.pair(&["a.test"]);
        publish(&volume, &renewed);
        sidecar.until("web", in_sync_with(&renewed)).await;
        assert_eq!(told(&sidecar, "files are polled"), 1);

        fs::write(&raised, "1000\n").unwrap();
        sidecar.logged("files are watched again").await;
        sidecar.until("web", |_| true).await;
        assert_eq!(sidecar.status().await["polling"], Value::Null);
        assert!(sidecar.page("/metrics").await.1.contains(&format!("\n{gauge} 0\n")));
    }
}

// Rights.

#[tokio::test]
async fn files_that_may_not_be_read_are_told_with_owner_and_mend() {
    let pod = Pod::new().await;
    let mut volume = pod.volume("web");
    let plain = pod.path("certs/plain");
    fs::create_dir(&plain).unwrap();
    let (user, mode) = if is_root() { (65532, 0o600) } else { (own_uid(), 0o000) };
    volume.set_mode(mode);
    publish(&volume, &pod.pki.pair(&["a.test"]));
    for name in ["tls.crt", "tls.key"] {
        fs::write(plain.join(name), "").unwrap();
        fs::set_permissions(plain.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let program = pod.path("kong-cert-reloader");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(program);
    if is_root() {
        command.uid(user).gid(user);
    } else {
        not_tested("files of another user; only root can become another user");
    }
    let sidecar = pod.run(command, &[]).await;
    let owner = fs::metadata(plain.join("tls.crt")).unwrap();
    let rights = format!("mode {mode:04o}, owner {}:{}", owner.uid(), owner.gid());
    let mend = "securityContext.fsGroup";
    for binding in ["web", "plain"] {
        let shown = sidecar.until_state(binding, "invalid").await;
        assert_eq!(shown["reason"], "permission_denied");
        let message = shown["message"].as_str().unwrap();
        for part in ["tls.crt", &format!("uid {user}"), &rights, mend, "defaultMode"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
    // No limit of inotify is in the way.
    assert_eq!(told(&sidecar, "files are polled"), 0, "{:?}", sidecar.lines());
    volume.set_mode(0o644);
    let next = pod.pki.pair(&["a.test"]);
    publish(&volume, &next);
    sidecar.until("web", in_sync_with(&next)).await;
    // The mode alone changes, as a restart of the pod with another fsGroup has it.
    for name in ["tls.crt", "tls.key"] {
        fs::set_permissions(plain.join(name), Permissions::from_mode(0o644)).unwrap();
    }
    sidecar.until("plain", |shown| shown["reason"] == "empty").await;
}

#[tokio::test]
async fn a_closed_directory_is_told_in_place_of_the_file_that_cannot_be_seen() {
    let pod = Pod::new().await;
    if !is_root() {
        not_tested("directories of another user; only root can become another user");
        return;
    }
    let closed = pod.path("closed");
    publish(&SecretVolume::mount(closed.join("web")), &pod.pki.pair(&["a.test"]));
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let program = pod.path("kong-cert-reloader");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new(program);
    command.uid(65532).gid(65532);
    let web = closed.join("web");
    let sidecar = pod.run(command, &[("CERTIFICATES__WEB__DIR", web.to_str().unwrap())]).await;
    let shown = sidecar.until_state("web", "invalid").await;
    let message = shown["message"].as_str().unwrap();
    let told = format!("({} has mode 0700, owner 0:0)", closed.display());
    assert!(message.contains(&told), "{message}");
}

fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

// cert-manager.

#[tokio::test]
async fn a_temporary_certificate_is_told_whether_it_is_pushed_or_held() {
    let pod = Pod::new().await;
    let volume = pod.volume("web");
    let temporary = |name: &str| pod.pki.leaf(&[name]).serial(&TEMPORARY).issue();
    publish(&volume, &temporary("a.test"));
    let sidecar = pod.sidecar(&[]).await;
    let is_told = |shown: &Value| {
        let about = |text: &&&str| text.contains("cert-manager's temporary certificate");
        warnings(shown).iter().filter(about).count() == 1
    };
    // Kong had none: any is better than none.
    let shown = sidecar.until_state("web", "in_sync").await;
    assert!(is_told(&shown), "{shown}");
    let mend = "kubectl describe certificate,certificaterequest";
    let event = sidecar.logged("temporary certificate").await;
    assert_eq!((&event["level"], &event["binding"]), (&"WARN".into(), &"web".into()));
    assert!(event["problem"].as_str().unwrap().contains(mend), "{event}");

    let real = pod.pki.pair(&["a.test"]);
    publish(&volume, &real);
    let shown = sidecar.until("web", in_sync_with(&real)).await;
    assert!(!is_told(&shown), "{shown}");

    publish(&volume, &temporary("a.test"));
    let shown = sidecar.until_state("web", "held").await;
    assert!(is_told(&shown), "{shown}");
    assert_eq!(
        (&shown["reason"], told(&sidecar, "temporary certificate")),
        (&"file_temporary".into(), 2)
    );
}

#[tokio::test]
async fn a_temporary_certificate_is_told_though_kong_does_not_answer() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    publish(&pod.volume("web"), &pod.pki.leaf(&["a.test"]).serial(&TEMPORARY).issue());
    let sidecar = pod.sidecar(&[]).await;
    let shown = sidecar.until_state("web", "unreachable").await;
    assert!(warnings(&shown)[0].contains("temporary certificate"), "{shown}");
}

// Ports.

#[tokio::test]
async fn kongs_proxy_port_is_told_from_its_admin_api() {
    let pod = Pod::new().await;
    let pair = pod.pki.pair(&["a.test"]);
    publish(&pod.volume("web"), &pair);
    let url = format!("https://{}", pod.kong.proxy_addr());
    for mode in ["auto", "database"] {
        let settings = [
            ("ADMIN__URL", url.as_str()),
            ("ADMIN__INSECURE_SKIP_VERIFY", "true"),
            ("ADMIN__MODE", mode),
        ];
        let sidecar = pod.sidecar(&settings).await;
        let shown = sidecar.until_state("web", "unreachable").await;
        assert_eq!(shown["reason"], "not_kong");
        let message = shown["message"].as_str().unwrap();
        assert!(
            message.contains("kong's proxy port") && message.contains("ADMIN__URL"),
            "{message}"
        );
    }
}

/// Seen even where the output of tests is captured.
fn not_tested(what: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("not tested: {what}\n"));
}
