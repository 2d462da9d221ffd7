//! The library as a program embeds it: real files, real sockets on loopback. It is a single
//! binary, so that it is linked once and its tests run in parallel.

mod embedded;
mod tree;
