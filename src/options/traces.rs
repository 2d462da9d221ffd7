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

/// Lines about flags that have an effect on members only.
pub(super) fn of_members_only(values: &Values) -> impl Iterator<Item = String> {
    let traces = (
        is_enabled(values),
        "--enable-distributed-tracing has no effect: a proxy makes no traces; it passes \
         `traceparent` to the members",
    );
    let profiles = (
        values.boolean("enable-pprof"),
        "--enable-pprof has no effect: a proxy serves no profiles",
    );
    let lines = [traces, profiles].into_iter();
    let given = lines.filter(|(is_given, _)| *is_given);
    given.map(|(_, line)| line.to_owned())
}

fn is_enabled(values: &Values) -> bool {
    values.boolean(newest(values, "enable-distributed-tracing"))
}
