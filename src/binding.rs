//! A name, where its files are, and what is configured for it.

mod discover;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

pub(crate) use self::discover::DEFAULT;
pub use self::discover::{Bindings, Oddity};
use crate::allowance::{Room, allowance};
use crate::bundle::{
    Authorities, CertificateBundle, Facts, Fingerprint, Invalid, License, PairSource, Pairs,
    Source as BundleSource,
};
use crate::clock::Timestamp;
use crate::declarative::{Document, Unreadable};
use crate::names::BindingName;
use crate::quote::Quoted;
use crate::settings::{
    AuthoritySettings, CertificateSettings, Declarative, LicenseSettings, ReloadFile, RenewBy,
    Settings,
};
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
    /// CA certificates.
    Authorities(AuthoritySettings),
    /// A licence of Kong Enterprise.
    License(LicenseSettings),
    /// A pair that nginx reads when it starts or reloads.
    Reload(ReloadFile),
    /// The rest of the configuration of a Kong without a database.
    Configuration,
}

/// The files of a certificate, and what is configured for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// What is configured.
    pub settings: Arc<CertificateSettings>,
    main: PairFiles,
    alt: Option<Box<PairFiles>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PairFiles {
    cert: Arc<Path>,
    key: Arc<Path>,
}

/// What a binding feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A certificate with its key and SNIs.
    Certificate,
    /// CA certificates.
    CaCertificate,
    /// A licence of Kong Enterprise.
    License,
    /// Files that nginx reads when it starts or reloads.
    Reload,
    /// The file with the rest of the configuration of a Kong without a database.
    Declarative,
}

impl Kind {
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::CaCertificate => "ca_certificate",
            Self::License => "license",
            Self::Reload => "reload",
            Self::Declarative => "declarative",
        }
    }

    /// Whether a handshake can show it.
    #[must_use]
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Certificate | Self::Reload)
    }

    /// Whether Kong's Admin API holds it.
    #[must_use]
    pub const fn is_in_kong(self) -> bool {
        !matches!(self, Self::Reload)
    }

    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Certificate, Self::CaCertificate, Self::License, Self::Reload, Self::Declarative];

    /// Whether there is more to show of it than where it stands.
    #[must_use]
    pub const fn has_facts(self) -> bool {
        !matches!(self, Self::Declarative)
    }

    /// Whether it is renewed by a rhythm: CAs and licences have none.
    #[must_use]
    pub const fn is_renewed(self) -> bool {
        matches!(self, Self::Certificate | Self::Reload)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a binding asks for: the bundle in its files, and what is configured for it.
#[derive(Debug)]
pub enum Content {
    /// Kong should hold it.
    Wish(Wish),
    /// nginx should have read it. Its key is not kept.
    Read(ReloadFile, Facts),
    /// Kong should have loaded it, with what the other bindings wish.
    Configuration(Configuration),
}

/// What is in `DECLARATIVE__FILE`.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// As it is read.
    pub document: Arc<Document>,
    /// Of its text.
    pub fingerprint: Fingerprint,
    /// Bytes of its text.
    pub length: usize,
}

impl Content {
    /// What is known about the bundle; nothing of it is secret. `None` of a configuration.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Wish(wish) => Some(wish.facts()),
            Self::Read(_, facts) => Some(facts),
            Self::Configuration(_) => None,
        }
    }

    /// [`Invalid::Expired`] or the like if it is past its life; `file` is for the message.
    pub fn check_expired(&self, file: &Path, now: Timestamp) -> Result<(), Invalid> {
        match self {
            Self::Wish(Wish::License(_, license)) => license.check_expired(file, now),
            _ => self.facts().map_or(Ok(()), |facts| facts.check_expired(file, now)),
        }
    }
}

/// Why what is in the files cannot be brought to Kong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It cannot be served.
    #[error(transparent)]
    Bundle(#[from] Invalid),
    /// It is no configuration.
    #[error("{path} is no declarative configuration: {problem}")]
    Configuration {
        /// The file.
        path: Quoted,
        /// What is wrong, and where.
        problem: Unreadable,
    },
}

impl Unfit {
    /// Whether a file that is being written looks like this.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        match self {
            Self::Bundle(invalid) => invalid.is_torn(),
            Self::Configuration { problem, .. } => !matches!(problem, Unreadable::TooLarge),
        }
    }
}

/// What Kong should hold.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A certificate.
    Certificate(Arc<CertificateSettings>, CertificateBundle),
    /// CA certificates.
    Authorities(AuthoritySettings, Arc<Authorities>),
    /// A licence.
    License(LicenseSettings, Arc<License>),
}

impl Wish {
    /// Gives keys away that can be read again.
    pub fn put_down(&mut self) {
        if let Self::Certificate(_, bundle) = self {
            bundle.put_down();
        }
    }

    /// Whether its keys were given away.
    #[must_use]
    pub const fn is_put_down(&self) -> bool {
        matches!(self, Self::Certificate(_, CertificateBundle::Known(_)))
    }

