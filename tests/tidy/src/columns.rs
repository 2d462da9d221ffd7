//! Lines are at most [`COLUMNS`] wide. rustfmt holds this for code, not for comments and strings.

/// As rustfmt's `max_width`.
pub const COLUMNS: usize = 100;

/// The numbers of the lines that are wider. A line without a space, such as a URL in a comment,
/// cannot be broken and may be.
pub fn too_wide(text: &str) -> Vec<usize> {
    let wide = |line: &str| {
        let words = line.trim_start().trim_start_matches(['/', '!', ' ']);
        COLUMNS < line.chars().count() && words.contains(' ')
    };
    let numbered = text.lines().enumerate();
    numbered
        .filter(|(_, line)| wide(line))
        .map(|(number, _)| number + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_are_found() {
        let line = |width: usize| format!("// {}\n", "a ".repeat(width).split_at(width - 3).0);
        assert_eq!(too_wide(&line(100)), Vec::<usize>::new());
        assert_eq!(too_wide(&format!("\n{}", line(101))), [2]);
        // Columns are characters.
        assert!(too_wide(&format!("// {}", "é ".repeat(48))).is_empty());
        assert!(too_wide(&format!("/// <https://{}>", "x".repeat(100))).is_empty());
    }
}
