//! How much of Kong's configuration fits into the memory that this container may use.
//!
//! What does not fit is told with its mend, and not read to its end. If it were, the kernel would end
//! the container, after each start again, and no certificate would be brought to Kong any more.
//!
//! What counts is the weight of what is kept of a text, and the text alone is no measure of that: a
//! consumer of 80 bytes and a certificate of 4,000 have as many lists and mappings. The peaks of the
//! process, less the 9 MiB that it has without any, as measured on x86_64 (musl) with the first load of
//! a `DECLARATIVE__FILE` in YAML and a renewal after it, Kong answering with the same:
//!
//! | text | of | weight | peak |
//! |---|---|---|---|
//! | 7.0 MiB | certificates | 9.4 MiB | 37 MiB |
//! | 9.0 MiB | services with routes | 9.3 MiB | 27 MiB |
//! | 5.0 MiB | consumers | 9.4 MiB | 22 MiB |
//! | 1.0 MiB | certificates with 100 tags each | 9.7 MiB | 32 MiB |
//! | 0.4 MiB | certificates that are ids alone | 11.7 MiB | 28 MiB |

use std::fs;
use std::path::{Path, PathBuf};

/// No configuration is read that is larger, in bytes.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;
/// What the rest of the sidecar takes: 9 MiB, and 25 KiB for each of up to 600 certificates of ours.
const REST: usize = 24 * 1024 * 1024;
/// A configuration is there as text, as it is kept (what runs, and what a file has), and as text again
/// that is sent: no more than so many times its weight.
const TIMES: usize = 4;
/// The weight of each text, list and mapping, besides what is in it.
const NODE: usize = 64;
/// The weight of what is made of each certificate, CA certificate and licence.
const OBJECT: usize = 1024;
const CGROUPS: &str = "/sys/fs/cgroup";
const OWN: &str = "/proc/self/cgroup";

/// How large the text of a configuration may be, and how heavy what is kept of it, by the memory limit
/// of this container.
pub(crate) fn allowance() -> usize {
    allowed(limit(Path::new(CGROUPS), &text(Path::new(OWN)).unwrap_or_default()))
}

/// How much memory is left for a configuration while it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room(usize);

/// There is no room for more.
#[derive(Debug)]
pub(crate) struct Full;

impl Room {
    /// For what was read within bounds before.
    pub(crate) const WITHOUT_BOUNDS: Self = Self(usize::MAX);

    /// Within the memory limit of this container.
    pub(crate) fn of_memory() -> Self {
        Self(allowance())
    }

    #[cfg(test)]
    pub(crate) const fn of(weight: usize) -> Self {
        Self(weight)
    }

    /// What a text, list or mapping takes: its length, and what holds it.
    pub(crate) const fn weight(length: usize) -> usize {
        length + NODE
    }

    /// Takes room for a tree with so many objects that are looked into.
    pub(crate) fn take_whole(&mut self, weight: usize, objects: usize) -> Result<(), Full> {
        self.0 = self.0.checked_sub(weight + objects * OBJECT).ok_or(Full)?;
        Ok(())
    }

    /// Takes room for one more.
    pub(crate) fn take(&mut self, length: usize) -> Result<(), Full> {
        self.0 = self.0.checked_sub(Self::weight(length)).ok_or(Full)?;
        Ok(())
    }
}

/// Some in any case: a limit that is too small for all is no reason not to try.
fn allowed(limit: Option<usize>) -> usize {
    limit.map_or(LARGEST, |limit| (limit.saturating_sub(REST) / TIMES).clamp(REST / 8, LARGEST))
}

/// The limit of a process that is in the groups `own`, as `/proc/self/cgroup` tells them; `None` if
/// there is none. In a container its group is mounted as if it were the root, whatever it is called.
fn limit(cgroups: &Path, own: &str) -> Option<usize> {
    let of_line = |line: &str| -> Option<(PathBuf, &str)> {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let (hierarchy, file) = match controllers {
            "" => (cgroups.to_path_buf(), "memory.max"),
            "memory" => (cgroups.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let nested = hierarchy.join(group.trim_start_matches('/'));
        Some((if nested.join(file).exists() { nested } else { hierarchy }, file))
    };
    let limits = own.lines().filter_map(of_line);
    limits.filter_map(|(group, file)| text(&group.join(file))?.trim().parse().ok()).min()
}

#[expect(clippy::disallowed_methods, reason = "the kernel's word, no mounted file")]
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn limit_where(files: &[(&str, &str)], own: &str) -> Option<usize> {
        let home = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        limit(home.path(), own)
    }

    #[test]
    fn the_limit_of_the_container_is_found() {
        let (v2, v1) = ("0::/\n", "5:cpu:/a\n4:memory:/pods/a\n0::/\n");
        for (files, own, expected) in [
            (&[("memory.max", "67108864\n")][..], v2, Some(64 * MIB)),
            (&[("memory.max", "max\n")], v2, None),
            (&[], v2, None),
            (&[("memory.max", "67108864\n")], "", None),
            (&[("a/memory.max", "67108864\n"), ("memory.max", "max\n")], "0::/a\n", Some(64 * MIB)),
            (&[("memory/memory.limit_in_bytes", "134217728\n")], v1, Some(128 * MIB)),
            (
                &[
                    ("memory/pods/a/memory.limit_in_bytes", "67108864\n"),
                    ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                v1,
                Some(64 * MIB),
            ),
        ] {
            assert_eq!(limit_where(files, own), expected, "{files:?} {own:?}");
        }
    }

    #[test]
    fn the_larger_the_memory_the_larger_the_configuration() {
        for (limit, expected) in [
            (None, LARGEST),
            (Some(usize::MAX), LARGEST),
            (Some(1024 * MIB), LARGEST),
            (Some(128 * MIB), 26 * MIB),
            (Some(64 * MIB), 10 * MIB),
            (Some(16 * MIB), 3 * MIB),
        ] {
            assert_eq!(allowed(limit), expected, "{limit:?}");
        }
    }
}
