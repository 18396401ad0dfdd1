//! A name, where its files are, and what is configured for it.

mod discover;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub(crate) use self::discover::DEFAULT;
pub use self::discover::{Bindings, Oddity};
use crate::bundle::{Facts, Invalid, PairSource, Pairs, Source as BundleSource};
use crate::names::BindingName;
use crate::settings::{CertificateSettings, RenewBy};
use crate::volume::{Generation, Source};

/// The file that cert-manager and kubelet call the certificate.
const CERT: &str = "tls.crt";
/// The file that they call the key.
const KEY: &str = "tls.key";

/// What is to be kept in Kong, and where its files are.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Its name.
    pub name: BindingName,
    /// What its files hold.
    pub material: Material,
    source: Source,
}

/// What the files of a binding hold, and what is configured for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Material {
    /// A certificate with its key and SNIs.
    Certificate(CertificateFiles),
}

/// The files of a certificate, and what is configured for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// What is configured.
    pub settings: CertificateSettings,
    main: PairFiles,
    alt: Option<PairFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PairFiles {
    cert: PathBuf,
    key: PathBuf,
}

/// What a binding feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A certificate with its key and SNIs.
    Certificate,
}

impl Kind {
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
        }
    }
}

/// What Kong should hold for a binding: the bundle in its files, and what is configured for it.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A certificate.
    Certificate(CertificateSettings, Arc<Pairs>),
}

impl Wish {
    /// What is known about the bundle; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Certificate(_, pairs) => pairs.facts(),
        }
    }
}

impl Binding {
    /// A certificate in `directory`; `above` may be its volume's root.
    fn certificate(
        name: BindingName,
        directory: &Path,
        above: &Path,
        settings: CertificateSettings,
    ) -> Self {
        let named = |path: &Option<PathBuf>, default: &str| {
            directory.join(path.as_deref().unwrap_or_else(|| Path::new(default)))
        };
        let main = PairFiles { cert: named(&settings.cert, CERT), key: named(&settings.key, KEY) };
        let alt = settings.cert_alt.as_ref().zip(settings.key_alt.as_ref());
        let alt = alt
            .map(|(cert, key)| PairFiles { cert: directory.join(cert), key: directory.join(key) });
        let pairs = [Some(&main), alt.as_ref()].into_iter().flatten();
        let files = pairs.flat_map(|pair| [pair.cert.clone(), pair.key.clone()]).collect();
        let source = Source::new(files, vec![directory.to_path_buf(), above.to_path_buf()]);
        let material = Material::Certificate(CertificateFiles { settings, main, alt });
        Self { name, material, source }
    }

    /// Its files.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// The first of its files, for messages: that with the certificate.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.source.files()[0]
    }

    /// What it feeds.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.material {
            Material::Certificate(_) => Kind::Certificate,
        }
    }

    /// The share of its life at which it should have been renewed.
    #[must_use]
    pub const fn renew_by(&self) -> Option<RenewBy> {
        match &self.material {
            Material::Certificate(files) => Some(files.settings.renew_by),
        }
    }

    /// Parses what was read from [`Self::source`].
    ///
    /// # Errors
    ///
    /// Says why Kong could not serve it.
    pub fn wish(&self, generation: &Generation) -> Result<Wish, Invalid> {
        match &self.material {
            Material::Certificate(files) => {
                let pairs = files.pairs(generation)?;
                Ok(Wish::Certificate(files.settings.clone(), Arc::new(pairs)))
            }
        }
    }
}

impl CertificateFiles {
    fn pairs(&self, generation: &Generation) -> Result<Pairs, Invalid> {
        Pairs::parse(
            self.main.read(generation),
            self.alt.as_ref().map(|pair| pair.read(generation)),
        )
    }
}

impl PairFiles {
    fn read<'a>(&'a self, generation: &'a Generation) -> PairSource<'a> {
        let source = |path: &'a Path| BundleSource { path, bytes: generation.content(path) };
        PairSource { cert: source(&self.cert), key: source(&self.key) }
    }
}
