//! The figures of `README.md`: `cargo bench` prints all, `cargo bench -- latency` one table of them.
//!
//! What is measured is a process, the program as it is shipped, and not a function; so these are
//! programs that print tables, and no benchmark of a framework.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock, /proc and its environment")]
#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

#[path = "figures/certificates.rs"]
mod certificates;
#[path = "figures/contender.rs"]
mod contender;
#[path = "figures/idle.rs"]
mod idle;
#[path = "figures/instant_kong.rs"]
mod instant_kong;
#[path = "figures/latency.rs"]
mod latency;
#[path = "figures/percentiles.rs"]
mod percentiles;
#[path = "figures/process.rs"]
mod process;
#[path = "figures/program.rs"]
mod program;
#[path = "figures/scale.rs"]
mod scale;
#[path = "figures/served.rs"]
mod served;

/// Prints a table, of a size where it has one.
type Print = fn(Option<usize>);

/// Each table, by the word that asks for it; a number after the word is for what has a size.
const TABLES: [(&str, Print); 5] = [
    ("program", program::print),
    ("latency", latency::print),
    ("served", served::print),
    ("idle", idle::print),
    ("scale", scale::print),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let size = words.iter().find_map(|word| word.parse().ok());
    let is_asked = |table: &str| words.iter().any(|word| word == table);
    let asks_for_some = TABLES.iter().any(|(table, _)| is_asked(table));
    for (table, print) in TABLES {
        if is_asked(table) || !asks_for_some {
            println!("\n== {table}\n");
            print(size);
        }
    }
}
