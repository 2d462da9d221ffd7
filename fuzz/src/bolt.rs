//! Any bytes as a bbolt file: the reader ends, and what it reads can be written and read again.

use std::collections::BTreeMap;

use keelson_bolt::{BuildError, Builder, Database, Error};

/// The rows of each bucket.
type Buckets = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

/// Reads the bytes as a file, and writes what it holds.
///
/// # Panics
/// If rows are lost on the way, or if there are more rows than the bytes have room for.
pub fn run(bytes: &[u8]) {
    let Ok(buckets) = read(bytes) else {
        return;
    };
    // A row has an element and a byte of key. An element may be in an inline bucket that several
    // rows share, so the rows are bounded for each bucket.
    let room = bytes.len() / 16;
    assert!(buckets.values().all(|rows| rows.len() <= room));
    let file = write(&buckets).expect("what was read has rising keys");
    assert_eq!(read(&file).expect("what was written"), buckets);
}

fn read(file: &[u8]) -> Result<Buckets, Error> {
    let database = Database::open(file)?;
    let mut buckets = Buckets::new();
    let mut names = database.buckets()?;
    while let Some(bucket) = names.next()? {
        if !bucket.is_bucket {
            continue;
        }
        let mut cursor = database.open_bucket(&bucket.value)?;
        let rows = buckets.entry(bucket.key.to_vec()).or_default();
        while let Some(row) = cursor.next()? {
            rows.push((row.key.to_vec(), row.value.to_vec()));
        }
    }
    Ok(buckets)
}

fn write(buckets: &Buckets) -> Result<Vec<u8>, BuildError> {
    let mut plan = Builder::plan();
    fill(&mut plan, buckets)?;
    let mut builder = Builder::write(plan.finish()?.layout);
    fill(&mut builder, buckets)?;
    Ok(builder.finish()?.rest.to_vec())
}

fn fill(builder: &mut Builder, buckets: &Buckets) -> Result<(), BuildError> {
    for (name, rows) in buckets {
        builder.bucket(name)?;
        for (key, value) in rows {
            builder.row(key, value)?;
        }
    }
    Ok(())
}
