//! What is read of a certificate by itself is what webpki reads, wherever webpki accepts it, but
//! that one damaged name leaves none; and an element of DER is what the crate `der` reads.

use der::{AnyRef, Decode, Encode, Reader, SliceReader};
use keelson_port::der::element;
use keelson_port::fuzzing::{dns_names, not_after, serial_number};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The target. The input is a certificate, and a sequence of elements.
pub fn run(bytes: &[u8]) {
    elements(bytes);
    let name = keelson_port::common_name_of(bytes);
    let (serial, _) = (serial_number(bytes), not_after(bytes));
    let names = dns_names(bytes);
    let der = CertificateDer::from(bytes);
    let Ok(certificate) = EndEntityCert::try_from(&der) else {
        return;
    };
    assert_eq!(serial, Some(certificate.serial()));
    // A name that is not UTF-8 is shown with marks in its place.
    if let Some(name) = name.filter(|name| !name.contains('\u{fffd}')) {
        let subject = certificate.subject();
        let mut parts = subject.windows(name.len());
        assert!(parts.any(|part| part == name.as_bytes()), "{name:?}");
    }
    // Where another name of the extension is damaged, webpki reads on, and here it has no names.
    let Some(names) = names else {
        return;
    };
    for host in certificate.valid_dns_names() {
        assert!(
            names.iter().any(|name| name == host),
            "{host:?} of {names:?}"
        );
    }
}

fn elements(mut bytes: &[u8]) {
    while let Some(tag) = bytes.first() {
        let read = element(bytes, *tag);
        let mut reader = SliceReader::new(bytes).expect("of a length that fits");
        if let Ok(any) = AnyRef::decode(&mut reader) {
            let rest =
                &bytes[bytes.len() - usize::try_from(reader.remaining_len()).expect("fits")..];
            assert_eq!(read, Some((any.value(), rest)));
            let again = any.to_der().expect("what was read");
            assert_eq!(element(&again, *tag), Some((any.value(), &[][..])));
        }
        let Some((content, rest)) = read else {
            return;
        };
        if tag & 0x20 != 0 {
            elements(content);
        }
        bytes = rest;
    }
}
