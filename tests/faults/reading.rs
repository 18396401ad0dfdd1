//! One read of a generation, with each fault at each of its calls to the system: what it gives is
//! whole, or an error that names the file; it never blocks; and the next read gives what is there.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kong_cert_reloader::volume::{Reason, Source, Unreadable};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use tempfile::TempDir;
use testkit::SecretVolume;

use super::disk::{Call, Disk};
use super::pod::in_memory;
use super::table::Table;

/// A read that takes longer waits for something that does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Certificate and key.
type Pair = [Vec<u8>; 2];
const FILES: [&str; 2] = ["tls.crt", "tls.key"];

/// Where the two files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    /// In a volume of kubelet's.
    Volume,
    /// In a directory of one (`items.path`).
    Beneath,
    /// In a plain directory, written one by one.
    Plain,
}

impl Mount {
    const ALL: [Self; 3] = [Self::Volume, Self::Beneath, Self::Plain];

    const fn is_volume(self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// A directory with two files.
struct Home {
    directory: TempDir,
    mount: Mount,
}

impl Home {
    /// Holds the first generation.
    fn new(mount: Mount) -> Self {
        let home = Self { directory: in_memory(), mount };
        home.publish(1);
        home
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The names of the files beneath the directory.
    fn names(&self) -> [&'static str; 2] {
        if self.mount == Mount::Beneath { ["web/tls.crt", "web/tls.key"] } else { FILES }
    }

    fn source(&self) -> Source {
        Source::new(self.names().map(PathBuf::from)).beneath(self.path())
    }

    fn publish(&self, generation: usize) {
        let [cert, key] = pair(generation);
        let names = self.names();
        let files: [(&str, &[u8]); 2] = [(names[0], &cert), (names[1], &key)];
        if self.mount.is_volume() {
            SecretVolume::mount(self.path()).publish(&files);
            return;
        }
        for (name, content) in files {
            let new = self.path().join(".new");
            fs::write(&new, content).unwrap();
            fs::rename(new, self.path().join(name)).unwrap();
        }
    }

    /// Where the certificate lies.
    fn certificate(&self) -> PathBuf {
        fs::canonicalize(self.path().join(self.names()[0])).unwrap()
    }

    fn holds(&self) -> Option<Pair> {
        let paths = self.names().map(|name| self.path().join(name));
        let [cert, key] = paths.map(|path| path.is_file().then(|| fs::read(path).unwrap()));
        Some([cert?, key?])
    }

    /// Whatever was there, kubelet or the writer begins anew.
    fn mend(&self, generation: usize) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        self.publish(generation);
    }
}

/// Longer than one read gives at a time, and each of another length.
fn pair(generation: usize) -> Pair {
    ["certificate", "key"]
        .map(|kind| format!("{kind} {generation} ").repeat(200 + generation).into())
}

/// What happens to the files before a call.
type Deed = fn(&Home);

const DEEDS: [(&str, Deed); 9] = [
    ("swapped", |home| home.publish(2)),
    ("swapped twice", |home| {
        home.publish(2);
        home.publish(3);
    }),
    ("all gone", |home| {
        for name in [FILES[0], FILES[1], "web", "..data"] {
            let _ = fs::remove_file(home.path().join(name));
        }
    }),
    ("the link gone", |home| {
        let _ = fs::remove_file(home.path().join("..data"));
    }),
    ("the generation gone", |home| {
        let generation = home.certificate().parent().unwrap().to_path_buf();
        if home.mount.is_volume() {
            fs::remove_dir_all(generation).unwrap();
        }
    }),
    ("the link elsewhere", |home| {
        if home.mount.is_volume() {
            fs::remove_file(home.path().join("..data")).unwrap();
        }
        symlink("/etc", home.path().join("..data")).unwrap();
    }),
    ("a directory", |home| {
        let path = home.certificate();
        fs::remove_file(&path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("a FIFO", |home| {
        let path = home.certificate();
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(0o644)).unwrap();
    }),
    ("longer", |home| {
        let file = OpenOptions::new().append(true).open(home.certificate());
        file.unwrap().write_all(b"and more").unwrap();
    }),
];

const ERRORS: [(Errno, Reason); 6] = [
    (Errno::IO, Reason::Io),
    (Errno::STALE, Reason::Io),
    (Errno::ACCESS, Reason::Denied),
    (Errno::NOENT, Reason::Missing),
    (Errno::MFILE, Reason::Io),
    (Errno::LOOP, Reason::Link),
];

/// Reads on another thread: one that blocks is told.
fn read(source: &Source, disk: &Arc<Disk>) -> Result<Pair, Unreadable> {
    let (source, disk) = (source.clone(), Arc::clone(disk));
    let (sender, read) = mpsc::channel();
    thread::spawn(move || {
        let generation = source.read(&*disk);
        let content = generation.map(|read| {
            let files = source.files().map(|file| read.content(&file).to_vec());
            Pair::try_from(Vec::from_iter(files)).unwrap()
        });
        sender.send(content)
    });
    read.recv_timeout(PATIENCE).expect("a read that does not block")
}

/// What does not hold of what was read, if only these pairs were ever there.
fn flaws(read: Result<Pair, Unreadable>, whole: &[Option<Pair>]) -> Vec<String> {
    let flaw = match read {
        Ok(pair) if whole.contains(&Some(pair.clone())) => None,
        Ok(pair) => {
            let [cert, key] =
                pair.map(|text| String::from_utf8_lossy(&text[..20.min(text.len())]).into_owned());
            Some(format!("{cert:?} with {key:?} was never there"))
        }
        Err(error) => {
            let told = error.with_cause();
            let names_it = [FILES[0], FILES[1], "..data"].iter().any(|name| told.contains(name));
            (!names_it).then(|| format!("{told} names no file"))
        }
    };
    flaw.into_iter().collect()
}

/// A disk on which nothing happens but this, before the call of this number.
fn at(call: usize, mut happens: impl FnMut() + Send + 'static) -> Arc<Disk> {
    let mut left = call;
    Arc::new(Disk::with(move |_| {
        left = left.wrapping_sub(1);
        if left == 0 {
            happens();
        }
        Ok(usize::MAX)
    }))
}

/// How many calls a read takes to which nothing happens.
fn calls_of_a_read(mount: Mount) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let disk = Arc::new(Disk::with(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(usize::MAX)
    }));
    assert_eq!(read(&Home::new(mount).source(), &disk).unwrap(), pair(1));
    calls.load(Ordering::Relaxed)
}

#[test]
fn whatever_becomes_of_the_files_at_any_call_a_read_is_whole_or_names_the_file() {
    let (mut table, mut cases) = (Table::default(), 0);
    for mount in Mount::ALL {
        let calls = calls_of_a_read(mount);
        cases += calls * DEEDS.len();
        for (fault, deed) in DEEDS {
            for call in 1..=calls {
                let home = Arc::new(Home::new(mount));
                let (victim, before) = (Arc::clone(&home), home.holds());
                let disk = at(call, move || deed(&victim));
                let mut flaws = flaws(read(&home.source(), &disk), &[before, home.holds()]);
                home.mend(9);
                if read(&home.source(), &disk).ok() != Some(pair(9)) {
                    flaws.push("what is published then is not read".to_owned());
                }
                table.note(format!("{fault}, {mount:?}, call {call}"), flaws);
            }
        }
    }
    table.assert_holds(cases);
}

#[test]
fn whatever_call_fails_a_read_is_whole_or_names_the_file() {
    let (mut table, mut cases) = (Table::default(), 0);
    for mount in Mount::ALL {
        let calls = calls_of_a_read(mount);
        cases += calls * ERRORS.len();
        for (error, reason) in ERRORS {
            for failing in 1..=calls {
                let home = Home::new(mount);
                let mut call = 0;
                // At a read, after some bytes.
                let disk = Arc::new(Disk::with(move |what| {
                    call += 1;
                    match what {
                        Call::Read if call + 1 == failing => Ok(10),
                        _ if call == failing => Err(error.into()),
                        _ => Ok(usize::MAX),
                    }
                }));
                let first = read(&home.source(), &disk);
                let told = first.as_ref().err().map(Unreadable::reason);
                let mut flaws = flaws(first, &[Some(pair(1))]);
                if told.is_some_and(|told| told != reason) {
                    flaws.push(format!("it is told as {told:?}"));
                }
                if read(&home.source(), &disk).ok() != Some(pair(1)) {
                    flaws.push("the next read does not give what is there".to_owned());
                }
                table.note(format!("{error}, {mount:?}, call {failing}"), flaws);
            }
        }
    }
    table.assert_holds(cases);
}

#[test]
fn files_that_are_swapped_at_any_two_calls_are_read_as_one_generation() {
    let (mut table, mut cases) = (Table::default(), 0);
    for mount in [Mount::Volume, Mount::Beneath] {
        let calls = calls_of_a_read(mount);
        let home = Arc::new(Home::new(mount));
        for first in 1..=calls {
            // The second may hit what is read again after the first.
            for second in first + 1..=2 * calls {
                home.publish(1);
                let (victim, mut call) = (Arc::clone(&home), 0);
                let disk = Arc::new(Disk::with(move |_| {
                    call += 1;
                    for (generation, swap) in [(2, first), (3, second)] {
                        if call == swap {
                            victim.publish(generation);
                        }
                    }
                    Ok(usize::MAX)
                }));
                let whole = [1, 2, 3].map(|generation| Some(pair(generation)));
                let flaws = flaws(read(&home.source(), &disk), &whole);
                table.note(format!("{mount:?}, calls {first} and {second}"), flaws);
                cases += 1;
            }
        }
    }
    table.assert_holds(cases);
}

#[test]
fn files_that_never_rest_are_told_and_are_not_read_forever() {
    for mount in Mount::ALL {
        let home = Arc::new(Home::new(mount));
        let (victim, mut generation) = (Arc::clone(&home), 1);
        let disk = Arc::new(Disk::with(move |_| {
            generation += 1;
            victim.publish(generation);
            Ok(usize::MAX)
        }));
        let error = read(&home.source(), &disk).unwrap_err();
        assert!(error.to_string().contains("tls.crt"), "{error}");
        assert!([Reason::Changing, Reason::Missing].contains(&error.reason()), "{error}");
    }
}

#[test]
fn a_file_that_is_given_byte_by_byte_is_read_to_its_end() {
    let disk = Arc::new(Disk::with(|_| Ok(1)));
    assert_eq!(read(&Home::new(Mount::Volume).source(), &disk).unwrap(), pair(1));
}
