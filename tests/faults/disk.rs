//! Disks that fail: the mounted files, with whatever may happen just before a call to the system.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kong_cert_reloader::volume::{Files, Mounted};

/// What the system is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    ReadLink,
    Canonicalize,
    Metadata,
    LinkMetadata,
    Open,
    MetadataOf,
    Read,
}

/// Happens before a call: it may act on the files, may fail the call, and says how many bytes a read
/// gives at most.
pub(crate) type Before = Box<dyn FnMut(Call) -> io::Result<usize> + Send>;

/// Files that are mounted here, on a disk to which something happens.
pub(crate) struct Disk(Mutex<Before>);

impl Disk {
    pub(crate) fn with(before: impl FnMut(Call) -> io::Result<usize> + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(before)))
    }

    /// From now on this happens.
    pub(crate) fn begin(&self, before: impl FnMut(Call) -> io::Result<usize> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(before);
    }

    /// Nothing happens any more.
    pub(crate) fn heal(&self) {
        self.begin(|_| Ok(usize::MAX));
    }

    fn before(&self, call: Call) -> io::Result<usize> {
        self.0.lock().unwrap()(call)
    }
}

impl Files for Disk {
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.before(Call::ReadLink)?;
        Mounted.read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.before(Call::Canonicalize)?;
        Mounted.canonicalize(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.before(Call::Metadata)?;
        Mounted.metadata(path)
    }

    fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.before(Call::LinkMetadata)?;
        Mounted.link_metadata(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.before(Call::Open)?;
        Mounted.open(path)
    }

    fn metadata_of(&self, file: &File) -> io::Result<Metadata> {
        self.before(Call::MetadataOf)?;
        Mounted.metadata_of(file)
    }

    fn read(&self, file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.before(Call::Read)?.min(buffer.len());
        Mounted.read(file, &mut buffer[..most])
    }
}
