//! What is written is read again; damage is an error.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill(builder: &mut Builder, buckets: &Buckets, out: &mut Vec<u8>) -> Result<(), BuildError> {
    for (name, rows) in buckets {
        builder.bucket(name)?;
        for (key, value) in rows {
            builder.row(key, value)?;
            out.extend(builder.take(5000));
        }
    }
    Ok(())
}

fn written(buckets: &Buckets) -> Vec<u8> {
    let mut file = Vec::new();
    let mut plan = Builder::plan();
    fill(&mut plan, buckets, &mut file).unwrap();
    let planned = plan.finish().unwrap();
    assert!(file.is_empty() && planned.rest.is_empty());
    let mut builder = Builder::write(planned.layout);
    fill(&mut builder, buckets, &mut file).unwrap();
    file.extend(builder.finish().unwrap().rest);
    assert_eq!(file.len() as u64, planned.layout.bytes());
    file
}

fn read(file: &[u8]) -> Result<Buckets, Error> {
    let database = Database::open(file)?;
    let mut buckets = Buckets::new();
    let mut names = database.buckets()?;
    while let Some(bucket) = names.next()? {
        let found = buckets.entry(bucket.key.to_vec()).or_default();
        let mut rows = database.open_bucket(&bucket.value)?;
        while let Some(row) = rows.next()? {
            found.insert(row.key.to_vec(), row.value.to_vec());
        }
    }
    Ok(buckets)
}

fn many(rows: u32, key_bytes: usize, value_bytes: usize) -> Buckets {
    let row = |number: u32| {
        let mut key = vec![b'k'; key_bytes];
        key[..4].copy_from_slice(&number.to_be_bytes());
        (key, vec![number as u8; value_bytes])
    };
    Buckets::from([(b"key".to_vec(), (0..rows).map(row).collect())])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn buckets_come_back(
        buckets in btree_map(
            vec(any::<u8>(), 1..20),
            btree_map(vec(any::<u8>(), 1..300), vec(any::<u8>(), 0..600), 0..60),
            0..5,
        ),
    ) {
        prop_assert_eq!(read(&written(&buckets)).unwrap(), buckets);
    }

    /// A changed byte gives an error or other rows, and no more rows than the file has room for.
    #[test]
    fn damage_is_an_error_or_other_rows(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = written(&many(200, 20, 100));
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(buckets) = read(&file) {
            let rows: usize = buckets.values().map(BTreeMap::len).sum();
            prop_assert!(rows <= file.len() / format::ELEMENT_BYTES);
        }
    }
}

/// A branch with one child stops bbolt when it merges the child with its neighbour.
#[test]
fn every_branch_has_two_children_or_more() {
    for (key_bytes, value_bytes, step) in [(1500, 1500, 1), (1000, 3000, 1), (17, 200, 61)] {
        for rows in (0..40).map(|times| times * step) {
            let buckets = many(rows, key_bytes, value_bytes);
            let file = written(&buckets);
            assert_eq!(read(&file).unwrap(), buckets);
            for page in file.chunks(PAGE_BYTES).skip(2) {
                let flags = format::u16_at(page, 8);
                let is_header = format::u32_at(page, 12).is_some_and(|overflow| overflow < 4);
                if flags == Some(format::BRANCH) && is_header {
                    assert!(format::u16_at(page, 10) >= Some(2), "{rows} rows");
                }
            }
        }
    }
}

#[test]
fn a_large_value_has_overflow_pages() {
    let buckets = many(3, 17, 3 << 20);
    assert_eq!(read(&written(&buckets)).unwrap(), buckets);
}

#[test]
fn a_file_with_a_tail_is_read_and_a_cut_one_is_an_error() {
    let buckets = many(2000, 17, 100);
    let mut file = written(&buckets);
    assert!(read(&file[..file.len() - PAGE_BYTES]).is_err());
    file.extend([7; 32]);
    assert_eq!(read(&file).unwrap(), buckets);
    // The second meta page serves if the first is damaged.
    file[20] ^= 1;
    assert_eq!(read(&file).unwrap(), buckets);
    file[PAGE_BYTES + 20] ^= 1;
    assert!(matches!(read(&file), Err(Error::NotBolt(_))));
    assert!(matches!(read(b""), Err(Error::NotBolt(_))));
}

/// Pages that name each other would be walked for ever.
#[test]
fn a_circle_ends() {
    let mut file = written(&many(3000, 17, 100));
    let is_branch = |page: &[u8]| format::u16_at(page, 8) == Some(format::BRANCH);
    let mut pages = file.chunks(PAGE_BYTES).enumerate().skip(2);
    let branch = pages.position(|(_, page)| is_branch(page)).unwrap() + 2;
    let child = branch * PAGE_BYTES + format::HEADER_BYTES + 8;
    file[child..child + 8].copy_from_slice(&(branch as u64).to_le_bytes());
    assert!(matches!(read(&file), Err(Error::Damaged { .. })));
}

#[test]
fn rows_that_bbolt_would_refuse_are_refused() {
    let mut builder = Builder::plan();
    assert_eq!(builder.row(b"k", b""), Err(BuildError::NoBucket));
    builder.bucket(b"b").unwrap();
    assert_eq!(builder.row(b"", b""), Err(BuildError::KeySize(0)));
    builder.row(b"k", b"").unwrap();
    assert_eq!(builder.row(b"k", b""), Err(BuildError::Unsorted));
    assert_eq!(builder.row(b"a", b""), Err(BuildError::Unsorted));
    builder.bucket(b"a").unwrap();
    assert_eq!(builder.bucket(b"b"), Err(BuildError::Unsorted));
}

#[test]
fn a_second_pass_over_other_rows_is_refused() {
    let plan = |rows: u32| {
        let mut plan = Builder::plan();
        fill(&mut plan, &many(rows, 17, 100), &mut Vec::new()).unwrap();
        plan.finish().unwrap().layout
    };
    let mut builder = Builder::write(plan(100));
    fill(&mut builder, &many(200, 17, 100), &mut Vec::new()).unwrap();
    assert_eq!(builder.finish().map(drop), Err(BuildError::Differs));
}

#[test]
fn a_bucket_that_is_not_there_is_none() {
    let file = written(&many(100, 17, 100));
    let database = Database::open(&file[..]).unwrap();
    assert!(database.bucket(b"lease").unwrap().is_none());
    let mut rows = database.bucket(b"key").unwrap().unwrap();
    let first = rows.next().unwrap().unwrap();
    assert_eq!(first.value, Bytes::from(vec![0; 100]));
}

/// The snapshot of an etcd 3.4.23 after three puts.
#[test]
fn a_file_of_etcd_is_read() {
    let file = include_bytes!("../../../fuzz/corpus/bolt/etcd-3.4.23");
    let buckets = read(file).unwrap();
    let names = buckets.keys().map(|name| name.escape_ascii().to_string());
    let etcds = "alarm auth authRoles authUsers cluster key lease members members_removed meta";
    assert_eq!(names.collect::<Vec<_>>().join(" "), etcds);
    let values = buckets[&b"key"[..]].values();
    let text = values.map(|value| value.escape_ascii().to_string());
    assert!(
        text.zip(1..)
            .all(|(row, number)| row.contains(&format!("v{number}")))
    );
    assert_eq!(buckets[&b"key"[..]].len(), 3);
}
