//! HPACK (RFC 7541), the compression of HTTP/2 header fields: the decoder keeps the peer's dynamic
//! table, the encoder keeps no state, so that any task can write a field block at any time.

mod decoder;
mod encoder;
mod huffman;
mod input;
mod literal;
mod table;

pub use decoder::{DecodeError, Decoder};
pub use encoder::put_field;
pub(crate) use literal::replaced;
