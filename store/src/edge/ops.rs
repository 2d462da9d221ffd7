//! The operator's paths.

use axum::Router;

use super::backend::Backend;

/// The paths of the client port.
pub fn client_router<B: Backend>(_backend: B) -> Router {
    Router::new()
}
