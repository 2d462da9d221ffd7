//! Keys, and their signatures: ring's, and P-521, which ring does not have.

use p521::ecdsa::signature::{Signer as _, Verifier as _};
use p521::elliptic_curve::sec1::ToEncodedPoint;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use ring::signature::{EcdsaSigningAlgorithm, UnparsedPublicKey, VerificationAlgorithm};
use ring::{hmac, signature::ECDSA_P256_SHA256_FIXED, signature::ECDSA_P384_SHA384_FIXED};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::{JwtHash, JwtMethod};
use keelson_port::der::{self, INTEGER, OBJECT, OCTET_STRING, SEQUENCE};

/// `rsaEncryption`, 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `id-ecPublicKey`, 1.2.840.10045.2.1; its curve follows.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `id-Ed25519`, 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// `prime256v1`, `secp384r1`, `secp521r1`.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// A private key.
pub(super) enum Signer {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(Box<EcdsaKeyPair>),
    P521(p521::ecdsa::SigningKey, Vec<u8>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    /// The key in a PEM file; `None` if it is not one of the method.
    pub(super) fn new(method: JwtMethod, pem: &[u8]) -> Option<Signer> {
        let der = || PrivateKeyDer::from_pem_slice(pem).ok();
        match method {
            JwtMethod::Hs(hash) => {
                (!pem.is_empty()).then(|| Signer::Hmac(hmac::Key::new(hmac_algorithm(hash), pem)))
            }
            JwtMethod::Rs(hash) => Signer::rsa(&der()?, rsa_encoding(hash)),
            JwtMethod::Ps(hash) => Signer::rsa(&der()?, pss_encoding(hash)),
            JwtMethod::Es(JwtHash::Sha256) => {
                ecdsa(&der()?, &signature::ECDSA_P256_SHA256_FIXED_SIGNING)
            }
            JwtMethod::Es(JwtHash::Sha384) => {
                ecdsa(&der()?, &signature::ECDSA_P384_SHA384_FIXED_SIGNING)
            }
            JwtMethod::Es(JwtHash::Sha512) => p521(&der()?),
            JwtMethod::EdDsa => match der()? {
                PrivateKeyDer::Pkcs8(key) => {
                    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
                    Some(Signer::Ed25519(Box::new(key.ok()?)))
                }
                _ => None,
            },
        }
    }

    fn rsa(der: &PrivateKeyDer<'_>, encoding: &'static dyn RsaEncoding) -> Option<Signer> {
        let pair = match der {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return None,
        };
        Some(Signer::Rsa(Box::new(pair.ok()?), encoding))
    }

    /// The public key that belongs to it, in the form of [`public_key`].
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        match self {
            Signer::Hmac(_) => None,
            Signer::Rsa(pair, _) => Some(pair.public().as_ref().to_vec()),
            Signer::Ecdsa(pair) => Some(pair.public_key().as_ref().to_vec()),
            Signer::P521(_, public) => Some(public.clone()),
            Signer::Ed25519(pair) => Some(pair.public_key().as_ref().to_vec()),
        }
    }

    /// The signature. `None` without randomness from the system.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(*encoding, &random, message, &mut signature);
                signed.ok().map(|()| signature)
            }
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Signer::P521(key, _) => {
                let signature: p521::ecdsa::Signature = key.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Signer::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn ecdsa(der: &PrivateKeyDer<'_>, curve: &'static EcdsaSigningAlgorithm) -> Option<Signer> {
    let random = SystemRandom::new();
    let pair = match der {
        PrivateKeyDer::Pkcs8(key) => {
            EcdsaKeyPair::from_pkcs8(curve, key.secret_pkcs8_der(), &random)
        }
        PrivateKeyDer::Sec1(key) => {
            let (private, public) = sec1(key.secret_sec1_der())?;
            EcdsaKeyPair::from_private_key_and_public_key(curve, private, public, &random)
        }
        _ => return None,
    };
    Some(Signer::Ecdsa(Box::new(pair.ok()?)))
}

/// The private and the public key of an `ECPrivateKey` (RFC 5915).
fn sec1(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, _) = der::element(der, SEQUENCE)?;
    let (_, rest) = der::element(content, INTEGER)?;
    let (private, rest) = der::element(rest, OCTET_STRING)?;
    let rest = der::element(rest, 0xa0).map_or(rest, |(_, after)| after);
    let (public, _) = der::element(rest, 0xa1)?;
    Some((private, der::bits(public)?))
}

