//! What is logged on this thread.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;

/// Listens until it is dropped.
pub(crate) struct Log {
    told: Arc<Mutex<Vec<Told>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn listen() -> Self {
        // While there is but one subscriber, a message that another thread comes to first, where
        // nobody listens, is never asked for again.
        let _ = tracing::subscriber::set_global_default(registry());
        let told = Arc::default();
        let listener = Listener(Arc::clone(&told));
        Self { told, _guard: tracing::subscriber::set_default(registry().with(listener)) }
    }

    /// The messages from `warn` on.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn warnings(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let warnings = told.iter().filter(|told| told.level <= Level::WARN);
        warnings.map(|told| told.message.clone()).collect()
    }

    /// Every message, with its fields.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn said(&self) -> String {
        said(&self.told.lock().unwrap())
    }

    /// The same, of what was told since this was last asked.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn take(&self) -> String {
        said(&std::mem::take(&mut *self.told.lock().unwrap()))
    }

    /// How many messages from `info` on have this field, as `name=value`.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn times(&self, field: &str) -> usize {
        let told = self.told.lock().unwrap();
        let loud = told.iter().filter(|told| told.level <= Level::INFO);
        loud.filter(|told| told.fields.iter().any(|found| found == field)).count()
    }
}

fn said(told: &[Told]) -> String {
    let lines = told.iter().map(|told| format!("{} {}", told.message, told.fields.join(" ")));
    lines.collect::<Vec<_>>().join("\n")
}

struct Told {
    level: Level,
    message: String,
    fields: Vec<String>,
}

struct Listener(Arc<Mutex<Vec<Told>>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut told = Told { level, message: String::new(), fields: Vec::new() };
        event.record(&mut told);
        self.0.lock().unwrap().push(told);
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push(format!("{name}={value:?}")),
        }
    }
}
