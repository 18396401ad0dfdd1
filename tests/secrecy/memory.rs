//! What is in the memory of a process: read by root, while the process goes on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::searcher::Searcher;

/// Every trace of secrets in the writable memory of a process: which secret, in which mapping and
/// where, and the text around it as far as it is text.
///
/// # Errors
///
/// Where it may not be read: the sidecar is not dumpable, and shows its memory to root alone. And where
/// a mapping is not there any more, or smaller: a process that is idle keeps its mappings.
pub(crate) fn traces(pid: u32, searcher: &Searcher) -> io::Result<Vec<String>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut traces = Vec::new();
    for mapping in maps.lines().filter_map(Mapping::writable) {
        let mut bytes = vec![0; mapping.length];
        // What is not read is not searched: that must not pass for a memory without traces.
        memory.read_exact_at(&mut bytes, mapping.start).map_err(|error| {
            io::Error::new(error.kind(), format!("{} is not read: {error}", mapping.line))
        })?;
        for (at, name) in searcher.places(&bytes) {
            let around = &bytes[at.saturating_sub(120)..(at + 160).min(bytes.len())];
            let printable = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { '.' };
            let around: String = around.iter().map(printable).collect();
            traces.push(format!("{name} in {} at {at:#x}: {around}", mapping.line));
        }
    }
    Ok(traces)
}

struct Mapping<'a> {
    start: u64,
    length: usize,
    line: &'a str,
}

impl<'a> Mapping<'a> {
    /// One line of `/proc/PID/maps`, if what it tells of can be written to.
    fn writable(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        let length = usize::try_from(end - start).ok()?;
        let is_writable =
            rights.starts_with("rw") && line.split_whitespace().nth(5) != Some("[vvar]");
        is_writable.then_some(Self { start, length, line })
    }
}
