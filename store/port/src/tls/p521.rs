//! The curve P-521, which ring does not have and Go's TLS does: keys of our own, and certificates
//! of others.

use std::sync::{Arc, LazyLock};

use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier;
use p521::ecdsa::{DerSignature, Signature, SigningKey, VerifyingKey};
use p521::elliptic_curve::sec1::ToEncodedPoint;
use p521::pkcs8::DecodePrivateKey;
use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::{self, Signer, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The curve's scheme; TLS 1.3 ties it to SHA-512 (RFC 8446, 4.2.3).
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP521_SHA512;

/// ring's provider, and the curve.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification_algorithms: *ALGORITHMS,
        key_provider: &Keys,
        ..ring::default_provider()
    }
}

/// Made once: rustls takes lists of static lifetime.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let of_ring = ring::default_provider().signature_verification_algorithms;
    let mut all = of_ring.all.to_vec();
    all.extend([SHA512, SHA384, SHA256]);
    let mut mapping = of_ring.mapping.to_vec();
    mapping.push((SCHEME, &[SHA512]));
    WebPkiSupportedAlgorithms {
        all: all.leak(),
        mapping: mapping.leak(),
    }
});

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(
        &self,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn sign::SigningKey>, Error> {
        let of_curve = Key::of(&key);
        match of_curve {
            Some(key) => Ok(Arc::new(key)),
            None => ring::default_provider().key_provider.load_private_key(key),
        }
    }
}

/// A private key of the curve, from SEC 1 or PKCS #8.
pub fn p521_secret(der: &PrivateKeyDer<'_>) -> Option<p521::SecretKey> {
    match der {
        PrivateKeyDer::Sec1(key) => p521::SecretKey::from_sec1_der(key.secret_sec1_der()).ok(),
        PrivateKeyDer::Pkcs8(key) => p521::SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
        _ => None,
    }
}

/// A private key of the curve.
#[derive(Clone)]
struct Key {
    key: SigningKey,
    public: Vec<u8>,
}

impl Key {
    fn of(der: &PrivateKeyDer<'_>) -> Option<Key> {
        let secret = p521_secret(der)?;
        let public = secret.public_key().to_encoded_point(false);
        Some(Key {
            key: SigningKey::from_bytes(&secret.to_bytes()).ok()?,
            public: public.as_bytes().to_vec(),
        })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a private key of P-521")
    }
}

impl sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered = offered.contains(&SCHEME);
        offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P521, &self.public))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed: Result<Signature, _> = self.key.try_sign(message);
        let signed = signed.map_err(|error| Error::General(error.to_string()))?;
        Ok(signed.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

/// A signature of the curve over a digest. openssl signs certificates with SHA-256 by default.
#[derive(Debug)]
struct Ecdsa {
    id: AlgorithmIdentifier,
    digest: fn(&[u8]) -> Vec<u8>,
}

const SHA512: &dyn SignatureVerificationAlgorithm = &Ecdsa {
    id: alg_id::ECDSA_SHA512,
    digest: |message| Sha512::digest(message).to_vec(),
};

const SHA384: &dyn SignatureVerificationAlgorithm = &Ecdsa {
    id: alg_id::ECDSA_SHA384,
    digest: |message| Sha384::digest(message).to_vec(),
};

const SHA256: &dyn SignatureVerificationAlgorithm = &Ecdsa {
    id: alg_id::ECDSA_SHA256,
    // A number: the zero before it changes nothing, and the library refuses less than half of the
    // curve's bytes.
    digest: |message| [&[0], &Sha256::digest(message)[..]].concat(),
};

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::from_bytes(signature).map_err(|_| InvalidSignature)?;
        let signature = Signature::try_from(signature).map_err(|_| InvalidSignature)?;
        let verified = key.verify_prehash(&(self.digest)(message), &signature);
        verified.map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}
