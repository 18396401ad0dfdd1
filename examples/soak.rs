//! Thousands of rotations with random faults, beside two embedded Kongs, with the figures of what
//! it took: `cargo run --release --example soak -- --minutes 30`.
//!
//! The sidecars are processes of their own: this program again, told to be one. Clients look at
//! every name all the while. It ends with 1, and says why, as soon as one of them gets something
//! broken, something older than before, or nothing; where the newest is not served in time; where
//! something of others changed; and where a sidecar takes more of the machine at the end.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what this program is for")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "an example's clock and files; what it made itself"
)]

#[path = "soak/binding.rs"]
mod binding;
#[path = "soak/clients.rs"]
mod clients;
#[path = "soak/deeds.rs"]
mod deeds;
#[path = "soak/flatness.rs"]
mod flatness;
#[path = "soak/others.rs"]
mod others;
#[path = "soak/sidecar.rs"]
mod sidecar;
#[path = "soak/tally.rs"]
mod tally;
#[path = "soak/trouble.rs"]
mod trouble;
#[path = "soak/world.rs"]
mod world;

use std::alloc::System;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use fastrand::Rng;
use kong_cert_reloader::cli;
use kong_cert_reloader::clock::Timestamp;
use tally::Tally;
use world::{Life, World};
use zeroizing_alloc::ZeroAlloc;

/// As the program has it: the sidecars are to take what they take there.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Where this is set, this program is a sidecar.
const SIDECAR: &str = "KONG_CERT_RELOADER_SOAK_SIDECAR";
/// Whatever was amiss, a minute and a half after it everything is served: some repairs wait for a
/// minute.
const PATIENCE: Duration = Duration::from_secs(90);

type Outcome<T = ()> = Result<T, String>;

/// Rotates certificates beside two embedded Kongs, with random faults.
#[derive(Debug, Parser)]
struct Asked {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Draws by lot as the run that told it; when what happens is not drawn.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    if std::env::var_os(SIDECAR).is_some() {
        return cli::main(|| Timestamp::from(SystemTime::now()));
    }
    let asked = Asked::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.unwrap().block_on(soak(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("soak: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(asked: &Asked) -> Outcome {
    let length = Duration::try_from_secs_f64(asked.minutes * 60.0)
        .map_err(|_| "--minutes is no length of time")?;
    let seed = asked.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("soak: {} minutes, --seed {seed}", asked.minutes);
    let mut lot = Rng::with_seed(seed);
    let tally = Rc::new(Tally::new(length));
    let mut database = World::on_a_database(lot.fork(), Rc::clone(&tally)).await?;
    let mut dbless = World::without_a_database(lot.fork(), Rc::clone(&tally)).await?;
    let clients = [Rc::clone(&database.clients), Rc::clone(&dbless.clients)];
    let lives = [Rc::clone(&database.life), Rc::clone(&dbless.life)];
    let seen: Vec<_> = clients.iter().map(|clients| &**clients).collect();
    let played = tokio::select! {
        played = async { tokio::try_join!(database.play(), dbless.play()) } => played.map(|_| ()),
        wrong = clients[0].look_about(lot.fork()) => wrong,
        wrong = clients[1].look_about(lot.fork()) => wrong,
        () = lives[0].observe(&tally) => Ok(()),
        () = lives[1].observe(&tally) => Ok(()),
        () = tally.tell(&seen) => Ok(()),
    };
    Tally::end_line();
    println!("{}", tally.summary(&seen));
    played.map_err(|problem| {
        let said = [database.last_words(), dbless.last_words()].join("\n");
        format!("{problem}\ndrawn by --seed {seed}; the sidecars said last\n{said}")
    })?;
    println!(
        "every name was served all the while: nothing broken, nothing older, nothing of others changed"
    );
    let problems: Vec<String> = lives.iter().filter_map(|life| flat(life).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Tells what a sidecar took, and fails where it was more and more, or is not known.
fn flat(life: &Life) -> Outcome {
    let flatness = life.samples.borrow().flatness();
    let flatness =
        flatness.ok_or_else(|| format!("the sidecar ({}) was not measured", life.name))?;
    println!("sidecar ({}) {flatness}", life.name);
    match flatness.growth() {
        Some(grown) => Err(format!("the sidecar ({}) is not flat: {grown}", life.name)),
        None => Ok(()),
    }
}
