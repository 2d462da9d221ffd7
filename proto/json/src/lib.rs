//! The JSON form of protobuf's bytes and integers, as etcd's gateway reads it.
//!
//! The code that pbjson-build writes uses a crate by the name pbjson, and this is the one: pbjson's
//! own refuses line feeds in base64 and has other errors than Go. Bytes are base64 of either
//! alphabet, with or without padding; line feeds are ignored. Integers are numbers or strings. The
//! texts of the errors are those of Go's `encoding/base64` and `encoding/json`, as in etcd 3.4 and
//! 3.5; those of etcd 3.6 and later differ from build to build.

mod bytes;
mod integer;

/// The names that pbjson-build expects.
pub mod private {
    pub use crate::bytes::{BytesDeserialize, base64};
    pub use crate::integer::{Integer, NumberDeserialize};
}
