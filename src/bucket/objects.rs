//! Requests to a bucket. Credentials, region and endpoint are those of the `AWS_*` variables, or of
//! the roles that they or the host name.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};

use super::{BucketError, BucketUrl, explain};

/// No retry is decided on later than so long after a request was first sent. It begins up to 3.2 s
/// after that, and may take the time of a request, which is 30 s by default. A snapshot from which
/// nothing is taken for a minute ends before that.
const RETRY_MAX: Duration = Duration::from_secs(40);
/// The retries of a request.
const RETRIES: usize = 6;
/// The pages of a list, of 1,000 names each.
const PAGES_MAX: usize = 100;

/// A bucket, from the prefix of an address on.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The same store. Its own trait lists by the beginnings of names, [`ObjectStore`] directories.
    names: Arc<dyn PaginatedListStore>,
    pub(super) url: BucketUrl,
}

/// An object that is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name below the prefix.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// When it appeared, by the clock of the store.
    pub(crate) since: SystemTime,
}

impl Bucket {
    /// Reads the variables. Sends nothing.
    pub(crate) fn open(url: &BucketUrl) -> Result<Bucket, BucketError> {
        // One may be there already: every provider of this binary is ring's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_MAX,
            ..RetryConfig::default()
        };
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(&url.bucket)
            .with_retry(retry);
        require_tls(&builder)?;
        let failed = |error: object_store::Error| failed(url, &error);
        Path::parse(&url.path).map_err(|error| failed(error.into()))?;
        let objects = Arc::new(builder.build().map_err(failed)?);
        Ok(Bucket {
            objects: objects.clone(),
            names: objects,
            url: url.clone(),
        })
    }

    /// The address of a name below the prefix.
    pub(crate) fn address(&self, name: &str) -> String {
        self.url.join(name).to_string()
    }

    /// The key of a name below the prefix.
    pub(super) fn key(&self, name: &str) -> Result<Path, BucketError> {
        let url = self.url.join(name);
        Path::parse(&url.path).map_err(|error| failed(&url, &error.into()))
    }

    /// The objects directly below the prefix whose names begin so, in any order. The store sends no
    /// others, so that keys which `object_store` cannot represent fail nothing.
    pub(crate) async fn list(&self, begin: &str) -> Result<Vec<Listed>, BucketError> {
        let begin = self.url.join(begin);
        let mut options = PaginatedListOptions {
            delimiter: Some("/".into()),
            ..PaginatedListOptions::default()
        };
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = self
                .names
                .list_paginated(Some(&begin.path), options.clone());
            let page = page.await.map_err(|error| failed(&self.url, &error))?;
            let objects = page.result.objects.iter();
            all.extend(objects.filter_map(|object| self.listed(object, &begin.path)));
            if page.page_token.is_none() {
                return Ok(all);
            }
            options.page_token = page.page_token;
        }
        Err(BucketError::Objects {
            place: begin.to_string(),
            cause: format!("more than {PAGES_MAX} pages of names begin so"),
        })
    }

    /// `None` for an object that is elsewhere.
    fn listed(&self, object: &ObjectMeta, begin: &str) -> Option<Listed> {
        let key = object.location.as_ref();
        let name = object.location.filename().unwrap_or_default();
        let is_below = key == self.url.join(name).path && key.starts_with(begin);
        is_below.then(|| Listed {
            name: name.to_owned(),
            bytes: object.size,
            since: time(object.last_modified.timestamp()),
        })
    }

    /// Removes an object.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), BucketError> {
        let removed = self.objects.delete(&self.key(name)?).await;
        removed.map_err(|error| failed(&self.url.join(name), &error))
    }
}

/// The error of a request about this address.
pub(super) fn failed(url: &BucketUrl, error: &object_store::Error) -> BucketError {
    BucketError::Objects {
        place: url.to_string(),
        cause: explain(error),
    }
}

