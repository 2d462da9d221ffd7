//! Revocation lists: PEM is read as the DER in it, and what webpki lists is revoked, nothing else.

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine};
use keelson_port::fuzzing::{Revoked, revoked};
use rustls::pki_types::CertificateDer;
use webpki::OwnedCertRevocationList;

/// Has the serial number 7, which one of the lists of the corpus has.
const CERTIFICATE: &[u8] = include_bytes!("../corpus/certificates/v3.der");

/// The target: a list in DER, or a file in PEM.
pub fn run(bytes: &[u8]) {
    let certificate = CertificateDer::from(CERTIFICATE);
    let found = revoked(bytes, &certificate);
    // A file that begins as a list in DER is one.
    if bytes.first() != Some(&0x30) {
        return;
    }
    assert_eq!(revoked(&pem(bytes), &certificate), found);
    let list = OwnedCertRevocationList::from_der(bytes);
    let expected = match list.map(webpki::CertRevocationList::from) {
        Err(_) => Revoked::Unreadable,
        Ok(list) => match list.find_serial(&[7]) {
            Ok(None) => Revoked::No,
            Ok(Some(_)) | Err(_) => Revoked::Yes,
        },
    };
    assert_eq!(found, expected);
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let mut pem = b"-----BEGIN X509 CRL-----\n".to_vec();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line);
        pem.push(b'\n');
    }
    pem.extend(b"-----END X509 CRL-----\n");
    pem
}
