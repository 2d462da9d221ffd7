//! The way of a call from member to member, when the first one does not answer it.

use super::*;

/// Between two attempts to begin a call where there are too many.
const PAUSE: Duration = Duration::from_millis(20);

impl Call {
    /// Tries members until one answers. A task, and the only one that a call can have.
    pub(super) async fn find_member(self: Arc<Call>, first: Option<(Arc<Endpoint>, Failure)>) {
        let mut turns = Turns::of_request(&self.proxy, self.kind.nearest);
        let mut unanswered = false;
        let mut failed = first;
        while !self.state.lock().over {
            if let Some((endpoint, failure)) = failed.take() {
                debug!(endpoint = %endpoint.url, %failure, "a member failed");
                turns.failed(&endpoint);
                unanswered |= matches!(failure, Failure::Unanswered(_));
                if unanswered && !self.kind.read || self.state.lock().torn {
                    return self.refuse(Refusal::OutcomeUnknown);
                }
            }
            let Some(endpoint) = turns.next().await else {
                return self.refuse(match unanswered {
                    true => Refusal::NoAnswer,
                    false => Refusal::ZeroEndpoints,
                });
            };
            match self.attempt(&endpoint).await {
                Ok(()) => return,
                Err(Some(failure)) => failed = Some((endpoint, failure)),
                // Nothing is wrong with it.
                Err(None) => return self.refuse(Refusal::ZeroEndpoints),
            }
        }
    }

    /// `Ok`: the call was answered or its client has left. `Err`: the failure, or `None` without a free
    /// stream in time.
    async fn attempt(self: &Arc<Call>, endpoint: &Arc<Endpoint>) -> Result<(), Option<Failure>> {
        let timeout = self.proxy.config.dial_timeout;
        let until = Instant::now() + self.proxy.config.request_timeout;
        loop {
            let of = self.client.share.lane();
            let member = match endpoint.link.connect(endpoint, timeout, of).await {
                Ok(member) => member,
                Err(error) => return Err(Some(Failure::Unsent(error))),
            };
            let (tell, told) = oneshot::channel();
            match self.begin_at(endpoint, &member, Some(tell)) {
                Ok(()) => return told.await.map_or(Ok(()), |failure| Err(Some(failure))),
                Err(NoStream::Full) if Instant::now() < until => time::sleep(PAUSE).await,
                Err(NoStream::Full) => return Err(None),
                Err(NoStream::Closed) => {
                    let closed = std::io::ErrorKind::NotConnected;
                    return Err(Some(Failure::Unsent(closed.into())));
                }
            }
        }
    }
}
