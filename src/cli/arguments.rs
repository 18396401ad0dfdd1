//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::output::Output;
use super::probe::Probe;
use crate::names::BindingName;

/// A longer wait for one command is a slip.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Makes Kong serve what is in mounted certificate files: no restart, no Kubernetes rights.
///
/// It feeds Kong certificates, CA certificates (CA_CERTIFICATES__…), licences (LICENSES__…), and
/// where there is no database the rest of its configuration (DECLARATIVE__FILE); and it has nginx
/// read again the files that kong.conf names (RELOAD__FILES__…).
///
/// Settings come from the environment (CERT_RELOADER__…) and from the YAML file that
/// CERT_RELOADER__CONFIG names; the README lists them.
#[derive(Debug, Parser)]
#[command(
    name = "kong-cert-reloader",
    version,
    about,
    long_about,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  kong-cert-reloader                                  the sidecar
  kubectl exec deploy/kong-kong -c cert-reloader -- kong-cert-reloader diff
  CERT_RELOADER__ADMIN__URL=http://127.0.0.1:8001 kong-cert-reloader sync
  kong-cert-reloader check ./certs

`kong-cert-reloader COMMAND --help` has more of them, and the exit codes.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch and reload until SIGTERM (this is what happens without a command)
    #[command(after_help = RUN)]
    Run,
    /// Bring Kong in line with the files once, and tell how each of them stands
    #[command(after_help = SYNC)]
    Sync(Sync),
    /// Show file, Kong and served side by side, and what a pass would do; writes nothing
    #[command(after_help = DIFF)]
    Diff(Diff),
    /// Look whether files could be served, and until when; needs no Kong
    #[command(after_help = CHECK)]
    Check(Check),
    /// Ask the sidecar beside us for its health: an exec probe that needs no shell
    #[command(after_help = PROBE)]
    Probe {
        /// What to ask
        #[arg(value_enum)]
        probe: Probe,
    },
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Whose
        #[arg(value_enum)]
        shell: Shell,
    },
}

const RUN: &str = "\
Examples:
  kong-cert-reloader run
  CERT_RELOADER__DRY_RUN=true kong-cert-reloader run   observe; write and signal nothing

Exit codes: 0 after SIGTERM or SIGINT, 1 it cannot start, 2 wrong settings.";

const SYNC: &str = "\
Examples:
  kong-cert-reloader sync                              in a Job, or before a test
  kubectl exec deploy/kong-kong -c cert-reloader -- kong-cert-reloader sync
  kong-cert-reloader sync --force web                  although Kong's certificate is newer
  kong-cert-reloader sync -o json | jq '.bindings | map_values(.state)'

Exit codes: 0 all in place, 1 not all, or none found, 2 wrong usage or settings.";

const DIFF: &str = "\
Examples:
  kubectl exec deploy/kong-kong -c cert-reloader -- kong-cert-reloader diff
  kong-cert-reloader diff -o json | jq '.bindings | map_values({state, message})'
  kong-cert-reloader diff; test $? = 3 && kong-cert-reloader sync

Exit codes: 0 no difference, 3 some, 1 it cannot be told, or a file or object is at fault, 2 wrong
usage or settings.";

const CHECK: &str = "\
Examples:
  kong-cert-reloader check                             all of the settings, of every kind
  kong-cert-reloader check ./certs                     tls.crt and tls.key there, or in its children
  kong-cert-reloader check -o json ./certs | jq '.[] | select(.servable and .days_left < 14).name'

Exit codes: 0 all can be served now, 1 not all, or none found, 2 wrong usage or settings.";

const PROBE: &str = "\
Examples:
  kong-cert-reloader probe livez
  readinessProbe: {exec: {command: [kong-cert-reloader, probe, readyz]}}

Exit codes: 0 yes, 1 no, or no answer, 2 wrong usage or settings.";

const COMPLETIONS: &str = "\
Examples:
  kong-cert-reloader completions bash > /etc/bash_completion.d/kong-cert-reloader
  source <(kong-cert-reloader completions zsh)

Exit codes: 0, 2 wrong usage.";

#[derive(Debug, Args)]
pub(super) struct Sync {
    /// When to give up, 0s to 1h
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = timeout)]
    pub(super) timeout: Duration,
    /// Push the file of this binding, though Kong's is newer or may be right
    #[arg(long, value_name = "NAME")]
    pub(super) force: Vec<BindingName>,
    #[command(flatten)]
    pub(super) manner: Manner,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// When to give up, 0s to 1h
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) manner: Manner,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Directories that hold tls.crt and tls.key, or whose children do [default: all that the
    /// settings name: CA_CERTIFICATES, LICENSES, RELOAD__FILES and DECLARATIVE__FILE, too]
    #[arg(value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) output: OutputArgument,
}

/// How a command that goes to Kong once tells what it does.
#[derive(Debug, Args)]
pub(super) struct Manner {
    #[command(flatten)]
    pub(super) output: OutputArgument,
    /// Log as LOG__LEVEL says, not errors alone
    #[arg(short, long)]
    pub(super) verbose: bool,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgument {
    /// For people or for scripts
    #[arg(short, long = "output", value_enum, default_value_t)]
    pub(super) output: Output,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    match humantime::parse_duration(text) {
        Ok(timeout) if has_unit && timeout <= LONGEST_TIMEOUT => Ok(timeout),
        Ok(_) if has_unit => Err("take at most 1h".to_owned()),
        _ => Err("write it with its unit, such as 30s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_in_the_documents_can_be_given() {
        let documents =
            [include_str!("../../README.md"), include_str!("../../docs/rotation-drill.md")];
        let mut given = 0;
        let shell = |text: &'static str| text.split("```sh\n").skip(1);
        let blocks = documents.into_iter().flat_map(shell);
        for line in blocks.flat_map(|block| block.split("```").next().unwrap().lines()) {
            let words = line.split(['|', '>', ';']).next().unwrap().split_whitespace();
            let words: Vec<&str> = words.skip_while(|word| *word != "kong-cert-reloader").collect();
            if !words.is_empty() {
                assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
                given += 1;
            }
        }
        assert!(given > 4, "{given}");
    }

    #[test]
    fn a_timeout_has_a_unit_and_ends_within_an_hour() {
        for (text, seconds) in
            [("60s", Some(60)), ("0s", Some(0)), ("1h", Some(3600)), ("1m 30s", Some(90))]
                .into_iter()
                .chain([("60", None), ("0", None), ("61m", None), ("soon", None), ("", None)])
        {
            assert_eq!(timeout(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let parsed = Arguments::try_parse_from(["x", "sync"]).unwrap();
        let Some(Command::Sync(sync)) = parsed.command else { panic!("{parsed:?}") };
        assert_eq!((sync.timeout, sync.force), (Duration::from_secs(60), Vec::new()));
        assert_eq!((sync.manner.output.output, sync.manner.verbose), (Output::Table, false));
        let parsed = Arguments::try_parse_from(["x", "diff"]).unwrap();
        let Some(Command::Diff(diff)) = parsed.command else { panic!("{parsed:?}") };
        assert_eq!(diff.timeout, Duration::from_secs(10));
    }
}