fn p521(der: &PrivateKeyDer<'_>) -> Option<Signer> {
    let secret = keelson_port::p521_secret(der)?;
    let public = secret.public_key().to_encoded_point(false);
    let key = p521::ecdsa::SigningKey::from_bytes(&secret.to_bytes()).ok()?;
    Some(Signer::P521(key, public.as_bytes().to_vec()))
}

/// A public key.
pub(super) enum Verifier {
    Hmac(hmac::Key),
    Ring(UnparsedPublicKey<Vec<u8>>),
    P521(p521::ecdsa::VerifyingKey),
}

impl Verifier {
    /// A key in the form of [`public_key`].
    pub(super) fn new(method: JwtMethod, public: Vec<u8>) -> Option<Verifier> {
        let algorithm: &'static dyn VerificationAlgorithm = match method {
            JwtMethod::Hs(_) => return None,
            JwtMethod::Rs(JwtHash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            JwtMethod::Rs(JwtHash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            JwtMethod::Rs(JwtHash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            JwtMethod::Ps(JwtHash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
            JwtMethod::Ps(JwtHash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
            JwtMethod::Ps(JwtHash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
            JwtMethod::Es(JwtHash::Sha256) => &ECDSA_P256_SHA256_FIXED,
            JwtMethod::Es(JwtHash::Sha384) => &ECDSA_P384_SHA384_FIXED,
            JwtMethod::Es(JwtHash::Sha512) => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&public);
                return Some(Verifier::P521(key.ok()?));
            }
            JwtMethod::EdDsa => &signature::ED25519,
        };
        Some(Verifier::Ring(UnparsedPublicKey::new(algorithm, public)))
    }

    /// `None` if the signature is not one of the message.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        match self {
            Verifier::Hmac(key) => hmac::verify(key, message, signature).ok(),
            Verifier::Ring(key) => key.verify(message, signature).ok(),
            Verifier::P521(key) => {
                let signature = p521::ecdsa::Signature::from_slice(signature).ok()?;
                key.verify(message, &signature).ok()
            }
        }
    }
}

/// The public key in a PEM file, as ring takes it: the bits of a `SubjectPublicKeyInfo`. `None` if
/// it is not one of the method.
pub(super) fn public_key(method: JwtMethod, pem: &[u8]) -> Option<Vec<u8>> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let (info, _) = der::element(&info, SEQUENCE)?;
    let (algorithm, key) = der::element(info, SEQUENCE)?;
    let (kind, parameters) = der::element(algorithm, OBJECT)?;
    let curve = der::element(parameters, OBJECT).map(|(curve, _)| curve);
    let fits = match method {
        JwtMethod::Hs(_) => false,
        JwtMethod::Rs(_) | JwtMethod::Ps(_) => kind == RSA,
        JwtMethod::Es(JwtHash::Sha256) => kind == EC && curve == Some(P256),
        JwtMethod::Es(JwtHash::Sha384) => kind == EC && curve == Some(P384),
        JwtMethod::Es(JwtHash::Sha512) => kind == EC && curve == Some(P521),
        JwtMethod::EdDsa => kind == ED25519,
    };
    let key = der::bits(key)?;
    fits.then(|| key.to_vec())
}

fn hmac_algorithm(hash: JwtHash) -> hmac::Algorithm {
    match hash {
        JwtHash::Sha256 => hmac::HMAC_SHA256,
        JwtHash::Sha384 => hmac::HMAC_SHA384,
        JwtHash::Sha512 => hmac::HMAC_SHA512,
    }
}

fn rsa_encoding(hash: JwtHash) -> &'static dyn RsaEncoding {
    match hash {
        JwtHash::Sha256 => &signature::RSA_PKCS1_SHA256,
        JwtHash::Sha384 => &signature::RSA_PKCS1_SHA384,
        JwtHash::Sha512 => &signature::RSA_PKCS1_SHA512,
    }
}

fn pss_encoding(hash: JwtHash) -> &'static dyn RsaEncoding {
    match hash {
        JwtHash::Sha256 => &signature::RSA_PSS_SHA256,
        JwtHash::Sha384 => &signature::RSA_PSS_SHA384,
        JwtHash::Sha512 => &signature::RSA_PSS_SHA512,
    }
}
