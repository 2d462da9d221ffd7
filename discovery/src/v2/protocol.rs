//! The protocol's steps, request by request, as etcd's client sends them.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tracing::info;

use super::keys;
use super::session::{Event, Exchange, RENEW, Session, refused};
use crate::DiscoveryError;
use crate::error::Remedies;
use crate::http::RequestParts;
use crate::join::{Protocol, Registered, Waited};
use crate::registration::Registration;
use crate::roster::{Entry, Roster};

impl Protocol for Session {
    async fn roster(&mut self) -> Result<(Roster, u64), DiscoveryError> {
        let (size, _) = self.get("_config/size").await?;
        let text = size.value.trim();
        let size = text.parse().map_err(|reason| DiscoveryError::BadSizeKey {
            url: self.name(),
            value: text.to_owned(),
            reason,
            renew: RENEW.to_owned(),
        })?;
        let (directory, index) = self.get("").await?;
        let mut roster = Roster::new(size);
        for entry in directory.nodes.iter().filter_map(keys::Node::entry) {
            roster.add(entry);
        }
        Ok((roster, index))
    }

    /// Safe to repeat, unlike etcd's: the entry is created once, and found to be ours the next
    /// time.
    async fn register(&mut self, me: &Registration) -> Result<Registered, DiscoveryError> {
        let url = self.url.at(&me.hex_id(), "prevExist=false");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let value: String = url::form_urlencoded::byte_serialize(me.value().as_bytes()).collect();
        let parts = RequestParts {
            method: Method::PUT,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, form)]),
            body: format!("value={value}").into(),
        };
        let created = match self.until_answered(&url, &parts).await? {
            Ok((_, node, _)) => node.created_index,
            Err(error) if error.error_code == keys::NODE_EXISTS => return Ok(Registered::Exists),
            Err(error) if error.error_code == keys::KEY_NOT_FOUND => return Err(self.not_found()),
            Err(error) => return Err(refused(&url, error)),
        };
        // Waits until the entry appears on the backend that answers. The next read of the roster
        // shows whether it is there.
        let query = format!("recursive=false&wait=true&waitIndex={created}");
        let url = self.url.at(&me.hex_id(), &query);
        self.watch(&url, self.options.request_timeout).await?;
        Ok(Registered::Made)
    }

    async fn withdraw(&mut self, entry: &Entry) {
        let query = format!("prevIndex={}", entry.modified);
        let url = self.url.at(&entry.id, &query);
        let parts = RequestParts {
            method: Method::DELETE,
            ..RequestParts::default()
        };
        let timeout = self.options.request_timeout;
        match self.exchange(&url, &parts, timeout).await {
            Ok(Exchange::Node(..)) => info!(id = entry.id, "deleted the surplus entry"),
            Ok(Exchange::Failed(error)) => info!(%error, "could not delete the surplus entry"),
            Ok(Exchange::Passing(error)) => info!(error, "could not delete the surplus entry"),
            Err(error) => info!(%error, "could not delete the surplus entry"),
        }
    }

    async fn wait(&mut self, index: u64) -> Result<Waited, DiscoveryError> {
        let next = index.saturating_add(1);
        let query = format!("recursive=true&wait=true&waitIndex={next}");
        let url = self.url.at("", &query);
        let (action, node) = match self.watch(&url, self.options.wait_max).await? {
            Event::Node(action, node) => (action, node),
            Event::Quiet => return Ok(Waited::Quiet),
            Event::Lost => return Ok(Waited::Lost),
        };
        let came = matches!(action.as_str(), "create" | "set");
        let entry = node.entry().filter(|_| came);
        let came = entry.map(|entry| Waited::Came(entry, node.modified_index));
        // An entry was deleted, or the whole token expired.
        Ok(came.unwrap_or(Waited::Lost))
    }

    async fn pause(&mut self, error: String) -> Result<(), DiscoveryError> {
        let url = self.url.at("", "");
        self.failed(&url, error).await
    }

    fn name(&self) -> String {
        self.url.as_str().to_owned()
    }

    fn remedies(&self) -> Remedies {
        Remedies {
            remove: format!("curl -X DELETE {}", self.url),
            renew: RENEW.to_owned(),
        }
    }
}