    /// What is known about the bundle; nothing of it is secret.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Certificate(_, bundle) => bundle.facts(),
            Self::Authorities(_, authorities) => authorities.facts(),
            Self::License(_, license) => license.facts(),
        }
    }
}

impl Binding {
    /// A certificate in `directory`; `above` may be its volume's root.
    fn certificate(
        name: BindingName,
        directory: &Path,
        above: &Arc<Path>,
        settings: Arc<CertificateSettings>,
    ) -> Self {
        let at = |path: &Path| Arc::from(directory.join(path));
        let named =
            |path: &Option<PathBuf>, default: &str| at(path.as_deref().unwrap_or(default.as_ref()));
        let main = PairFiles { cert: named(&settings.cert, CERT), key: named(&settings.key, KEY) };
        let alt = settings.cert_alt.as_ref().zip(settings.key_alt.as_ref());
        let alt = alt.map(|(cert, key)| Box::new(PairFiles { cert: at(cert), key: at(key) }));
        let pairs = [Some(&main), alt.as_deref()].into_iter().flatten();
        let files = pairs.flat_map(|pair| [&pair.cert, &pair.key].map(Arc::clone)).collect();
        let source = Source::new(files, vec![directory.into(), Arc::clone(above)]);
        let material = Material::Certificate(CertificateFiles { settings, main, alt });
        Self { name, material, source }
    }

    /// All that are configured and no certificate.
    fn configured(settings: &Settings) -> Vec<Self> {
        let alone = |file: &Path, material| (vec![file.to_path_buf()], material);
        let authorities = settings.authorities.iter();
        let authorities = authorities
            .map(|(name, one)| (name, alone(&one.file, Material::Authorities(one.clone()))));
        let licenses = settings.licenses.iter();
        let licenses =
            licenses.map(|(name, one)| (name, alone(&one.file, Material::License(one.clone()))));
        let reloads = settings.reload.files.iter().map(|(name, one)| {
            (name, (vec![one.cert.clone(), one.key.clone()], Material::Reload(one.clone())))
        });
        let all = authorities.chain(licenses).chain(reloads);
        let all = all.map(|(name, (files, material))| Self {
            name: name.clone().into(),
            material,
            source: Source::new(files, vec![settings.certs_dir.clone()]),
        });
        let configuration = settings.declarative.file.iter().filter_map(|file| {
            let name = Declarative::NAME.parse().ok()?;
            let source = Source::new(vec![file.clone()], Vec::new()).up_to(allowance() as u64);
            Some(Self { name, material: Material::Configuration, source })
        });
        all.chain(configuration).collect()
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
            Material::Authorities(_) => Kind::CaCertificate,
            Material::License(_) => Kind::License,
            Material::Reload(_) => Kind::Reload,
            Material::Configuration => Kind::Declarative,
        }
    }

    /// The share of its life at which it should have been renewed; CAs and licences have no rhythm.
    #[must_use]
    pub fn renew_by(&self) -> Option<RenewBy> {
        match &self.material {
            Material::Certificate(files) => Some(files.settings.renew_by),
            Material::Reload(_) => Some(RenewBy::default()),
            Material::Authorities(_) | Material::License(_) | Material::Configuration => None,
        }
    }

    /// Parses what was read from [`Self::source`].
    ///
    /// # Errors
    ///
    /// Says why Kong could not serve it.
    pub fn content(&self, generation: &Generation, now: Timestamp) -> Result<Content, Unfit> {
        let file = BundleSource { path: self.file(), bytes: generation.content(self.file()) };
        Ok(match &self.material {
            Material::Certificate(files) => {
                let pairs = files.pairs(generation)?;
                let settings = Arc::clone(&files.settings);
                let bundle = CertificateBundle::Whole(Arc::new(pairs));
                Content::Wish(Wish::Certificate(settings, bundle))
            }
            Material::Authorities(settings) => {
                let authorities = Authorities::parse(file, now)?;
                Content::Wish(Wish::Authorities(settings.clone(), Arc::new(authorities)))
            }
            Material::License(settings) => {
                let license = License::parse(file)?;
                Content::Wish(Wish::License(settings.clone(), Arc::new(license)))
            }
            Material::Reload(files) => {
                let pair = PairFiles {
                    cert: files.cert.as_path().into(),
                    key: files.key.as_path().into(),
                };
                let pairs = Pairs::parse(pair.read(generation), None)?;
                Content::Read(files.clone(), pairs.facts().clone())
            }
            Material::Configuration => {
                let document = Document::parse_within(Room::of_memory(), file.bytes);
                let document = document.map_err(|problem| Unfit::Configuration {
                    path: Quoted::new(&file.path.to_string_lossy()),
                    problem,
                })?;
                Content::Configuration(Configuration {
                    document: Arc::new(document),
                    fingerprint: Fingerprint::of_text(file.bytes),
                    length: file.bytes.len(),
                })
            }
        })
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
