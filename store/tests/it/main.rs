//! The library as a program embeds it: real files, real sockets on loopback. One binary, so that it
//! is linked once and its tests run side by side.

mod embedded;
mod tree;
