//! Revocation lists: PEM is read as the DER in it, and what webpki lists is revoked, nothing else.

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
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = b"-----BEGIN X509 CRL-----\n".to_vec();
    for (number, three) in der.chunks(3).enumerate() {
        if number % 16 == 0 && 0 < number {
            text.push(b'\n');
        }
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            text.push(match place <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * place)) as usize & 63],
                false => b'=',
            });
        }
    }
    text.extend(b"\n-----END X509 CRL-----\n");
    text
}
