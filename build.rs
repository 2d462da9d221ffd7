//! Linker flags of the binary.

/// 23,000 pointers are put right when the program starts. Written one by one, that list is half a
/// megabyte that every process reads, and keeps resident; packed, it is ten kilobytes. Linkers and C
/// libraries that do not know the form - glibc before 2.36 - get the old one.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script about the target in no other way"
)]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.ends_with("-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
