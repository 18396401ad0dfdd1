//! The calls to the system by which mounted files are read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A file system. The program passes [`Mounted`], a test one that fails.
pub trait Files: Send + Sync {
    /// Where the link `path` points to.
    ///
    /// # Errors
    ///
    /// Those of the system, as of all that follow.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// `path` without links.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// What `path` leads to.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// What `path` is itself, which may be a link.
    fn link_metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Opens what `path` leads to, and never blocks on it.
    fn open(&self, path: &Path) -> io::Result<File>;

    /// What was opened.
    fn metadata_of(&self, file: &File) -> io::Result<Metadata>;

    /// Reads on; 0 at the end.
    fn read(&self, file: &File, buffer: &mut [u8]) -> io::Result<usize>;
}

/// The files that are mounted here.
#[derive(Clone, Copy, Debug)]
pub struct Mounted;

impl Files for Mounted {
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::metadata(path)
    }

    fn link_metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::symlink_metadata(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn metadata_of(&self, file: &File) -> io::Result<Metadata> {
        file.metadata()
    }

    fn read(&self, mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        file.read(buffer)
    }
}

/// A file that is read by a [`Files`].
pub(super) struct Opened<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) file: File,
}

impl io::Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.files.read(&self.file, buffer)
    }
}
