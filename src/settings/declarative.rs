//! The configuration of a Kong without a database.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::path::absolute;
use super::reader::Reader;

/// The path of the file's setting.
pub(super) const FILE: &str = "declarative.file";

/// Where the rest of the configuration is from, and how Kong's is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarative {
    /// The file with everything that is not ours, absolute, without `..`; nothing to leave that as
    /// Kong has it.
    pub file: Option<PathBuf>,
    /// How often Kong is asked whether it still has what was sent: 100 ms to an hour.
    pub poll: Duration,
    /// Write although another controller does.
    pub force: bool,
}

impl Default for Declarative {
    fn default() -> Self {
        Self { file: None, poll: Duration::from_secs(2), force: false }
    }
}

impl Declarative {
    /// The name of the binding that the file is; no other has it where there is a file.
    pub const NAME: &'static str = "declarative_file";

    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            file: reader.text(FILE, absolute),
            poll: reader.duration("declarative.poll", POLL).unwrap_or(default.poll),
            force: reader.truth("declarative.force").unwrap_or(default.force),
        }
    }
}

/// Less is a load on Kong; more than an hour is a slip.
const POLL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
