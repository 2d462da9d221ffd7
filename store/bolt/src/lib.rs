//! bbolt files, the database format of etcd (go.etcd.io/bbolt, file format version 2).
//!
//! A [`Builder`] writes a packed file from sorted rows: once to plan it, which gives its exact
//! size, and once to emit it from its first byte to its last. A [`Database`] reads any file: it
//! checks every offset, and its memory is bounded by one page a level.
//!
//! ```
//! use keelson_bolt::{Builder, Database};
//!
//! let fill = |builder: &mut Builder| {
//!     builder.bucket(b"key")?;
//!     builder.row(b"a", b"1")
//! };
//! let mut plan = Builder::plan();
//! fill(&mut plan)?;
//! let layout = plan.finish()?.layout;
//! let mut builder = Builder::write(layout);
//! fill(&mut builder)?;
//! let file = builder.finish()?.rest;
//! assert_eq!(file.len() as u64, layout.bytes());
//!
//! let database = Database::open(&file[..])?;
//! let mut rows = database.bucket(b"key")?.expect("it was written");
//! let row = rows.next()?.expect("it has a row");
//! assert_eq!((&row.key[..], &row.value[..]), (&b"a"[..], &b"1"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod cursor;
mod database;
mod error;
mod format;
mod tree;

#[cfg(test)]
mod tests;

pub use builder::{Builder, Finished, Layout};
pub use cursor::{Cursor, Row};
pub use database::{Database, Source};
pub use error::{BuildError, Error};
pub use format::PAGE_BYTES;
