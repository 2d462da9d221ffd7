//! The token that a client attaches to its calls.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A channel whose calls have a token.
pub type Connection = InterceptedService<Channel, Token>;

/// A token, or none; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Token(Arc<Mutex<Option<AsciiMetadataValue>>>);

impl Token {
    /// Attaches this token to the calls from now on.
    ///
    /// # Panics
    /// It is not ASCII.
    pub fn set(&self, token: Option<&str>) {
        let token = token.map(|token| token.parse().expect("tokens are ASCII"));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*token {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}
