//! `--auth-token`: `simple`, or `jwt` with its options.

use std::path::PathBuf;
use std::time::Duration;

use keelson_store::edge::JwtMethod;
use keelson_store::{JwtFiles, JwtTokens};

use crate::flags::duration;
use crate::options::OptionsError;

/// etcd's default of `ttl`.
const TTL: Duration = Duration::from_secs(5 * 60);

/// Reads the keys; `None` for tokens of the cluster's own.
pub(crate) fn jwt(text: &str) -> Result<Option<JwtTokens>, OptionsError> {
    let Some(files) = files(text)? else {
        return Ok(None);
    };
    let tokens = JwtTokens::open(files);
    tokens
        .map(Some)
        .map_err(|error| OptionsError::AuthToken(error.to_string()))
}

fn files(text: &str) -> Result<Option<JwtFiles>, OptionsError> {
    let wrong = |what: &str| OptionsError::AuthToken(what.to_owned());
    let (kind, options) = text.split_once(',').unwrap_or((text, ""));
    match kind {
        "simple" | "" => return Ok(None),
        "jwt" => {}
        _ => return Err(wrong("auth: invalid auth options")),
    }
    let (mut method, mut public, mut private, mut ttl) = (None, None, None, TTL);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let pair = option.split_once('=');
        let (name, value) = pair.ok_or_else(|| wrong("auth: invalid auth options"))?;
        let path = || (!value.is_empty()).then(|| PathBuf::from(value));
        match name {
            "sign-method" => method = JwtMethod::named(value),
            "pub-key" => public = path(),
            "priv-key" => private = path(),
            "ttl" if value.is_empty() => {}
            "ttl" => ttl = duration(value).map_err(|why| wrong(&format!("ttl: {why}")))?,
            // As in etcd.
            _ => tracing::warn!(option, "unknown option of --auth-token jwt"),
        }
    }
    Ok(Some(JwtFiles {
        method: method.ok_or_else(|| wrong("auth: invalid auth signature method"))?,
        public,
        private,
        ttl,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_etcds() {
        assert_eq!(files("simple").unwrap(), None);
        let text = "jwt,pub-key=a.pub,priv-key=a.key,sign-method=ES256,ttl=10m,x=y";
        let found = files(text).unwrap().unwrap();
        assert_eq!(found.method.name(), "ES256");
        assert_eq!(found.public, Some(PathBuf::from("a.pub")));
        assert_eq!(found.private, Some(PathBuf::from("a.key")));
        assert_eq!(found.ttl, Duration::from_secs(600));
        let found = files("jwt,priv-key=a,sign-method=HS512").unwrap().unwrap();
        assert_eq!((found.public, found.ttl), (None, TTL));
        for (bad, text) in [
            ("jwt", "invalid auth signature method"),
            ("jwt,sign-method=none", "invalid auth signature method"),
            ("jwt,sign-method", "invalid auth options"),
            ("jwt,sign-method=ES256,ttl=x", "ttl"),
            ("other", "invalid auth options"),
        ] {
            let error = files(bad).expect_err(bad).to_string();
            assert!(error.contains(text), "{bad}: {error}");
        }
        assert!(jwt("jwt,sign-method=RS256,pub-key=/absent").is_err());
    }
}
