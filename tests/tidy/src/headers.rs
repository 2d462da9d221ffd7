//! Every Rust file begins with what it is (`//!`), and ends before it is a book.

/// The most lines of a file without an exception.
pub const LINES_MAX: usize = 400;

/// Whether the file begins with a `//!` line that has text.
pub fn begins_with_its_purpose(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first
        .strip_prefix("//! ")
        .is_some_and(|text| !text.trim().is_empty())
}

/// Whether the file has more lines than allowed.
pub fn is_too_long(text: &str, max: usize) -> bool {
    max < text.lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_its_purpose_is_found() {
        assert!(begins_with_its_purpose("//! What it is.\n\nuse std::io;\n"));
        for bad in [
            "",
            "//!\n",
            "// A comment.\n",
            "use std::io;\n//! Late.\n",
            "/// An item.\n",
        ] {
            assert!(!begins_with_its_purpose(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(!is_too_long(&"\n".repeat(400), LINES_MAX));
        assert!(is_too_long(&"\n".repeat(401), LINES_MAX));
    }
}
