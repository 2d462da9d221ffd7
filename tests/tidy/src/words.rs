//! Comments do not personify: the share of comment lines with the words of [`BANNED`].
//!
//! A subject that is a person hides the part of the program that acts, and the field's own term.

/// Pronouns for persons, and verbs that only persons can be the subject of.
pub const BANNED: &[&str] = &[
    "who",
    "whoever",
    "whom",
    "somebody",
    "nobody",
    "anybody",
    "everybody",
    "someone",
    "anyone",
    "everyone",
    "whatever",
    "tell",
    "tells",
    "told",
    "say",
    "says",
    "said",
    "hear",
    "hears",
    "heard",
    "know",
    "knows",
    "knew",
    "want",
    "wants",
    "wanted",
    "ask",
    "asks",
    "asked",
    "lets go",
    "let go",
];

/// The share of a crate's comment lines, in thousandths, that may have one of [`BANNED`].
pub const PERMILLE_MAX: usize = 3;

/// The numbers of the comment lines with one of the words, and how many comment lines there are.
pub fn personified(text: &str) -> (Vec<usize>, usize) {
    let mut lines = Vec::new();
    let mut comments = 0;
    for (number, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            continue;
        };
        comments += 1;
        let words: Vec<String> = comment
            .split(|char: char| !char.is_alphanumeric() && char != '_')
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        let joined = format!(" {} ", words.join(" "));
        if BANNED
            .iter()
            .any(|word| joined.contains(&format!(" {word} ")))
        {
            lines.push(number + 1);
        }
    }
    (lines, comments)
}

/// Whether more than `permille` of a thousand comment lines are among those found.
pub fn is_too_much(found: usize, comments: usize, permille: usize) -> bool {
    permille * comments < found * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_comments_alone() {
        let text =
            "//! Whoever waits.\nlet told = 1; // told\n    // It LETS GO of it.\n/// An asker.\n";
        assert_eq!(personified(text), (vec![1, 3], 3));
        assert_eq!(personified("// unknown, told_of, someones\n"), (vec![], 1));
    }

    #[test]
    fn a_share_is_held_exactly() {
        assert!(!is_too_much(3, 1000, 3));
        assert!(is_too_much(4, 1000, 3));
        assert!(!is_too_much(0, 0, 3));
        assert!(is_too_much(1, 100, 3));
    }
}
