//! What may happen, and schedules of it.
//!
//! Plain strategies over a list of events, and no `proptest-state-machine`: any event makes sense in
//! any state (what Kong refuses to another writer simply does not happen), so there is nothing that
//! a generator would have to know of the state, lists shrink freely, and one block of asynchronous
//! code plays them on a paused clock.

use std::fmt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::bundles::{Binding, GENERATIONS, What};

/// Which kind of Kong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Database,
    Dbless,
}

/// Events, each some time after the one before.
#[derive(Clone)]
pub(crate) struct Schedule(pub(crate) Vec<Step>);

#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) event: Event,
}

/// The first replica is there from the beginning, the second is started by [`Event::Start`].
pub(crate) type Replica = usize;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// kubelet swaps the volumes of one node or of both, and the kernel tells, or not.
    Publish { at: Volumes, binding: Binding, what: What, heard: bool },
    /// The directory is taken away.
    Unmount { at: Volumes, binding: Binding, heard: bool },
    /// A sidecar is started where there is none, or ended and started again.
    Start { replica: Replica, killed: bool },
    /// Kong's Admin API does not do what it should.
    Fault { trouble: Trouble, writes_only: bool, spell: Spell },
    /// Another writer.
    Other(Writer),
    /// Kong's database goes away, or comes back.
    Database { is_down: bool },
    /// The node hears of no change any more, or of all that it missed.
    Cache { is_frozen: bool },
    /// The node never hears of the next write.
    MissNextWrite,
    /// Kong starts anew, and answers after some seconds.
    RestartKong { forgets: bool },
    /// The wall clock of the nodes is set.
    SetClock { hours: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volumes {
    First,
    Second,
    Both,
}

impl Volumes {
    pub(crate) const fn replicas(self) -> &'static [Replica] {
        match self {
            Self::First => &[0],
            Self::Second => &[1],
            Self::Both => &[0, 1],
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    NoConnection,
    Broken,
    /// The answer is lost, and Kong has done it.
    BrokenAfterwards,
    /// After 10 s.
    Timeout,
    TimeoutAfterwards,
    Status(u16),
    RetryAfter(u16, u64),
}

/// For how long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spell {
    Calls(u32),
    For(Duration),
}

#[derive(Clone, Debug)]
pub(crate) enum Writer {
    /// Puts another pair into the object of a binding.
    Pair(Binding, What),
    /// Does so again whenever it is undone, for half an hour.
    Rival(Binding, What),
    /// Replaces its tags.
    Tags(Binding, &'static [&'static str]),
    /// Adds a name to it.
    AddName(Binding, &'static str),
    /// Takes a name away, whoever has it.
    DropName(&'static str),
    Delete(Binding),
    /// Makes an object with these names, if they are free.
    Create(Binding, What, &'static [&'static str]),
    /// Changes an object that is none of ours.
    Bystander,
    /// Without a database: edits what runs.
    Edit,
    /// Without a database: loads the configuration that Kong began with.
    LoadFirst,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "  +{:?} {:?}", step.after, step.event))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:?} {:?}", self.after, self.event)
    }
}

/// Schedules for one kind of Kong.
pub(crate) fn schedules(family: Family) -> impl Strategy<Value = Schedule> {
    let step = (waits(), events(family)).prop_map(|(after, event)| Step { after, event });
    vec(step, 4..28).prop_map(Schedule)
}

/// From the time of one call to hours; shrinks to none.
fn waits() -> impl Strategy<Value = Duration> {
    const MS: [u64; 20] = [
        0, 0, 0, 1, 2, 3, 5, 20, 300, 2_000, 2_000, 10_000, 31_000, 31_000, 90_000, 200_000,
        300_000, 340_000, 700_000, 2_000_000,
    ];
    select(&MS[..]).prop_map(Duration::from_millis)
}

fn events(family: Family) -> BoxedStrategy<Event> {
    let common = prop_oneof![
        12 => publications(),
        1 => (volumes(), bindings(), any::<bool>())
            .prop_map(|(at, binding, heard)| Event::Unmount { at, binding, heard }),
        3 => (0..2_usize, any::<bool>())
            .prop_map(|(replica, killed)| Event::Start { replica, killed }),
        6 => faults(),
        1 => any::<bool>().prop_map(|forgets| Event::RestartKong { forgets }),
        1 => select(&[1_i64, -1, 24, -30, 2_400][..]).prop_map(|hours| Event::SetClock { hours }),
    ];
    match family {
        Family::Database => prop_oneof![
            24 => common,
            8 => writers().prop_map(Event::Other),
            1 => any::<bool>().prop_map(|is_down| Event::Database { is_down }),
            1 => any::<bool>().prop_map(|is_frozen| Event::Cache { is_frozen }),
            1 => Just(Event::MissNextWrite),
        ]
        .boxed(),
        Family::Dbless => prop_oneof![
            24 => common,
            3 => Just(Event::Other(Writer::Edit)),
            3 => Just(Event::Other(Writer::LoadFirst)),
            1 => any::<bool>().prop_map(|forgets| Event::RestartKong { forgets }),
        ]
        .boxed(),
    }
}

