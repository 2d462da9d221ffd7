//! `s3://BUCKET/PREFIX`: a place in an S3-compatible store.
//!
//! Every build parses the addresses, so that one without the feature `s3` names what it lacks.

#[cfg(feature = "s3")]
mod download;
#[cfg(feature = "s3")]
mod objects;
#[cfg(feature = "s3")]
mod upload;

#[cfg(feature = "s3")]
use std::error::Error;
use std::fmt;

#[cfg(feature = "s3")]
pub(crate) use self::download::download;
#[cfg(feature = "s3")]
pub(crate) use self::objects::{Bucket, Listed};
#[cfg(feature = "s3")]
pub(crate) use self::upload::{UploadError, upload};

const SCHEME: &str = "s3://";

/// A bucket, and the names in it that begin with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketUrl {
    bucket: String,
    /// Without slashes around it; empty for the whole bucket.
    path: String,
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketError {
    /// The address is malformed.
    #[error("\"{0}\" is not the address of a bucket; write s3://BUCKET or s3://BUCKET/PATH")]
    Address(String),
    /// The binary has no S3.
    #[cfg_attr(feature = "s3", expect(dead_code, reason = "of other builds"))]
    #[error(
        "this keelson was built without S3, so it cannot use {0}; give a directory, or build it \
         with --features s3"
    )]
    NotBuilt(BucketUrl),
    /// TLS is the default.
    #[cfg(feature = "s3")]
    #[error(
        "the endpoint {0} of S3 has no TLS: set AWS_ALLOW_HTTP=true if requests and snapshots may \
         be read on the way"
    )]
    PlainText(String),
    /// A request failed, or the variables of the environment are wrong.
    #[cfg(feature = "s3")]
    #[error("{place}: {cause}")]
    Objects {
        /// The bucket, with the name of the object if it is about one.
        place: String,
        /// The cause with its own causes.
        cause: String,
    },
    /// A downloaded object could not be written.
    #[cfg(feature = "s3")]
    #[error("cannot keep a copy of {0}: {1}")]
    Copy(BucketUrl, std::io::Error),
}

impl BucketUrl {
    /// `None` for a path of the file system.
    pub(crate) fn parse(text: &str) -> Option<Result<BucketUrl, BucketError>> {
        let (bucket, path) = match text.strip_prefix(SCHEME)?.split_once('/') {
            Some((bucket, path)) => (bucket, path.trim_end_matches('/')),
            None => (&text[SCHEME.len()..], ""),
        };
        // The name becomes a part of URLs.
        let is_plain = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
        let segments = path.split('/').all(|one| !["", ".", ".."].contains(&one));
        let is_good =
            !bucket.is_empty() && bucket.chars().all(is_plain) && (path.is_empty() || segments);
        let url = BucketUrl {
            bucket: bucket.to_owned(),
            path: path.to_owned(),
        };
        Some(match is_good {
            true => Ok(url),
            false => Err(BucketError::Address(text.to_owned())),
        })
    }

    /// The address of a name below this one.
    #[cfg(feature = "s3")]
    pub(crate) fn join(&self, name: &str) -> BucketUrl {
        let path = match &*self.path {
            "" => name.to_owned(),
            path => format!("{path}/{name}"),
        };
        BucketUrl {
            bucket: self.bucket.clone(),
            path,
        }
    }

    /// Checks that the bucket could be opened, without a request.
    pub(crate) fn check(&self) -> Result<(), BucketError> {
        #[cfg(feature = "s3")]
        return Bucket::open(self).map(drop);
        #[cfg(not(feature = "s3"))]
        return Err(BucketError::NotBuilt(self.clone()));
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        match &*self.path {
            "" => Ok(()),
            path => write!(f, "/{path}"),
        }
    }
}

/// The error with those of its causes that its text lacks.
#[cfg(feature = "s3")]
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let one = error.to_string();
        if !text.contains(&one) {
            text += ": ";
            text += &one;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_buckets_are_told_from_paths() {
        for path in ["", "backups", "/s3/backups", "s3:", "s3a://b", "./s3://b"] {
            assert!(BucketUrl::parse(path).is_none(), "{path}");
        }
        for (text, canonical) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b.c-d_1/m1/x y/", "s3://b.c-d_1/m1/x y"),
        ] {
            let url = BucketUrl::parse(text).unwrap().unwrap();
            assert_eq!(url.to_string(), canonical);
        }
        for text in [
            "s3://",
            "s3:///x",
            "s3://b//x",
            "s3://b/../x",
            "s3://b@c/x",
            "s3://b?c",
        ] {
            let error = BucketUrl::parse(text).unwrap().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn names_are_below_the_prefix() {
        let url = BucketUrl::parse("s3://b").unwrap().unwrap();
        assert_eq!(url.join("x").join("y").to_string(), "s3://b/x/y");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_build_without_s3_names_the_feature() {
        let url = BucketUrl::parse("s3://b/x").unwrap().unwrap();
        let text = url.check().unwrap_err().to_string();
        assert!(
            text.contains("s3://b/x") && text.contains("--features s3"),
            "{text}"
        );
    }

    #[cfg(feature = "s3")]
    #[test]
    fn causes_are_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] std::io::Error);
        let error = Outer(Inner(std::io::Error::other("refused")));
        assert_eq!(explain(&error), "outer: inner: refused");
    }
}
