//! A chain and the private key that belongs to its first certificate.

use std::fmt;

use zeroize::Zeroizing;

use super::chain::{Chain, Keys};
use super::pem::{self, Block, KeyEncoding};
use super::private_key::PrivateKey;
use super::{Invalid, KeyType, PairSource, Source};

/// What Kong is sent: all of it encoded anew from what was checked.
pub struct Pair {
    chain: Chain,
    key: PrivateKey,
}

impl Pair {
    pub(super) fn parse(source: PairSource<'_>) -> Result<Self, Invalid> {
        let PairSource { cert, key } = source;
        let cert_blocks = pem::blocks(cert.path, cert.bytes)?;
        let key_blocks = pem::blocks(key.path, key.bytes)?;
        let keys = if cert.path == key.path { Keys::Ignored } else { Keys::Refused };
        if is_swapped(&cert_blocks, &key_blocks) {
            return Err(Invalid::swapped(cert.path, key.path));
        }
        let chain = Chain::parse(cert.path, &cert_blocks, keys)?;
        let private = private_key(key, &key_blocks, keys)?;
        match chain.position_of(private.public()) {
            Some(0) => Ok(Self { chain, key: private }),
            Some(place) => Err(Invalid::leaf_not_first(cert.path, key.path, place + 1)),
            None => Err(Invalid::key_mismatch(cert.path, key.path)),
        }
    }

    /// The chain as PEM, leaf first, without whatever stood around it: LF, 64 columns.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        self.chain
            .certificates()
            .iter()
            .map(|certificate| pem::encode(pem::CERTIFICATE, certificate.der()).to_string())
            .collect()
    }

    /// The key as PEM, in the encoding it had (version 2 of PKCS#8 becomes version 1). Wiped when
    /// the pair is dropped; who copies it has to wipe the copy.
    #[must_use]
    pub fn key_pem(&self) -> &Zeroizing<String> {
        self.key.pem()
    }

    /// The type of the key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.chain.key_type()
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// Prints no key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pair").field(&self.key_type()).finish()
    }
}

/// Whether each file holds what belongs into the other.
fn is_swapped(cert: &[Block<'_>], key: &[Block<'_>]) -> bool {
    let is_certificate = |block: &Block<'_>| block.label == pem::CERTIFICATE;
    let only_keys = |blocks: &[Block<'_>]| {
        blocks.iter().any(Block::is_key) && !blocks.iter().any(is_certificate)
    };
    let only_certificates = |blocks: &[Block<'_>]| blocks.iter().all(is_certificate);
    only_keys(cert) && only_certificates(key)
}

fn private_key(
    source: Source<'_>,
    blocks: &[Block<'_>],
    keys: Keys,
) -> Result<PrivateKey, Invalid> {
    let path = source.path;
    let block = only_key_block(source, blocks, keys)?;
    if block.is_encrypted() {
        return Err(Invalid::encrypted_key(path));
    }
    let Some(encoding) = KeyEncoding::of(block.label) else {
        return Err(Invalid::unsupported_key_block(path, block.label));
    };
    let der = block.key().map_err(|flaw| Invalid::not_pem(path, flaw))?;
    PrivateKey::parse(encoding, &der).map_err(|flaw| Invalid::private_key(path, flaw))
}

fn only_key_block<'a, 'b>(
    source: Source<'_>,
    blocks: &'b [Block<'a>],
    keys: Keys,
) -> Result<&'b Block<'a>, Invalid> {
    let mut found = blocks.iter().filter(|block| block.is_key());
    let key = found.next().ok_or_else(|| Invalid::no_key(source.path))?;
    if found.next().is_some() {
        return Err(Invalid::several_keys(source.path));
    }
    let one_file = keys == Keys::Ignored;
    let foreign = blocks.iter().find(|block| {
        !block.is_key()
            && block.label != pem::EC_PARAMETERS
            && !(one_file && block.label == pem::CERTIFICATE)
    });
    match foreign {
        Some(block) => Err(Invalid::foreign_block(
            source.path,
            block.label,
            "leave nothing but the private key in it",
        )),
        None => Ok(key),
    }
}
