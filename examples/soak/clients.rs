//! TLS clients that ask for every name, again and again, and know what they must not get.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use testkit::TlsClient;
use tokio::time::sleep;

use crate::Outcome;

/// So many generations of a name are known; Kong serves none that is older.
const REMEMBERED: usize = 128;
/// Between two looks at names drawn by lot.
const PAUSE: Duration = Duration::from_millis(15);

pub(crate) type Chain = Vec<Vec<u8>>;

/// The clients of one Kong, and what they may get.
#[derive(Debug)]
pub(crate) struct Clients {
    proxy: SocketAddr,
    default: Chain,
    views: RefCell<Vec<View>>,
    /// Changes with whatever changes what may be got: a handshake over such a change tells nothing.
    epoch: Cell<u64>,
    is_down: Cell<bool>,
    looks: Cell<u64>,
}

/// One name, as one kind of client sees it.
#[derive(Debug)]
struct View {
    name: String,
    client: TlsClient,
    /// What may be served, by generation.
    known: VecDeque<(u64, Chain)>,
    /// No earlier generation may be got any more.
    floor: u64,
    /// The certificate of `kong.conf` may be got: Kong has lost its data, or never had them.
    may_be_default: bool,
}

impl Clients {
    pub(crate) fn new(proxy: SocketAddr, default: Chain) -> Self {
        Self {
            proxy,
            default,
            views: RefCell::default(),
            epoch: Cell::new(0),
            is_down: Cell::new(false),
            looks: Cell::new(0),
        }
    }

    /// Another name to look at; its number.
    pub(crate) fn add(&self, name: &str, client: TlsClient) -> usize {
        let client = client.sni(name);
        let known = VecDeque::new();
        let view = View { name: name.to_owned(), client, known, floor: 0, may_be_default: true };
        self.views.borrow_mut().push(view);
        self.count() - 1
    }

    /// This chain may be served from now on.
    pub(crate) fn expect(&self, view: usize, generation: u64, chain: Chain) {
        let known = &mut self.views.borrow_mut()[view].known;
        known.push_back((generation, chain));
        if known.len() > REMEMBERED {
            // Not the first: someone else may go on having it.
            known.remove(1);
        }
    }

    /// Kong is about to lose what it has of this name, or to get something older for it.
    pub(crate) fn expect_loss(&self, view: usize) {
        self.epoch.set(self.epoch.get() + 1);
        let view = &mut self.views.borrow_mut()[view];
        view.floor = 0;
        view.may_be_default = true;
    }

    /// As [`Self::expect_loss`], of every name.
    pub(crate) fn expect_loss_of_all(&self) {
        let count = self.count();
        (0..count).for_each(|view| self.expect_loss(view));
    }

    /// Kong is about to be unable to look up what it has not at hand.
    pub(crate) fn expect_default(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.views.borrow_mut().iter_mut().for_each(|view| view.may_be_default = true);
    }

    /// Whether connections may fail from now on.
    pub(crate) fn expect_down(&self, is_down: bool) {
        self.epoch.set(self.epoch.get() + 1);
        self.is_down.set(is_down);
    }

    fn count(&self) -> usize {
        self.views.borrow().len()
    }

    /// How many handshakes were looked at.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// One handshake: the generation that is served, where that can be told.
    ///
    /// Fails where something is served that was never servable, is older than what was served, or
    /// is nothing at all.
    pub(crate) async fn look(&self, number: usize) -> Outcome<Option<u64>> {
        let epoch = self.epoch.get();
        // What another look finds out meanwhile says nothing about this one.
        let (client, floor, may_be_default) = {
            let view = &self.views.borrow()[number];
            (view.client.clone(), view.floor, view.may_be_default)
        };
        let got = client.chain(self.proxy).await;
        if self.epoch.get() != epoch {
            return Ok(None);
        }
        self.looks.set(self.looks.get() + 1);
        let view = &mut self.views.borrow_mut()[number];
        let name = &view.name;
        let chain = match got {
            Ok(chain) => chain,
            // There is no default certificate of the other key type.
            Err(_) if self.is_down.get() || may_be_default => return Ok(None),
            Err(error) => return Err(format!("{name} is not served: {error}")),
        };
        if chain == self.default {
            let why = format!("{name} is not served: clients get the certificate of kong.conf");
            return if may_be_default { Ok(None) } else { Err(why) };
        }
        let known = view.known.iter().find(|(_, known)| *known == chain);
        let Some(&(generation, _)) = known else {
            return Err(format!("for {name} is served what never was in its files"));
        };
        if generation < floor {
            return Err(format!("for {name} is served {generation}, and {floor} was before"));
        }
        view.floor = view.floor.max(generation);
        let newest = view.known.iter().map(|(newest, _)| *newest).max();
        view.may_be_default &= newest != Some(generation);
        Ok(Some(generation))
    }

    /// Looks at names drawn by lot, until something is wrong.
    pub(crate) async fn look_about(&self, mut lot: Rng) -> Outcome {
        loop {
            self.look(lot.usize(..self.count())).await?;
            sleep(PAUSE).await;
        }
    }
}
