//! Mounts that go on showing what was there when the container started.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::{LARGEST_FILE, Mounted, Source, read_regular};

/// Where the kernel tells what is mounted ([proc(5)]).
///
/// [proc(5)]: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
const MOUNTINFO: &str = "/proc/self/mountinfo";
/// The directory in which kubelet makes the mounts that a `subPath` asks for.
const SUBPATHS: &str = "volume-subpaths";

impl Source {
    /// The mounts among `mounts` that hold these files and will never show others in their place.
    #[must_use]
    pub fn frozen(&self, mounts: &Mounts) -> Vec<FrozenMount> {
        // A directory in place of a file is told when that is read.
        let real = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
        let files = self.files().map(real).filter(|path| !path.is_dir());
        let frozen: BTreeSet<_> = files.filter_map(|file| mounts.freezing(&file)).collect();
        frozen.into_iter().collect()
    }
}

/// What is mounted where.
#[derive(Debug, Default)]
pub struct Mounts {
    ids: BTreeSet<u64>,
    at: BTreeMap<PathBuf, Vec<Mount>>,
}

#[derive(Debug)]
struct Mount {
    id: u64,
    parent: u64,
    /// What of its file system is seen; `//deleted` at its end where that is gone.
    root: PathBuf,
    point: PathBuf,
}

impl Mounts {
    /// As this process sees them; none where that cannot be read.
    #[must_use]
    pub fn here() -> Self {
        let path = Path::new(MOUNTINFO);
        read_regular(path, path, LARGEST_FILE, &Mounted)
            .map(|table| Self::parse(&table))
            .unwrap_or_default()
    }

    /// Lines that are of another form are left out.
    #[must_use]
    pub fn parse(mountinfo: &[u8]) -> Self {
        let mut mounts = Self::default();
        for mount in mountinfo.split(|byte| *byte == b'\n').filter_map(Mount::parse) {
            mounts.ids.insert(mount.id);
            mounts.at.entry(mount.point.clone()).or_default().push(mount);
        }
        mounts
    }

    /// The mount that keeps `file`, a path without links, from ever being another one.
    fn freezing(&self, file: &Path) -> Option<FrozenMount> {
        let mount = self.holding(file)?;
        let is_generation = mount.root.components().any(is_generation);
        let is_single = mount.point == file;
        let is_sub_path =
            is_generation || (is_single && mount.root.components().any(is_of_kubelet));
        (is_single || is_generation)
            .then(|| FrozenMount { point: mount.point.clone(), is_sub_path })
    }

    /// The mount that a walk from the root to `path` ends in: one beneath another is not seen.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        let on_the_way: Vec<&Mount> =
            above.into_iter().filter_map(|point| self.at.get(point)).flatten().collect();
        let is_first =
            |mount: &Mount| !self.ids.contains(&mount.parent) || mount.parent == mount.id;
        let mut found = on_the_way.iter().find(|mount| is_first(mount))?;
        for _ in &on_the_way {
            let is_next = |mount: &&&Mount| mount.parent == found.id && mount.id != found.id;
            let Some(next) = on_the_way.iter().find(is_next) else { break };
            found = next;
        }
        Some(found)
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let (root, point) = (fields.nth(1)?, fields.next()?);
        Some(Self { id, parent, root: unescaped(root), point: unescaped(point) })
    }
}

/// Space, tab, newline and backslash stand there in octal.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, more @ ..] = rest {
        rest = match more {
            [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', behind @ ..]
                if *first == b'\\' =>
            {
                bytes.push(((high - b'0') << 6) | ((middle - b'0') << 3) | (low - b'0'));
                behind
            }
            _ => {
                bytes.push(*first);
                more
            }
        };
    }
    OsString::from_vec(bytes).into()
}

/// Whether this is the directory of one generation, `..2026_11_22_10_00_00.123456789`.
fn is_generation(component: Component<'_>) -> bool {
    let name = component.as_os_str().as_encoded_bytes().strip_prefix(b"..");
    name.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

fn is_of_kubelet(component: Component<'_>) -> bool {
    component.as_os_str() == SUBPATHS
}

/// A mount whose files stay what they are, whatever is written to the volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrozenMount {
    point: PathBuf,
    is_sub_path: bool,
}

