//! The log lines that scripts wait for: zap's text in JSON, capnslog's in text.

use keelson_store::config::url::{Url, join};
use keelson_store::version;
use tracing::{error, info, warn};

/// The member's name and client URLs are in the cluster's membership.
pub(crate) fn published(name: &str, client_urls: &[Url], member: u64, cluster: u64) {
    let urls = join(client_urls).replace(',', " ");
    info!(
        "local-member-id" = %format_args!("{member:x}"),
        "local-member-attributes" = %format_args!("{{Name:{name} ClientURLs:[{urls}]}}"),
        "cluster-id" = %format_args!("{cluster:x}"),
        plain = %format_args!(
            "published {{Name:{name} ClientURLs:[{urls}]}} to cluster {cluster:x}"
        ),
        "published local member to cluster through raft"
    );
}

/// The cluster has agreed on a version.
pub(crate) fn capabilities(cluster_version: &str) {
    let short = version::major_minor(cluster_version);
    info!(
        "cluster-version" = short,
        plain = %format_args!("enabled capabilities for version {short}"),
        "enabled capabilities for version"
    );
}

/// The member was removed from the cluster; etcd's two lines.
pub(crate) fn removed() {
    let text = "the member has been permanently removed from the cluster";
    error!(error = text, plain = text, "server error");
    warn!(
        plain = "the data-dir used by this member must be removed.",
        "data-dir used by this member must be removed"
    );
}

/// Clients are served from now on.
pub(crate) fn ready() {
    info!("ready to serve client requests");
}

/// One line for each client listener.
pub(crate) fn serving(url: &Url) {
    let address = url.authority();
    if url.scheme().is_secure() {
        info!(
            address,
            plain = %format_args!("serving client requests on {address}"),
            "serving client traffic securely"
        );
        return;
    }
    info!(
        address,
        plain = %format_args!(
            "serving insecure client requests on {address}, this is strongly discouraged!"
        ),
        "serving client traffic insecurely; this is strongly discouraged!"
    );
}

/// One line for each client listener of a proxy, with etcd 2's text.
pub(crate) fn proxying(url: &Url) {
    let address = url.authority();
    info!(
        address,
        plain = %format_args!("proxy: listening for client requests on {url}"),
        "proxy: listening for client requests"
    );
}
