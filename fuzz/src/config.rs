//! Any text as URLs and as `--initial-cluster`: what parses must print, and parse again to the
//! same.

use keelson_store::config::{Url, initial_cluster};

/// The target.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(url) = Url::parse(text) {
        assert_eq!(Url::parse(url.as_str()), Ok(url));
    }
    let _ = Url::parse_list(text);
    if let Ok(entries) = initial_cluster::parse(text) {
        let printed = initial_cluster::format(&entries);
        assert_eq!(initial_cluster::parse(&printed), Ok(entries), "{printed}");
    }
}
