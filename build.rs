//! Linker flags of the binary.

/// The program has 23,000 pointers that the dynamic loader relocates at start. Written one by one,
/// that list is half a megabyte that every process reads and keeps resident; packed, it is ten
/// kilobytes. Linkers and C libraries without support for the packed form (glibc before 2.36) use
/// the unpacked one.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo passes the target to a build script in the environment only"
)]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.ends_with("-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
