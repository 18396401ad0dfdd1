//! All that the program says on this thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry;

/// Listens at TRACE until it is dropped.
pub(crate) struct Heard {
    written: Written,
    _guard: DefaultGuard,
}

impl Heard {
    pub(crate) fn listen() -> Self {
        // While there is but one subscriber, a message that another thread comes to first, where
        // nobody listens, is never asked for again.
        let _ = tracing::subscriber::set_global_default(registry());
        let written = Written::default();
        let all = Targets::new().with_target("kong_cert_reloader", LevelFilter::TRACE);
        let layer = fmt::layer()
            .without_time()
            .with_ansi(false)
            .with_writer(written.clone())
            .with_filter(all);
        Self { written, _guard: tracing::subscriber::set_default(registry().with(layer)) }
    }

    /// What was said since this was last asked.
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.written.0.lock().unwrap())).unwrap()
    }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
