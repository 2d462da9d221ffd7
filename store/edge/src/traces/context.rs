//! Which calls are sampled, and of which trace they are: W3C Trace Context, OpenTelemetry's
//! `ParentBased(TraceIdRatioBased)`.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

use super::{ChildSpan, Traced, Tracer};

/// A longer `tracestate` is not passed on, in bytes (W3C Trace Context, 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;

/// The flag of a sampled trace.
const SAMPLED: u8 = 1;

const MILLION: u64 = 1_000_000;

/// The trace that a sampled call belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) trace: [u8; 16],
    /// The client's span; `None` for a call that begins a trace.
    pub(super) parent: Option<[u8; 8]>,
    pub(super) state: String,
}

/// A call that has a span, for the spans inside it: an extension of its request.
#[derive(Clone, Debug)]
pub(crate) struct CallSpan {
    pub(super) tracer: Tracer,
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
}

impl CallSpan {
    /// Begins the span of a request inside that of the call.
    pub(crate) fn of<Q: Traced>(&self, request: &Q) -> ChildSpan {
        request.describe(ChildSpan::begin(self.clone(), Q::NAME))
    }
}

/// Unpredictable ids: a keyed hash of a counter, which costs no system call.
#[derive(Debug, Default)]
pub(super) struct Ids {
    keys: RandomState,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn trace(&self) -> [u8; 16] {
        (u128::from(self.draw()) << 64 | u128::from(self.draw())).to_be_bytes()
    }

    pub(super) fn span(&self) -> [u8; 8] {
        self.draw().to_be_bytes()
    }

    /// Never 0, which is no id.
    fn draw(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.keys.hash_one(number).max(1)
    }
}

/// Decides which calls have spans.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Of a call that begins a trace, 63 bits of the trace's id are compared with it.
    below: u64,
}

impl Sampler {
    pub(super) fn new(samples_per_million: u32) -> Sampler {
        let samples = u64::from(samples_per_million).min(MILLION);
        let below = (u128::from(samples) << 63) / u128::from(MILLION);
        Sampler {
            below: u64::try_from(below).unwrap_or(u64::MAX),
        }
    }

    /// The trace of a call, if it is sampled.
    pub(super) fn origin(&self, ids: &Ids, headers: &HeaderMap) -> Option<Origin> {
        let parent = headers.get("traceparent");
        if let Some(parent) = parent.and_then(|value| Parent::parse(value.as_bytes())) {
            return (parent.flags & SAMPLED != 0).then(|| Origin {
                trace: parent.trace,
                parent: Some(parent.span),
                state: state(headers),
            });
        }
        if self.below == 0 {
            return None;
        }
        let trace = ids.trace();
        let [.., a, b, c, d, e, f, g, h] = trace;
        let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        (drawn < self.below).then_some(Origin {
            trace,
            parent: None,
            state: String::new(),
        })
    }
}

fn state(headers: &HeaderMap) -> String {
    let state = headers
        .get("tracestate")
        .and_then(|state| state.to_str().ok());
    let state = state.filter(|state| state.len() <= STATE_BYTES_MAX);
    state.unwrap_or_default().to_owned()
}

/// A `traceparent`.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

impl Parent {
    /// Parses `00-TRACE-SPAN-FLAGS`; `None` if it is malformed (W3C Trace Context, 3.2.2).
    fn parse(text: &[u8]) -> Option<Parent> {
        let (head, rest) = text.split_at_checked(55)?;
        let [b'-', b'-', b'-'] = [head[2], head[35], head[52]] else {
            return None;
        };
        let [version] = hex::<1>(&head[..2])?;
        // A later version may have more fields.
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let (trace, span) = (hex::<16>(&head[3..35])?, hex::<8>(&head[36..52])?);
        let [flags] = hex::<1>(&head[53..])?;
        (is_whole && trace != [0; 16] && span != [0; 8]).then_some(Parent { trace, span, flags })
    }
}

/// Lower-case digits, as the recommendation has them.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sampled(samples: u32, parent: Option<&'static str>) -> Option<Origin> {
        let mut headers = HeaderMap::new();
        if let Some(parent) = parent {
            headers.insert("traceparent", HeaderValue::from_static(parent));
        }
        headers.insert("tracestate", HeaderValue::from_static("a=b"));
        Sampler::new(samples).origin(&Ids::default(), &headers)
    }

    #[test]
    fn a_call_has_the_trace_of_its_parent_and_is_sampled_as_that() {
        let origin = sampled(0, Some(PARENT)).expect("its parent is sampled");
        assert_eq!(origin.trace[..2], [0x4b, 0xf9]);
        let parent = [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
        assert_eq!(origin.parent, Some(parent));
        assert_eq!(origin.state, "a=b");
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert_eq!(sampled(1_000_000, Some(unsampled)), None);
    }

    #[test]
    fn a_call_without_a_sound_parent_begins_a_trace() {
        for parent in [
            None,
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"),
            Some("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01"),
            Some(""),
        ] {
            let origin = sampled(1_000_000, parent).expect("all are sampled");
            assert_eq!((origin.parent, &*origin.state), (None, ""), "{parent:?}");
            assert_eq!(sampled(0, parent), None, "{parent:?}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(sampled(0, Some(later)).is_some());
    }

    #[test]
    fn about_so_many_of_a_million_are_sampled() {
        let (ids, none) = (Ids::default(), HeaderMap::new());
        for (samples, least, most) in [
            (0, 0, 0),
            (100_000, 800, 1_200),
            (1_000_000, 10_000, 10_000),
        ] {
            let sampler = Sampler::new(samples);
            let drawn = (0..10_000).filter(|_| sampler.origin(&ids, &none).is_some());
            let drawn = drawn.count();
            assert!((least..=most).contains(&drawn), "{samples}: {drawn}");
        }
    }
}
