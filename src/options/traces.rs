//! OpenTelemetry's traces, by the flags of etcd 3.6 and by the experimental names of 3.5.

use keelson_store::config::TracingConfig;

use super::{OptionsError, newest};
use crate::flags::Values;

/// Samples of a million.
const SAMPLES_MAX: u64 = 1_000_000;

/// The collector and the sampling of calls; `None` without `--enable-distributed-tracing`.
///
/// # Errors
/// As in etcd, a rate of more than a million is refused if there are traces.
pub(super) fn tracing(values: &Values) -> Result<Option<TracingConfig>, OptionsError> {
    if !is_enabled(values) {
        return Ok(None);
    }
    let text = |name| values.text(newest(values, name)).to_owned();
    let samples = values.count(newest(values, "distributed-tracing-sampling-rate"));
    let samples = u32::try_from(samples).ok();
    let samples = samples.filter(|samples| u64::from(*samples) <= SAMPLES_MAX);
    Ok(Some(TracingConfig {
        address: text("distributed-tracing-address"),
        service_name: text("distributed-tracing-service-name"),
        instance_id: text("distributed-tracing-instance-id"),
        samples_per_million: samples.ok_or(OptionsError::SamplingRate)?,
    }))
}

/// A line about flags that only a member has an effect of.
pub(super) fn of_members_only(values: &Values) -> Option<String> {
    let why = "a proxy makes no traces; it passes `traceparent` to the members";
    is_enabled(values).then(|| format!("--enable-distributed-tracing has no effect: {why}"))
}

fn is_enabled(values: &Values) -> bool {
    values.boolean(newest(values, "enable-distributed-tracing"))
}
