//! `/debug/pprof/`: a profile of the processor's time, for `go tool pprof`. Go's paths and answers
//! (`net/http/pprof`) as far as they have a meaning here.
//!
//! The profiler interrupts the process a hundred times in a second of the processor's time, and
//! walks the stack of the thread that it finds. Without a profile it does nothing.

mod encode;
mod messages;

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName};
use pprof::{Frames, ProfilerGuard};
use prost::Message;
use tokio::sync::Semaphore;

use self::encode::ProfileBuilder;
use crate::backend::Backend;

/// Samples in a second of the processor's time: Go's.
const FREQUENCY: i32 = 100;

/// The time of a profile without `seconds`, in seconds: Go's.
const SECONDS_DEFAULT: u64 = 30;

/// The longest profile, in seconds.
const SECONDS_MAX: u64 = 120;

/// Stacks of libraries that may be interrupted while they hold what walking a stack needs.
const NOT_WALKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// The process has one profiler, for all of its members and ports.
static PROFILER: Semaphore = Semaphore::const_new(1);

const INDEX: &str = "/debug/pprof/\n\n\
    cmdline    the command line, its words between NULs\n\
    profile    where the processor's time goes: ?seconds=30, at most 120\n\n\
    heap, allocs, goroutine, block, mutex, threadcreate, symbol and trace are Go's: 501.\n";

/// What Go's runtime has besides.
const GO_ONLY: [&str; 8] = [
    "allocs",
    "block",
    "goroutine",
    "heap",
    "mutex",
    "symbol",
    "threadcreate",
    "trace",
];

/// The routes, without a fallback.
pub(super) fn router<B: Backend>(backend: B) -> Router {
    let index = any(|| async { plain(StatusCode::OK, INDEX.to_owned()) });
    Router::new()
        .route("/debug/pprof/cmdline", any(command_line::<B>))
        .with_state(backend)
        .route("/debug/pprof", index.clone())
        .route("/debug/pprof/", index)
        .route("/debug/pprof/profile", any(profile))
        .route("/debug/pprof/{name}", any(other))
}

fn plain(status: StatusCode, text: String) -> Response {
    // Without it a browser would guess.
    let no_guess = (HeaderName::from_static("x-content-type-options"), "nosniff");
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), no_guess];
    (status, headers, text).into_response()
}

async fn command_line<B: Backend>(State(backend): State<B>) -> Response {
    plain(StatusCode::OK, backend.command_line().join("\0"))
}

async fn other(Path(name): Path<String>) -> Response {
    if !GO_ONLY.contains(&&*name) {
        return plain(StatusCode::NOT_FOUND, "Unknown profile\n".to_owned());
    }
    let text = format!("{name} is a tool of Go's runtime; /debug/pprof/profile is served\n");
    plain(StatusCode::NOT_IMPLEMENTED, text)
}

/// The length of a profile. As in Go, what is no number has the default.
fn seconds(query: &str) -> u64 {
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    let seconds = fields.find_map(|(name, value)| (name == "seconds").then_some(value));
    let seconds = seconds.and_then(|value| value.parse().ok());
    seconds
        .filter(|seconds| *seconds != 0)
        .unwrap_or(SECONDS_DEFAULT)
}

/// A profile ends early with its client's connection.
async fn profile(RawQuery(query): RawQuery) -> Response {
    let seconds = seconds(&query.unwrap_or_default());
    if SECONDS_MAX < seconds {
        let text = format!("a profile lasts {SECONDS_MAX} seconds at most\n");
        return plain(StatusCode::BAD_REQUEST, text);
    }
    let Ok(_only) = PROFILER.try_acquire() else {
        return failed("cpu profiling already in use");
    };
    match take(Duration::from_secs(seconds)).await {
        Ok(profile) => {
            let headers = [
                (CONTENT_TYPE, "application/octet-stream"),
                (CONTENT_DISPOSITION, "attachment; filename=\"profile\""),
            ];
            (headers, profile).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// Go's text.
fn failed(error: &str) -> Response {
    let text = format!("Could not enable CPU profiling: {error}\n");
    plain(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Samples for that long.
async fn take(duration: Duration) -> Result<Vec<u8>, String> {
    let began = SystemTime::now();
    let profiler = start().map_err(|error| error.to_string())?;
    tokio::time::sleep(duration).await;
    let ended = tokio::task::spawn_blocking(move || {
        let found = profiler.report().build_unresolved();
        // It stops before the names of functions are read from the binary.
        drop(profiler);
        let found = found.map_err(|error| error.to_string())?;
        let mut profile = ProfileBuilder::new(Duration::from_secs(1) / FREQUENCY.unsigned_abs());
        for (stack, count) in found.data {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            profile.add(&Frames::from(stack), count);
        }
        Ok(profile.finish(began, duration).encode_to_vec())
    });
    ended.await.map_err(|error| error.to_string())?
}

fn start() -> pprof::Result<ProfilerGuard<'static>> {
    let profiler = pprof::ProfilerGuardBuilder::default().frequency(FREQUENCY);
    profiler.blocklist(&NOT_WALKED).build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::messages::Profile;
    use super::*;

    async fn asked(query: &str) -> (StatusCode, Vec<u8>) {
        let answer = profile(RawQuery(Some(query.to_owned()))).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    /// One test, since the process has one profiler.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_profile_has_the_stacks_of_a_busy_thread() {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("busy".to_owned());
        let spinning = move || {
            while !busy.load(Ordering::Relaxed) {
                std::hint::black_box(0);
            }
        };
        let thread = thread.spawn(spinning).unwrap();
        let (one, other) = tokio::join!(asked("seconds=1"), asked("seconds=1"));
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        assert_eq!(one.0, StatusCode::OK);
        let in_use = b"Could not enable CPU profiling: cpu profiling already in use\n".to_vec();
        assert_eq!(other, (StatusCode::INTERNAL_SERVER_ERROR, in_use));

        let profile = Profile::decode(&*one.1).expect("it decodes");
        let text = |index: i64| &*profile.string_table[usize::try_from(index).unwrap()];
        let types: Vec<_> = profile.sample_type.iter().collect();
        let types = types.iter().map(|one| (text(one.kind), text(one.unit)));
        assert!(types.eq([("samples", "count"), ("cpu", "nanoseconds")]));
        let of_thread = |sample: &&messages::Sample| text(sample.label[0].text) == "busy";
        let samples: Vec<_> = profile.sample.iter().filter(of_thread).collect();
        assert!(!samples.is_empty(), "{:?}", profile.string_table);
        for sample in samples {
            let [count, nanos] = sample.value[..] else {
                panic!("{sample:?}");
            };
            assert_eq!(nanos, count * 10_000_000);
            for id in &sample.location_id {
                let location = &profile.location[usize::try_from(id - 1).unwrap()];
                assert_eq!(location.id, *id);
                let function = usize::try_from(location.line[0].function_id - 1).unwrap();
                assert!(!text(profile.function[function].name).is_empty());
            }
        }
    }

    #[tokio::test]
    async fn profiles_of_gos_runtime_are_named_as_such() {
        let status = |name: &str| {
            let answer = other(Path(name.to_owned()));
            async { answer.await.status() }
        };
        assert_eq!(status("heap").await, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(status("nothing").await, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_length_of_a_profile_is_bounded() {
        for (query, expected) in [
            ("", 30),
            ("seconds=5", 5),
            ("a=b&seconds=7", 7),
            ("seconds=0", 30),
            ("seconds=x", 30),
        ] {
            assert_eq!(seconds(query), expected, "{query}");
        }
        let (status, _) = asked("seconds=121").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
