//! Programs that tests use where they are installed: helm, kubectl, and what checks their output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::missing;

/// A program that is installed, or that `.ci/run` fetched.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    variables: Vec<(String, PathBuf)>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it exited with 0.
    pub well: bool,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Tool {
    /// Looks for `name`; tells what is left out where it is not installed, and panics in CI.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).chain(fetched());
        let program =
            places.find_map(|place| Some(place.join(name)).filter(|program| program.is_file()));
        if program.is_none() {
            missing(&format!("{name}, which is not installed; .ci/run fetches it"));
        }
        Some(Self { program: program?, variables: Vec::new() })
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &Path) -> Self {
        self.variables.push((variable.to_owned(), value.to_path_buf()));
        self
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.feed("", arguments)
    }

    /// Runs it to its end with `input` on its standard input.
    #[must_use]
    pub fn feed(&self, input: &str, arguments: &[&str]) -> Ended {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // What it calls itself, such as kubectl in a post-renderer.
        let path = std::env::join_paths(std::env::split_paths(&path).chain(fetched())).unwrap();
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PATH", path).envs(self.variables.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // It may answer before it has read all, or read nothing at all.
        let feeding = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            well: output.status.success(),
            output: text(&output.stdout),
            errors: text(&output.stderr),
        }
    }
}

/// Where `.ci/run` puts programs.
fn fetched() -> [PathBuf; 2] {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ci");
    [tools.join("bin"), tools.join("python/bin")]
}
