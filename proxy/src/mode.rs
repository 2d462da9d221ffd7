//! The values of `--proxy`, as in etcd 2.

use std::fmt;
use std::str::FromStr;

/// Which requests a host forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// None: the host is a member.
    #[default]
    Off,
    /// Reads only; every other request is refused.
    ReadOnly,
    /// All requests.
    On,
}

/// A value that is not a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {0:?} for proxy; choose one of off, readonly, on")]
pub struct ModeError(String);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Off => "off",
            Mode::ReadOnly => "readonly",
            Mode::On => "on",
        })
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Mode, ModeError> {
        match text {
            "off" => Ok(Mode::Off),
            "readonly" => Ok(Mode::ReadOnly),
            "on" => Ok(Mode::On),
            _ => Err(ModeError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_modes_of_etcd_2() {
        assert_eq!("off".parse(), Ok(Mode::Off));
        assert_eq!("readonly".parse(), Ok(Mode::ReadOnly));
        assert_eq!("on".parse(), Ok(Mode::On));
        assert_eq!("On".parse::<Mode>(), Err(ModeError("On".to_owned())));
    }
}
