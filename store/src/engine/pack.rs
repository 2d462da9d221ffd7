//! Packs several rows into one value: for sled, whose cost is by the row, and for keys that are
//! too long for LMDB.
//!
//! A row is key length and value length (u32, little endian), key, value.

use keelson_core::engine::EngineError;

/// A key and its value.
pub(super) type Row<'a> = (&'a [u8], &'a [u8]);

/// The overhead of one packed row, in bytes.
pub(super) const ROW_BYTES: usize = 8;

/// Appends a row.
pub(super) fn push(packed: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for length in [key.len(), value.len()] {
        let length = u32::try_from(length).expect("rows are far smaller than 4 GiB");
        packed.extend_from_slice(&length.to_le_bytes());
    }
    packed.extend_from_slice(key);
    packed.extend_from_slice(value);
}

/// Unpacks the rows, in the order in which they were pushed.
pub(super) fn rows(packed: &[u8]) -> Result<Vec<Row<'_>>, EngineError> {
    let mut rest = packed;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let row = row(&mut rest);
        rows.push(row.ok_or_else(|| EngineError("a packed row is cut short".into()))?);
    }
    Ok(rows)
}

fn row<'a>(rest: &mut &'a [u8]) -> Option<Row<'a>> {
    let (lengths, after) = rest.split_first_chunk::<ROW_BYTES>()?;
    let (key, value) = lengths.split_at(4);
    let length = |bytes: &[u8]| {
        let number = u32::from_le_bytes(bytes.first_chunk().copied()?);
        usize::try_from(number).ok()
    };
    let (key, after) = after.split_at_checked(length(key)?)?;
    let (value, after) = after.split_at_checked(length(value)?)?;
    *rest = after;
    Some((key, value))
}

/// A copy of the packed rows, which are sorted by key, with one put, or deleted for `None`.
#[cfg(feature = "lmdb")]
pub(super) fn with_change(
    packed: &[u8],
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Vec<u8>, EngineError> {
    let mut changed = Vec::with_capacity(packed.len());
    let rows = rows(packed)?;
    let before = rows.partition_point(|(known, _)| *known < key);
    let after = rows.partition_point(|(known, _)| *known <= key);
    for (key, value) in &rows[..before] {
        push(&mut changed, key, value);
    }
    if let Some(value) = value {
        push(&mut changed, key, value);
    }
    for (key, value) in &rows[after..] {
        push(&mut changed, key, value);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_order() {
        let mut packed = Vec::new();
        for (key, value) in [(b"b", b"2"), (b"a", b"1"), (b"c", b"3"), (b"b", b"9")] {
            packed = with_change(&packed, key, Some(value)).unwrap();
        }
        packed = with_change(&packed, b"a", None).unwrap();
        packed = with_change(&packed, b"x", None).unwrap();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"b", b"9"), (b"c", b"3")];
        assert_eq!(rows(&packed).unwrap(), expected);
        assert!(rows(&packed[..packed.len() - 1]).is_err());
    }
}