/// Names the mount point and the mend.
impl fmt::Display for FrozenMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = self.point.display();
        if self.is_sub_path {
            write!(
                f,
                "{point} is a subPath mount, which kubelet never updates; mount the whole volume as a directory, without subPath"
            )
        } else {
            write!(
                f,
                "{point} is mounted as a single file, which goes on showing the old one when that is replaced; mount its directory"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::os::unix::fs::symlink;

    use super::*;

    /// A container's mounts: an overlay, and what each pod gets.
    const CONTAINER: &str = "\
812 711 0:61 / / rw,relatime master:262 - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/41/fs,upperdir=/x,workdir=/y
813 812 0:63 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
814 812 0:64 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755,inode64
817 814 0:60 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
830 812 259:1 /var/lib/kubelet/pods/6a4a1f6e-8f0e-4a6e-9d0f-0a2f7a1f0c11/etc-hosts /etc/hosts rw,noatime - ext4 /dev/root rw,discard
831 814 259:1 /var/lib/kubelet/pods/6a4a1f6e-8f0e-4a6e-9d0f-0a2f7a1f0c11/containers/reloader/5c6a /dev/termination-log rw,noatime - ext4 /dev/root rw,discard
";
    const FILE: &str = "/etc/kong-certs/web/tls.crt";
    const SUB_PATH: &str = "is a subPath mount";
    const SINGLE: &str = "is mounted as a single file";

    /// What is said of [`FILE`] where these lines stand behind those of every container.
    fn said(lines: &[&str]) -> Option<String> {
        let table = CONTAINER.to_owned() + &lines.join("\n") + "\n";
        Mounts::parse(table.as_bytes()).freezing(Path::new(FILE)).map(|frozen| frozen.to_string())
    }

    #[test]
    fn what_never_shows_a_renewal_is_told_from_what_does() {
        /// Name, lines, and the mount point with what is said of it.
        type Case = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);
        let cases: [Case; 14] = [
            ("no mount", &[], None),
            (
                "a Secret",
                &[
                    "840 812 0:52 / /etc/kong-certs/web ro,relatime - tmpfs tmpfs rw,size=65536k,inode64",
                ],
                None,
            ),
            (
                "a ConfigMap, on the node's disk",
                &[
                    "840 812 259:1 /var/lib/kubelet/pods/6a4a/volumes/kubernetes.io~configmap/web /etc/kong-certs/web ro,noatime - ext4 /dev/root rw",
                ],
                None,
            ),
            (
                "docker's directory",
                &[
                    "840 812 254:1 /srv/certs/web /etc/kong-certs/web ro,relatime - ext4 /dev/vda1 rw",
                ],
                None,
            ),
            (
                "a directory whose name begins with dots",
                &[
                    "840 812 254:1 /srv/..data/..certs/web /etc/kong-certs/web ro,relatime - ext4 /dev/vda1 rw",
                ],
                None,
            ),
            (
                "subPath of a file of a Secret",
                &[
                    "840 812 0:52 /..2026_11_22_10_00_00.123456789/tls.crt /etc/kong-certs/web/tls.crt ro,relatime - tmpfs tmpfs rw",
                ],
                Some((FILE, SUB_PATH)),
            ),
            (
                "the same, and kubelet removed that generation",
                &[
                    "840 812 0:52 /..2026_11_22_10_00_00.123456789/tls.crt//deleted /etc/kong-certs/web/tls.crt ro,relatime - tmpfs tmpfs rw",
                ],
                Some((FILE, SUB_PATH)),
            ),
            (
                "subPath of a directory of a Secret",
                &[
                    "840 812 0:52 /..2026_11_22_10_00_00.123456789/web /etc/kong-certs/web ro,relatime - tmpfs tmpfs rw",
                ],
                Some(("/etc/kong-certs/web", SUB_PATH)),
            ),
            (
                "subPath of a file of a ConfigMap",
                &[
                    "840 812 259:1 /var/lib/kubelet/pods/6a4a/volumes/kubernetes.io~configmap/web/..2026_11_22_10_00_00.1/tls.crt /etc/kong-certs/web/tls.crt ro,noatime - ext4 /dev/root rw",
                ],
                Some((FILE, SUB_PATH)),
            ),
            (
                "subPath of a file, seen where kubelet mounted it",
                &[
                    "840 812 259:1 /var/lib/kubelet/pods/6a4a/volume-subpaths/web/reloader/0 /etc/kong-certs/web/tls.crt ro,noatime - ext4 /dev/root rw",
                ],
                Some((FILE, SUB_PATH)),
            ),
            (
                "subPath of a directory, seen there: it may be of a volume that changes in place",
                &[
                    "840 812 259:1 /var/lib/kubelet/pods/6a4a/volume-subpaths/data/reloader/0 /etc/kong-certs/web rw,noatime - ext4 /dev/root rw",
                ],
                None,
            ),
            (
                "docker's file",
                &[
                    "840 812 254:1 /srv/certs/web.crt /etc/kong-certs/web/tls.crt ro,relatime - ext4 /dev/vda1 rw",
                ],
                Some((FILE, SINGLE)),
            ),
            (
                "a Secret mounted over a subPath",
                &[
                    "840 812 0:52 /..2026_11_22_10_00_00.123456789/web /etc/kong-certs/web ro - tmpfs tmpfs rw",
                    "841 840 0:53 / /etc/kong-certs/web ro - tmpfs tmpfs rw",
                ],
                None,
            ),
            (
                "a Secret mounted above a subPath, which is not seen any more",
                &[
                    "840 812 0:52 /..2026_11_22_10_00_00.123456789/web /etc/kong-certs/web ro - tmpfs tmpfs rw",
                    "841 812 0:53 / /etc/kong-certs ro - tmpfs tmpfs rw",
                ],
                None,
            ),
        ];
        for (case, lines, expected) in cases {
            let said = said(lines);
            let expected = expected.map(|(point, what)| format!("{point} {what}, which "));
            let is_so = match (&said, &expected) {
                (Some(said), Some(expected)) => said.starts_with(expected),
                (said, expected) => said == expected,
            };
            assert!(is_so, "{case}: {said:?}");
        }
    }

    #[test]
    fn the_root_need_not_come_first() {
        // In the first namespace of all it is its own parent.
        for parent in [1, 27] {
            let moved = format!(
                "22 27 0:21 /..2026_11_22_10_00_00.1/a /etc/a ro - tmpfs tmpfs rw\n\
                 27 {parent} 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
            );
            let mounts = Mounts::parse(moved.as_bytes());
            assert!(mounts.freezing(Path::new("/etc/a/tls.crt")).is_some(), "{parent}");
            assert!(mounts.freezing(Path::new("/etc/b/tls.crt")).is_none(), "{parent}");
        }
    }

    #[test]
    fn spaces_and_backslashes_stand_in_octal() {
        let line = br"5 1 0:9 /my\040certs/..2026_1/web /etc/a\134b\011c\040d ro - tmpfs tmpfs rw";
        let frozen = Mounts::parse(line).freezing(Path::new("/etc/a\\b\tc d/tls.crt")).unwrap();
        assert!(frozen.to_string().starts_with("/etc/a\\b\tc d is"), "{frozen}");
    }

    #[test]
    fn lines_of_another_form_are_left_out_and_never_lead_in_a_circle() {
        for odd in ["", "1", "1 2 3 4", "a b c d e", "-1 0 0:1 / / rw", "1 1 0:1 / / rw"] {
            let table = format!("{odd}\n7 7 0:1 / /etc rw\n8 7 0:1 / /etc rw\n7 8 0:1 / /etc rw");
            assert!(Mounts::parse(table.as_bytes()).freezing(Path::new(FILE)).is_none(), "{odd}");
        }
    }

    #[test]
    fn files_are_looked_for_where_their_links_lead() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("tls.crt"), "").unwrap();
        symlink(&real, home.path().join("link")).unwrap();
        let file = home.path().join("link/tls.crt");
        let source = Source::new([file.clone(), file]);
        let line = format!("5 1 0:9 /..2026_1/web {} ro - tmpfs tmpfs rw", real.display());
        assert_eq!(source.frozen(&Mounts::parse(line.as_bytes())).len(), 1);
        assert_eq!(source.frozen(&Mounts::default()), []);
        fs::remove_file(real.join("tls.crt")).unwrap();
        fs::create_dir(real.join("tls.crt")).unwrap();
        assert_eq!(source.frozen(&Mounts::parse(line.as_bytes())), []);
    }

    #[test]
    fn what_is_mounted_here_can_be_read() {
        assert!(!Mounts::here().ids.is_empty());
    }
}
