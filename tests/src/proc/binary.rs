//! The server binaries to test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::environment::setting;

/// Debian's etcd, the reference.
const ETCD: &str = "etcd";

/// The server under test: `KEELSON_BIN`, or our own binary, which is built first if it is out of
/// date.
///
/// # Errors
/// It is missing and cannot be built.
pub fn ours() -> Result<PathBuf> {
    static OURS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = OURS.get_or_init(|| locate().map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

/// The reference etcd on PATH, or `None`, in which case tests that need it are skipped.
pub fn etcd() -> Option<PathBuf> {
    on_path(ETCD)
}

/// The reference etcd, or `None` with a printed reason. With CI=true a missing etcd is an error.
///
/// # Errors
/// `CI=true` and etcd is missing.
pub fn etcd_or_skip() -> Result<Option<PathBuf>> {
    or_skip(ETCD)
}

/// A server of another release, `KEELSON_OTHER_BIN`, or `None` with a printed reason. No registry
/// has one, so CI skips the tests that need it, too.
///
/// # Errors
/// The variable does not name a file.
pub fn other_or_skip() -> Result<Option<PathBuf>> {
    let Some(other) = setting("KEELSON_OTHER_BIN") else {
        eprintln!("skipped: KEELSON_OTHER_BIN names no binary of another release");
        return Ok(None);
    };
    let other = PathBuf::from(other);
    if !other.is_file() {
        bail!(
            "KEELSON_OTHER_BIN names {}, which is no file",
            other.display()
        );
    }
    Ok(Some(other))
}

/// A program on PATH, or `None` with a printed reason. With CI=true a missing program is an error.
///
/// # Errors
/// `CI=true` and it is missing.
pub fn or_skip(program: &str) -> Result<Option<PathBuf>> {
    let found = on_path(program);
    if found.is_none() {
        if setting("CI").is_some_and(|ci| ci == "true") {
            bail!("{program} is not on PATH, and CI=true allows no skipping");
        }
        eprintln!("skipped: {program} not on PATH");
    }
    Ok(found)
}

/// The program's path if it is on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = setting("PATH")?;
    let candidates = std::env::split_paths(&path).map(|dir| dir.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

fn locate() -> Result<PathBuf> {
    if let Some(binary) = setting("KEELSON_BIN") {
        let binary = PathBuf::from(binary);
        if !binary.is_file() {
            bail!("KEELSON_BIN names {}, which is no file", binary.display());
        }
        return Ok(binary);
    }
    let dir = profile_dir()?;
    let binary = dir.join("keelson");
    match build(&dir) {
        Ok(()) if binary.is_file() => Ok(binary),
        Ok(()) => bail!("cargo built no {}", binary.display()),
        // Installed without cargo: the binary beside this one is the released one.
        Err(_) if binary.is_file() && setting("CARGO").is_none() => Ok(binary),
        Err(error) => Err(error),
    }
}

/// cargo's target directory, where `.ci/run` installs what tests need.
///
/// # Errors
/// The path of this program is unknown.
pub fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent();
    Ok(target
        .context("the profile has no target directory")?
        .to_path_buf())
}

/// `target/debug`, `target/release` or another profile's directory: the place of this build's
/// binaries.
fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe.parent().context("this program has no directory")?;
    let dir = if dir.ends_with("deps") {
        dir.parent().context("deps has no parent")?
    } else {
        dir
    };
    Ok(dir.to_path_buf())
}

/// Builds our binary into `dir`; fast when it is up to date. Without this, `cargo test -p
/// keelson-tests` would run the tests on an outdated binary.
///
/// The whole workspace is named, and a test beside the binary: cargo then resolves the same
/// features as `cargo test --workspace`, and compiles nothing a second time.
fn build(dir: &Path) -> Result<()> {
    let cargo = setting("CARGO").unwrap_or_else(|| "cargo".into());
    let target = dir.parent();
    let target = target.context("the profile has no target directory")?;
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--workspace"])
        .args(["--bin", "keelson", "--test", "command_line"])
        .args(["--profile", profile_of(dir)?])
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo could not build keelson: {status}");
    }
    Ok(())
}

/// The name of the profile that is built into this directory.
fn profile_of(dir: &Path) -> Result<&str> {
    let name = dir.file_name().and_then(|name| name.to_str());
    match name.context("the profile's directory has no name")? {
        "debug" => Ok("dev"),
        name => Ok(name),
    }
}
