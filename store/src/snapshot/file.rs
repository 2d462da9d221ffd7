//! A capture as a file of etcd: planned in one pass over the rows, emitted in another.

use keelson_bolt::{BuildError, Builder, Layout};
use keelson_core::engine::{EngineError, Table};
use keelson_core::state::Capture;
use keelson_proto::peer::Rows;

use super::buckets;
use super::input::InputError;

/// Bytes of rows that are read from the state at a time.
const STEP_BYTES: usize = 256 << 10;

/// Why a capture cannot become a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row of the state cannot be read.
    #[error("a row of the state cannot be read: {0}")]
    Row(#[from] prost::DecodeError),
    /// A row has no place in the format.
    #[error("a row does not fit into a file of etcd: {0}")]
    Build(#[from] BuildError),
    /// The receiver of the file has left, or reads too slowly.
    #[error("its receiver has left, or reads too slowly")]
    Left,
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The snapshot whose rows it gets cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// A receiver of a file's bytes.
pub(crate) trait Sink {
    /// Takes bytes of the builder.
    ///
    /// # Errors
    /// The receiver has left.
    fn drain(&mut self, builder: &mut Builder) -> Result<(), FileError>;
}

/// Of the first pass, which emits nothing.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn drain(&mut self, _: &mut Builder) -> Result<(), FileError> {
        Ok(())
    }
}

/// Plans the file of a capture. Blocks the thread.
///
/// # Errors
/// Those of [`FileError`].
pub(crate) fn plan(capture: &Capture) -> Result<Layout, FileError> {
    let mut builder = Builder::plan();
    fill(capture.clone(), &mut builder, &mut Nowhere)?;
    Ok(builder.finish()?.layout)
}

/// Emits the file of a capture that was planned. Blocks the thread.
///
/// # Errors
/// Those of [`FileError`].
pub(crate) fn write(
    capture: Capture,
    layout: Layout,
    sink: &mut impl Sink,
) -> Result<bytes::Bytes, FileError> {
    let mut builder = Builder::write(layout);
    fill(capture, &mut builder, sink)?;
    Ok(builder.finish()?.rest)
}

/// Buckets in the order of their names, then that of the v2 tree.
fn fill(mut capture: Capture, builder: &mut Builder, sink: &mut dyn Sink) -> Result<(), FileError> {
    for name in buckets::NAMES {
        builder.bucket(name.as_bytes())?;
        if name == buckets::KEY {
            while let Some(Rows { rows, .. }) = capture.next_pairs(STEP_BYTES)? {
                for row in rows {
                    builder.row(&row.key, &row.value)?;
                }
                sink.drain(builder)?;
            }
            continue;
        }
        buckets::visit(&capture, name, &mut |key, row| {
            builder.row(key, row)?;
            sink.drain(builder)
        })?;
    }
    builder.bucket(buckets::TREE.as_bytes())?;
    let mut numbers = 0_u64..;
    while let Some(Rows { table, rows }) = capture.next_small(STEP_BYTES) {
        let rows = rows.into_iter().filter(|_| table == Table::Tree as u32);
        for (row, number) in rows.zip(&mut numbers) {
            builder.row(&buckets::tree_key(number, &row.key), &row.value)?;
        }
        sink.drain(builder)?;
    }
    Ok(())
}

/// etcd's `Hash` of the file of a capture: CRC-32C over every bucket with its name. Like etcd's, it
/// is without the index and term of the last entry; the v2 tree is not in it, since etcd has none.
///
/// # Errors
/// Those of [`FileError`].
pub(crate) fn hash(mut capture: Capture) -> Result<u32, FileError> {
    let mut hash = 0;
    let mut add = |bytes: &[u8]| hash = crc32c::crc32c_append(hash, bytes);
    for name in buckets::NAMES {
        add(name.as_bytes());
        if name == buckets::KEY {
            while let Some(Rows { rows, .. }) = capture.next_pairs(STEP_BYTES)? {
                for row in rows {
                    add(&row.key);
                    add(&row.value);
                }
            }
            continue;
        }
        let ignored = [buckets::CONSISTENT_INDEX, buckets::TERM];
        buckets::visit(&capture, name, &mut |key, row| {
            if name != buckets::META || !ignored.contains(&key) {
                add(key);
                add(row);
            }
            Ok(())
        })?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests;
