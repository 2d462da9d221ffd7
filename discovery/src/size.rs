//! The member count of a cluster, from `DEIS_NUM_INSTANCES` and `--size`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// More voters than this only slow consensus down; etcd's documentation stops at seven.
const SIZE_MAX: u32 = 99;

/// A member count: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(NonZeroU32);

/// Not a member count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a whole number.
    #[error("{0:?} is not a member count; give a whole number such as 3 or 5")]
    NotANumber(String),
    /// A cluster without members.
    #[error("a cluster needs at least one member; give 3 or 5")]
    Zero,
    /// Too many, most likely a typing error.
    #[error("{0} members are too many; run 3, 5 or 7 members, and proxies on the other hosts")]
    TooMany(u32),
}

impl Size {
    /// The count as a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The number of members that may fail: the others must still be a majority.
    pub fn tolerated(self) -> u32 {
        (self.get() - 1) / 2
    }

    /// The warning for an even count; `None` for an odd one.
    pub fn warning(self) -> Option<String> {
        let count = self.get();
        (count.is_multiple_of(2)).then(|| {
            format!(
                "{count} members tolerate the loss of {}, no more than {} would: choose an odd \
                 number",
                self.tolerated(),
                count - 1
            )
        })
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let not_a_number = |_| SizeError::NotANumber(text.to_owned());
        let count: u32 = text.trim().parse().map_err(not_a_number)?;
        match NonZeroU32::new(count) {
            None => Err(SizeError::Zero),
            Some(_) if SIZE_MAX < count => Err(SizeError::TooMany(count)),
            Some(count) => Ok(Size(count)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_number_of_members() {
        assert_eq!("5".parse::<Size>().map(Size::get), Ok(5));
        assert_eq!(" 3\n".parse::<Size>().map(Size::get), Ok(3));
        assert_eq!("0".parse::<Size>(), Err(SizeError::Zero));
        assert_eq!("100".parse::<Size>(), Err(SizeError::TooMany(100)));
        for text in ["", "five", "-1", "3.5", "99999999999"] {
            assert_eq!(
                text.parse::<Size>(),
                Err(SizeError::NotANumber(text.to_owned()))
            );
        }
    }

    #[test]
    fn an_even_count_is_warned_of() {
        let size = |text: &str| text.parse::<Size>().expect(text);
        assert_eq!(size("5").warning(), None);
        assert_eq!(size("1").tolerated(), 0);
        assert_eq!(size("4").tolerated(), size("3").tolerated());
        assert!(
            size("4")
                .warning()
                .is_some_and(|said| said.contains("no more than 3"))
        );
    }
}
