//! Attempts of a call on further members, after the first one failed.

use super::*;

/// The pause between two attempts to open a stream on a full connection.
const PAUSE: Duration = Duration::from_millis(20);

impl Call {
    /// Tries members until one answers; `failed`: the first failure. It runs as the only task of
    /// the call.
    pub(super) async fn find_member(
        self: &Arc<Call>,
        mut turns: Attempts<'_>,
        mut failed: Option<(Arc<Endpoint>, Failure)>,
    ) {
        let mut unanswered = false;
        while !self.is_finished() {
            if let Some((endpoint, failure)) = failed.take() {
                debug!(endpoint = %endpoint.url, %failure, "a member failed");
                if failure.is_the_members() {
                    turns.failed(&endpoint);
                }
                unanswered |= failure.is_unclear();
                if unanswered && !self.may_repeat() || self.shared.lock().unrepeatable {
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
                Err(Some(Failure::Crowded(_))) => return self.refuse(Refusal::Crowded),
                Err(Some(failure)) => failed = Some((endpoint, failure)),
                // The member has not failed.
                Err(None) => return self.refuse(Refusal::ZeroEndpoints),
            }
        }
    }

    /// `Ok`: the call was answered or cancelled. `Err`: the failure, or `None` without a free
    /// stream in time.
    async fn attempt(self: &Arc<Call>, endpoint: &Arc<Endpoint>) -> Result<(), Option<Failure>> {
        let mut closed = false;
        let until = Instant::now() + self.proxy.config.request_timeout;
        while !self.is_finished() {
            let of = self.client.quota.lane();
            let member = match endpoint.link.connect(endpoint, &self.proxy, of).await {
                Ok(member) => member,
                // This process lacks descriptors; other connections end all the time.
                Err(Failure::Crowded(_)) if Instant::now() < until => {
                    time::sleep(PAUSE).await;
                    continue;
                }
                Err(failure) => return Err(Some(failure)),
            };
            let (tell, on_failure) = oneshot::channel();
            match self.start_on(endpoint, &member, Some(tell)) {
                Ok(()) => {
                    return on_failure
                        .await
                        .map_or(Ok(()), |failure| Err(Some(failure)));
                }
                Err(NoStream::Full) if Instant::now() < until => time::sleep(PAUSE).await,
                Err(NoStream::Full) => return Err(None),
                // The connection may have ended in the meantime.
                Err(NoStream::Closed) if !closed => closed = true,
                Err(NoStream::Closed) => {
                    let ended = std::io::ErrorKind::NotConnected;
                    return Err(Some(Failure::Unsent(ended.into())));
                }
            }
        }
        Ok(())
    }
}
