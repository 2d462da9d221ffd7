//! Field blocks of RFC 7541's examples, and blocks that break its rules.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::{huffman::tests::encode, put_field};
use super::*;

type Fields = Vec<(String, String, bool)>;

/// The size update of the examples with a table of 256 bytes, which they presume.
const UPDATE_TO_256: &str = "3fe101";

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits are a byte"))
        .collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, DecodeError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = Vec::new();
    decoder.decode(block, 1 << 16, |name, value, sensitive| {
        fields.push((text(name), text(value), sensitive));
    })?;
    Ok(fields)
}

/// Reads an example of the appendix and compares the fields, the table after it, and the
/// table's size.
fn example(
    decoder: &mut Decoder,
    digits: &str,
    fields: &[(&str, &str)],
    table: &[(&str, &str)],
    table_bytes: usize,
) {
    let expected: Fields = fields
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned(), false))
        .collect();
    assert_eq!(read(decoder, &hex(digits)), Ok(expected), "{digits}");
    let table: Vec<_> = table
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    assert_eq!(decoder.table.contents(), (table, table_bytes), "{digits}");
}

#[test]
fn rfc_c2_representations() {
    let field = ("custom-key", "custom-header");
    example(
        &mut Decoder::new(4096),
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[field],
        &[field],
        55,
    );
    example(
        &mut Decoder::new(4096),
        "040c 2f73 616d 706c 652f 7061 7468",
        &[(":path", "/sample/path")],
        &[],
        0,
    );
    let mut decoder = Decoder::new(4096);
    let block = hex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let field = ("password".to_owned(), "secret".to_owned(), true);
    assert_eq!(read(&mut decoder, &block), Ok(vec![field]));
    example(&mut decoder, "82", &[(":method", "GET")], &[], 0);
}

/// The requests of C.3 and C.4, which differ in the coding of strings only.
fn requests(blocks: [&str; 3]) {
    let mut decoder = Decoder::new(4096);
    let get = (":method", "GET");
    let authority = (":authority", "www.example.com");
    let no_cache = ("cache-control", "no-cache");
    let custom = ("custom-key", "custom-value");
    let (http, https) = ((":scheme", "http"), (":scheme", "https"));
    let (root, index) = ((":path", "/"), (":path", "/index.html"));
    let fields = [get, http, root, authority];
    example(&mut decoder, blocks[0], &fields, &[authority], 57);
    let fields = [get, http, root, authority, no_cache];
    example(
        &mut decoder,
        blocks[1],
        &fields,
        &[no_cache, authority],
        110,
    );
    let fields = [get, https, index, authority, custom];
    let table = [custom, no_cache, authority];
    example(&mut decoder, blocks[2], &fields, &table, 164);
}

#[test]
fn rfc_c3_requests() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn rfc_c4_requests_huffman() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

/// The responses of C.5 and C.6, which differ in the coding of strings only.
fn responses(blocks: [&str; 3]) {
    let mut decoder = Decoder::new(256);
    assert_eq!(read(&mut decoder, &hex(UPDATE_TO_256)), Ok(Vec::new()));
    let [found, moved, ok] = [(":status", "302"), (":status", "307"), (":status", "200")];
    let private = ("cache-control", "private");
    let date_21 = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let date_22 = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let gzip = ("content-encoding", "gzip");
    let cookie = (
        "set-cookie",
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    );
    let fields = [found, private, date_21, location];
    let table = [location, date_21, private, found];
    example(&mut decoder, blocks[0], &fields, &table, 222);
    let fields = [moved, private, date_21, location];
    let table = [moved, location, date_21, private];
    example(&mut decoder, blocks[1], &fields, &table, 222);
    let fields = [ok, private, date_22, location, gzip, cookie];
    example(
        &mut decoder,
        blocks[2],
        &fields,
        &[cookie, gzip, date_22],
        215,
    );
}

#[test]
fn rfc_c5_responses() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ]);
}

#[test]
fn rfc_c6_responses_huffman() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn malformed_blocks() {
    for (why, block) in [
        ("index 0", "80"),
        ("index beyond an empty table", "be"),
        ("large index beyond the table", "ff ff ff ff 7f"),
        ("index of a name beyond the table", "7e 0161"),
        ("index of a name beyond, not indexed", "0f 2f 0161"),
        ("integer ends early", "ff"),
        ("integer ends early, continued", "ff 80"),
        ("integer of five continuation bytes", "ff 80 80 80 80 00"),
        (
            "length of five continuation bytes",
            "00 0161 7f 80 80 80 80 00",
        ),
        ("no name", "00"),
        ("name cut short", "00 02 61"),
        ("no value", "00 01 61"),
        ("no value for an indexed name", "44"),
        ("value cut short", "10 01 61 02 61"),
        ("size update after a field", "82 20"),
        ("size update at the end", "00 0161 0161 3f 00"),
        ("size update above the setting", "3f e2 1f"),
        ("size update cut short", "3f"),
        ("huffman name with EOS", "00 84 ff ff ff ff 0161"),
        ("huffman value with EOS", "00 0161 84 ff ff ff ff"),
        ("huffman padding of a byte", "00 0161 81 ff"),
        ("huffman padding with a zero", "00 0161 81 06"),
    ] {
        let result = read(&mut Decoder::new(4096), &hex(block));
        assert_eq!(result, Err(Malformed), "{why}");
    }
}