/// Most events meet in one binding: what befalls several at once is rarer.
fn bindings() -> impl Strategy<Value = Binding> {
    prop_oneof![4 => Just(Binding::Web), 2 => Just(Binding::Old), 1 => Just(Binding::Api)]
}

fn volumes() -> impl Strategy<Value = Volumes> {
    prop_oneof![3 => Just(Volumes::Both), 3 => Just(Volumes::First), 2 => Just(Volumes::Second)]
}

fn generations() -> impl Strategy<Value = u8> {
    0..GENERATIONS
}

fn publications() -> impl Strategy<Value = Event> {
    let others = [
        What::MoreNames,
        What::OtherNames,
        What::Twin,
        What::Short,
        What::Future,
        What::Expired,
        What::Broken,
        What::Mismatched,
        What::Weak,
        What::Half,
    ];
    let what = prop_oneof![
        8 => generations().prop_map(What::Generation),
        1 => generations().prop_map(What::OtherText),
        2 => generations().prop_map(What::OtherChain),
        6 => select(others.to_vec()),
    ];
    (volumes(), bindings(), what, prop::bool::weighted(0.8))
        .prop_map(|(at, binding, what, heard)| Event::Publish { at, binding, what, heard })
}

fn faults() -> impl Strategy<Value = Event> {
    // What only a write is answered has no meaning for a read.
    let of_writes = prop_oneof![
        Just(Trouble::BrokenAfterwards),
        Just(Trouble::TimeoutAfterwards),
        select(&[400_u16, 404, 409, 413][..]).prop_map(Trouble::Status),
    ];
    let of_any = prop_oneof![
        Just(Trouble::NoConnection),
        Just(Trouble::Broken),
        Just(Trouble::Timeout),
        select(&[401_u16, 403, 500, 502, 503, 504][..]).prop_map(Trouble::Status),
        (select(&[429_u16, 503][..]), select(&[2_u64, 40, 600][..]))
            .prop_map(|(status, wish)| Trouble::RetryAfter(status, wish)),
    ];
    let trouble = prop_oneof![
        1 => of_writes.prop_map(|trouble| (trouble, true)),
        1 => (of_any, any::<bool>()),
    ];
    let spell = prop_oneof![
        3 => (1..5_u32).prop_map(Spell::Calls),
        1 => select(&[2_u64, 30, 300, 900][..])
            .prop_map(|seconds| Spell::For(Duration::from_secs(seconds))),
    ];
    (trouble, spell).prop_map(|((trouble, writes_only), spell)| Event::Fault {
        trouble,
        writes_only,
        spell,
    })
}

/// An object with two pairs is not made for names of a binding with one: only the first would be ours.
fn of_its_kind(binding: Binding, names: &[&str]) -> Binding {
    let is_apis = names.iter().all(|name| name.ends_with("api.test"));
    if binding == Binding::Api && !is_apis { Binding::Old } else { binding }
}

fn writers() -> impl Strategy<Value = Writer> {
    const TAGS: &[&[&str]] = &[
        &["managed-by:kong-cert-reloader:default", "by-hand"],
        &["by-hand"],
        &["managed-by:kong-cert-reloader:default"],
        &["managed-by-ingress-controller"],
    ];
    const NAMES: &[&str] = &["hand.a.test", "www.a.test", "api.test", "p.o.test"];
    const FREE: &[&[&str]] =
        &[&["a.test"], &["www.a.test"], &["api.test"], &["o.test", "q.test"], &["*.api.test"]];
    let held = || {
        prop_oneof![
            4 => generations().prop_map(What::Generation),
            1 => select(&[What::Twin, What::Short, What::Future, What::Expired, What::Broken, What::Weak][..]),
        ]
    };
    let dropped = select(&["a.test", "api.test", "www.a.test", "o.test", "hand.a.test"][..]);
    prop_oneof![
        6 => (bindings(), held()).prop_map(|(binding, what)| Writer::Pair(binding, what)),
        1 => (bindings(), held()).prop_map(|(binding, what)| Writer::Rival(binding, what)),
        2 => (bindings(), select(TAGS)).prop_map(|(binding, tags)| Writer::Tags(binding, tags)),
        2 => (bindings(), select(NAMES)).prop_map(|(binding, name)| Writer::AddName(binding, name)),
        1 => dropped.prop_map(Writer::DropName),
        2 => bindings().prop_map(Writer::Delete),
        2 => (bindings(), held(), select(FREE))
            .prop_map(|(binding, what, names)| Writer::Create(of_its_kind(binding, names), what, names)),
        1 => Just(Writer::Bystander),
    ]
}
