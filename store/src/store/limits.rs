//! The bounds of the client port, from the configuration.

use std::time::Duration;

use crate::Config;

/// grpc-go's least interval of a client's PINGs where none is configured.
const GRPC_GO_KEEPALIVE_MIN: Duration = Duration::from_secs(5 * 60);

/// grpc-go's servers ping no more often.
const GRPC_GO_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The bounds of the client port.
pub(super) fn client_limits(config: &Config) -> crate::edge::Limits {
    let mut limits = crate::edge::Limits::default().with_streams(config.max_concurrent_streams);
    limits.access = config.access.clone();
    limits.keepalive_min = Some(match config.grpc_keepalive_min_ms {
        0 => GRPC_GO_KEEPALIVE_MIN,
        min => Duration::from_millis(min),
    });
    let (interval, timeout) = (
        config.grpc_keepalive_interval_ms,
        config.grpc_keepalive_timeout_ms,
    );
    if interval != 0 && timeout != 0 {
        let interval = Duration::from_millis(interval);
        limits.keepalive_interval = Some(interval.max(GRPC_GO_INTERVAL_MIN));
        limits.keepalive_timeout = Duration::from_millis(timeout);
    }
    limits
}