#[test]
fn an_integer_may_be_longer_than_needed_within_the_bound() {
    let mut block = hex("00 0161 7f 80 80 80 00");
    block.extend([b'v'; 127]);
    let field = ("a".to_owned(), "v".repeat(127), false);
    assert_eq!(read(&mut Decoder::new(4096), &block), Ok(vec![field]));
}

#[test]
fn a_list_too_large_keeps_the_table_right() {
    let mut decoder = Decoder::new(4096);
    // Three new entries of 34 bytes each, the second too much for the list, then one that is
    // indexed.
    let block = hex("40 0161 0131 40 0162 0132 40 0163 0133 82");
    let mut names = Vec::new();
    let result = decoder.decode(&block, 67, |name, _, _| names.push(name.to_vec()));
    assert_eq!(result, Err(TooLarge));
    assert_eq!(names, [b"a"]);
    example(
        &mut decoder,
        "be bf c0",
        &[("c", "3"), ("b", "2"), ("a", "1")],
        &[("c", "3"), ("b", "2"), ("a", "1")],
        3 * 34,
    );
    // What follows the excess is still checked.
    let result = decoder.decode(&hex("be 80"), 0, |_, _, _| ());
    assert_eq!(result, Err(Malformed));
}

#[test]
fn a_list_as_large_as_allowed_is_not_too_large() {
    let mut decoder = Decoder::new(4096);
    let block = hex("82 40 0161 0131");
    assert_eq!(decoder.decode(&block, 42 + 34, |_, _, _| ()), Ok(()));
    assert_eq!(decoder.decode(&block, 42 + 33, |_, _, _| ()), Err(TooLarge));
    assert_eq!(decoder.decode(b"", 0, |_, _, _| ()), Ok(()));
}

#[test]
fn size_updates_evict_and_allow_again() {
    let mut decoder = Decoder::new(4096);
    let (a, b) = (("a", "1"), ("b", "2"));
    example(
        &mut decoder,
        "40 0161 0131 40 0162 0132",
        &[a, b],
        &[b, a],
        68,
    );
    // To 34, for the newest entry only.
    example(&mut decoder, "3f03 be", &[b], &[b], 34);
    // To nothing and back up to the setting in one block.
    example(&mut decoder, "20 3fe11f 40 0161 0131", &[a], &[a], 34);
    example(&mut decoder, "20", &[], &[], 0);
    example(&mut decoder, "40 0161 0131", &[a], &[], 0);
}

#[test]
fn a_peer_that_does_not_know_our_settings_has_the_default_table() {
    let mut decoder = Decoder::new(0);
    let a = ("a", "1");
    example(&mut decoder, "40 0161 0131", &[a], &[a], 34);
    example(&mut decoder, "be", &[a], &[a], 34);
    assert_eq!(read(&mut decoder, &hex("21")), Err(Malformed));
}

#[test]
fn a_name_may_be_of_the_entry_that_its_field_evicts() {
    let mut decoder = Decoder::new(4096);
    let (first, second) = (("aaaa", "1"), ("aaaa", "2"));
    // The table holds 40 bytes, which is one such entry.
    example(
        &mut decoder,
        "3f09 40 0461616161 0131",
        &[first],
        &[first],
        37,
    );
    example(&mut decoder, "7e 0132", &[second], &[second], 37);
    // And with a value that does not fit at all.
    let large = ("aaaa", "23456");
    example(&mut decoder, "7e 053233343536", &[large], &[], 0);
}

#[test]
fn a_large_scratch_is_given_back() {
    let mut decoder = Decoder::new(4096);
    let mut block = BytesMut::new();
    put_field(&mut block, b"a", &encode(&[b'v'; 6000]), false);
    // The value's length follows the kind and the name; its highest bit marks Huffman coding.
    block[3] |= 0x80;
    let field = ("a".to_owned(), "v".repeat(6000), false);
    assert_eq!(read(&mut decoder, &block), Ok(vec![field]));
    assert_eq!(decoder.scratch.capacity(), 0);
    assert!(read(&mut decoder, &hex("00 0161 81 07")).is_ok());
    assert!((1..=SCRATCH_BYTES_KEPT).contains(&decoder.scratch.capacity()));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..8),
        list_bytes_max in 0..2000_usize,
    ) {
        let mut decoder = Decoder::new(100);
        for block in blocks {
            let mut list_bytes = 0;
            let _ = decoder.decode(&block, list_bytes_max, |name, value, _| {
                list_bytes += name.len() + value.len() + FIELD_OVERHEAD;
            });
            prop_assert!(list_bytes <= list_bytes_max);
            let (fields, bytes) = decoder.table.contents();
            let lengths = fields.iter().map(|(name, value)| name.len() + value.len());
            let sum = lengths.map(|length| length + FIELD_OVERHEAD);
            prop_assert_eq!(sum.sum::<usize>(), bytes);
            prop_assert!(bytes <= TABLE_BYTES_DEFAULT);
        }
    }

    #[test]
    fn huffman_fields_come_back_and_are_indexed(name in ".{0,30}", value in ".{0,30}") {
        let mut decoder = Decoder::new(4096);
        let mut block = vec![0x40];
        for text in [&name, &value] {
            let coded = encode(text.as_bytes());
            let mut length = BytesMut::new();
            put_field(&mut length, b"a", &coded, false);
            length[3] |= 0x80;
            block.extend_from_slice(&length[3..]);
        }
        block.push(0xbe);
        let field = (name, value, false);
        prop_assert_eq!(read(&mut decoder, &block), Ok(vec![field.clone(), field]));
    }
}
