//! `--auto-tls` and `--peer-auto-tls`: where a generated certificate is, and its hosts.

use std::path::PathBuf;

use keelson_store::config::{TlsFiles, Url};

use crate::flags::Values;
use crate::options;

/// A certificate that this host makes for itself, in the files that etcd has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelfSigned {
    /// `DATA-DIR/fixtures/client` or `peer`.
    pub(crate) directory: PathBuf,
    /// The names and addresses that it is for.
    pub(crate) hosts: Vec<String>,
    /// `--self-signed-cert-validity`, in years.
    pub(crate) years: u64,
}

impl SelfSigned {
    pub(super) fn new(values: &Values, directory: &str, urls: &[Url]) -> SelfSigned {
        let hosts = urls.iter().filter(|url| !url.scheme().is_unix());
        let mut hosts: Vec<_> = hosts.map(|url| url.host().to_owned()).collect();
        hosts.dedup();
        SelfSigned {
            directory: options::data_dir(values).join("fixtures").join(directory),
            hosts,
            years: values.count("self-signed-cert-validity").max(1),
        }
    }

    /// The files of the certificate and its key.
    pub(crate) fn files(&self) -> TlsFiles {
        TlsFiles::new(
            self.directory.join("cert.pem"),
            self.directory.join("key.pem"),
        )
    }
}