fn time(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

/// The crate's own error for such an endpoint does not name the remedy.
fn require_tls(builder: &AmazonS3Builder) -> Result<(), BucketError> {
    let allowed = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let is_allowed = builder
        .get_config_value(&allowed)
        .is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    for key in [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint] {
        match builder.get_config_value(&key) {
            Some(url) if url.starts_with("http://") && !is_allowed => {
                return Err(BucketError::PlainText(url));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::TryStreamExt as _;
    use object_store::list::PaginatedListResult;
    use object_store::memory::InMemory;
    use object_store::{Error, ListResult, Result};

    use super::*;

    impl Bucket {
        /// A bucket in memory.
        pub(crate) fn in_memory(url: &str) -> Bucket {
            let objects = Arc::new(InMemory::new());
            Bucket {
                objects: objects.clone(),
                names: Arc::new(Pages(Some(objects))),
                url: BucketUrl::parse(url).unwrap().unwrap(),
            }
        }

        /// The same one without the right to list.
        pub(crate) fn without_lists(&self) -> Bucket {
            Bucket {
                names: Arc::new(Pages(None)),
                ..self.clone()
            }
        }

        /// Puts an object.
        pub(crate) async fn put(&self, name: &str, content: &'static str) {
            let key = self.key(name).unwrap();
            self.objects.put(&key, content.into()).await.unwrap();
        }
    }

    /// Lists one name a page, or fails. Tokens are keys.
    struct Pages(Option<Arc<InMemory>>);

    impl Pages {
        async fn page(
            &self,
            prefix: &str,
            options: PaginatedListOptions,
        ) -> Result<PaginatedListResult> {
            let objects = self.0.as_ref().ok_or_else(|| Error::NotImplemented {
                operation: "a list".to_owned(),
                implementer: "Pages".to_owned(),
            })?;
            let mut all: Vec<_> = objects.list(None).try_collect().await?;
            all.sort_by(|one, other| one.location.cmp(&other.location));
            let delimiter = options.delimiter.as_deref().unwrap_or("\0");
            let after = options.page_token.as_deref().unwrap_or_default();
            let fits = |key: &str| {
                let rest = key.strip_prefix(prefix);
                after < key && rest.is_some_and(|rest| !rest.contains(delimiter))
            };
            all.retain(|object| fits(object.location.as_ref()));
            let is_last = all.len() <= 1;
            all.truncate(1);
            let token = all.first().map(|last| last.location.to_string());
            Ok(PaginatedListResult {
                result: ListResult {
                    common_prefixes: Vec::new(),
                    objects: all,
                    extensions: Default::default(),
                },
                page_token: token.filter(|_| !is_last),
            })
        }
    }

    impl PaginatedListStore for Pages {
        fn list_paginated<'a, 'b, 'c>(
            &'a self,
            prefix: Option<&'b str>,
            options: PaginatedListOptions,
        ) -> Pin<Box<dyn Future<Output = Result<PaginatedListResult>> + Send + 'c>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            Box::pin(self.page(prefix.unwrap_or_default(), options))
        }
    }

    #[tokio::test]
    async fn names_directly_below_the_prefix_are_listed_and_removed() {
        for (url, below) in [("s3://b", ""), ("s3://b/m1/x", "m1/x/")] {
            let bucket = Bucket::in_memory(url);
            for name in [
                "snapshot-2",
                "snapshot-1",
                "other",
                "snapshot-/3",
                "a/snapshot-4",
            ] {
                let key = Path::parse(format!("{below}{name}")).unwrap();
                bucket.objects.put(&key, "12345".into()).await.unwrap();
            }
            let key = Path::parse("m1/xy/snapshot-5").unwrap();
            bucket.objects.put(&key, "1".into()).await.unwrap();
            let mut listed = bucket.list("snapshot-").await.unwrap();
            listed.sort_by(|one, other| one.name.cmp(&other.name));
            let names: Vec<_> = listed.iter().map(|one| (&*one.name, one.bytes)).collect();
            assert_eq!(names, [("snapshot-1", 5), ("snapshot-2", 5)], "{url}");
            let age = listed[0].since.elapsed().unwrap_or_default();
            assert!(age < Duration::from_secs(600), "{age:?}");
            bucket.remove("snapshot-1").await.unwrap();
            assert_eq!(bucket.list("snapshot-").await.unwrap().len(), 1);
        }
    }

    #[test]
    fn an_endpoint_without_tls_needs_a_permission() {
        let builder = AmazonS3Builder::new().with_endpoint("http://127.0.0.1:9000");
        let error = require_tls(&builder).unwrap_err().to_string();
        assert!(error.contains("AWS_ALLOW_HTTP"), "{error}");
        require_tls(&builder.with_allow_http(true)).unwrap();
        require_tls(&AmazonS3Builder::new().with_endpoint("https://s3")).unwrap();
    }
}
