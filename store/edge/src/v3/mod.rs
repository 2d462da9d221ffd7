//! etcd's v3 API over gRPC.
//!
//! `Services` dispatches a request by path, after two checks for all of them: whether a learner
//! serves it, and `hasleader`. It adds neither an allocation nor a router to tonic's code.

mod admission;
pub(crate) mod auth;
mod changes;
mod cluster;
mod content;
pub(crate) mod deadline;
mod election;
mod gateway;
mod health;
mod kv;
mod leaders;
mod lease;
mod lock;
mod maintenance;
mod service;
mod session;
mod slow;
mod supervised;
mod unread;
mod usage;
pub(crate) mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{self, Either};
use http::{HeaderName, Request, Response};
use hyper::body::Body as HttpBody;
use keelson_proto::etcdserverpb::auth_server::AuthServer;
use keelson_proto::etcdserverpb::cluster_server::ClusterServer;
use keelson_proto::etcdserverpb::kv_server::KvServer;
use keelson_proto::etcdserverpb::lease_server::LeaseServer;
use keelson_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use keelson_proto::health::health_server::HealthServer;
use keelson_proto::keelsonpb::usage_server::UsageServer;
use keelson_proto::v3electionpb::election_server::ElectionServer;
use keelson_proto::v3lockpb::lock_server::LockServer;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::service::Routes;
use tonic::{Code, Status};

use self::admission::{admit, begin};
use self::auth::{AuthService, Sessions};
use self::cluster::Cluster;
use self::deadline::{MESSAGE_TIME_MAX, Timed};
use self::election::Election;
use self::kv::Kv;
use self::lease::{KEEP_ALIVE, Lease};
use self::lock::Lock;
use self::maintenance::Maintenance;
use self::service::Service;
use self::slow::SlowLog;
use self::supervised::{LeaderMonitor, Supervised, Supervision};
use self::usage::Usage;
use super::backend::Backend;
use super::service::GrpcService;
use super::turns::{Turns, WaitingTurn};
use crate::Error;
use crate::calls::{CallBody, CallMetrics};
use crate::gateway::{JsonRoom, text_bytes_max};
use crate::rates::Rates;
use crate::traces::Tracer;
use keelson_port::{Drain, Incoming};

pub use auth::{SeenTokens, TokenSignature};
pub use leaders::Leaders;
pub(super) use maintenance::alarm_name;
pub use session::{Place, Queue, Taken, take};
pub use unread::Unread;
pub use watch::Watchers;

/// The size limit of a message beyond that of a proposal: etcd's `grpcOverheadBytes`.
const OVERHEAD_BYTES: usize = 512 * 1024;

/// `hasleader: true` in a request: refuse it at once if there is no leader.
static REQUIRE_LEADER: HeaderName = HeaderName::from_static("hasleader");

/// The gRPC services of the client port.
pub struct Services<B: Backend> {
    backend: B,
    kv: KvServer<Kv<B>>,
    lease: LeaseServer<Lease<B>>,
    lock: LockServer<Lock<B>>,
    election: ElectionServer<Election<B>>,
    auth: AuthServer<AuthService<B>>,
    cluster: ClusterServer<Cluster<B>>,
    maintenance: MaintenanceServer<Maintenance<B>>,
    health: HealthServer<health::Health>,
    usage: UsageServer<Usage<B>>,
    sessions: Sessions<B>,
    rest: Routes,
    unread: Unread,
    json_room: JsonRoom,
    drain: Drain,
    slow: SlowLog,
    leader: LeaderMonitor,
    calls: CallMetrics,
    tracer: Option<Tracer>,
    turns: Arc<Turns>,
    rates: Rates,
}

/// The method of watches.
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The body of a call.
trait RequestBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static {}
impl<R: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static> RequestBody for R {}

impl<B: Backend> Services<B> {
    /// Begins a call of one of these services, with a body of any kind: at its turn, if it waits
    /// for one.
    fn serve<R: RequestBody>(
        &self,
        service: Service,
        request: Request<R>,
        turn: Option<WaitingTurn>,
    ) -> Answering {
        match service {
            Service::Kv => begin(self.kv.clone(), request, turn),
            Service::Lease => begin(self.lease.clone(), request, turn),
            Service::Lock => begin(self.lock.clone(), request, turn),
            Service::Election => begin(self.election.clone(), request, turn),
            Service::Auth => begin(self.auth.clone(), request, turn),
            Service::Cluster => begin(self.cluster.clone(), request, turn),
            Service::Maintenance => begin(self.maintenance.clone(), request, turn),
            Service::Health => begin(self.health.clone(), request, turn),
            Service::Usage => begin(self.usage.clone(), request, turn),
        }
    }

    /// etcd's services as far as they are implemented, and `rest` for other paths.
    pub(crate) fn new(
        backend: B,
        unread: Unread,
        calls: CallMetrics,
        rest: Routes,
        drain: Drain,
    ) -> Services<B> {
        let message_bytes_max = message_bytes_max(&backend);
        let slow = SlowLog::new(backend.slow_request());
        let sessions = Sessions::new(&backend);
        Services {
            kv: KvServer::new(Kv::new(sessions.clone(), unread.clone(), slow.clone()))
                .max_decoding_message_size(message_bytes_max),
            lease: LeaseServer::new(Lease::new(sessions.clone(), unread.clone(), drain.clone()))
                .max_decoding_message_size(lease::MESSAGE_BYTES_MAX),
            lock: LockServer::new(Lock::new(sessions.clone(), unread.clone(), drain.clone()))
                .max_decoding_message_size(message_bytes_max),
            election: ElectionServer::new(Election::new(
                sessions.clone(),
                unread.clone(),
                drain.clone(),
            ))
            .max_decoding_message_size(message_bytes_max),
            auth: AuthServer::new(AuthService::new(sessions.clone()))
                .max_decoding_message_size(message_bytes_max),
            cluster: ClusterServer::new(Cluster::new(sessions.clone()))
                .max_decoding_message_size(message_bytes_max),
            maintenance: MaintenanceServer::new(Maintenance::new(sessions.clone()))
                .max_decoding_message_size(message_bytes_max),
            health: HealthServer::new(health::Health::new(drain.clone())),
            usage: UsageServer::new(Usage::new(sessions.clone())),
            sessions,
            rest: rest.prepare(),
            unread,
            json_room: JsonRoom::of_texts(text_bytes_max(message_bytes_max)),
            drain,
            slow,
            leader: LeaderMonitor::default(),
            calls,
            tracer: None,
            turns: Turns::new(admission::LIMITS),
            rates: Rates::default(),
            backend,
        }
    }

    /// The same with spans of calls.
    pub(crate) fn traced(self, tracer: Option<Tracer>) -> Services<B> {
        Services { tracer, ..self }
    }

    /// What has to run while calls are served. It never returns.
    pub(crate) fn monitor(&self) -> impl Future<Output = Infallible> + Send + use<B> {
        self.leader.clone().run(self.backend.clone())
    }

    fn supervision<R>(&self, request: &mut Request<R>) -> Supervision {
        let mut supervision = Supervision::of(
            request,
            &self.backend,
            &self.slow,
            &self.leader,
            &self.calls,
        );
        if let Some(tracer) = &self.tracer {
            supervision.trace(tracer, request);
        }
        supervision
    }

    fn watch<R: RequestBody>(&self, request: Request<R>) -> Answering {
        let message_bytes_max = message_bytes_max(&self.backend);
        let (sessions, drain) = (self.sessions.clone(), self.drain.clone());
        let unread = self.unread.clone();
        Box::pin(async move {
            let (headers, extensions) = (request.headers(), request.extensions());
            let caller = sessions.of_headers(headers, extensions).await;
            let backend = sessions.anonymous().clone();
            let called = watch::call(backend, caller, unread, drain, request, message_bytes_max);
            Ok(called)
        })
    }
}

/// The largest message that is decoded: etcd's limit for gRPC.
fn message_bytes_max<B: Backend>(backend: &B) -> usize {
    backend.max_request_bytes().saturating_add(OVERHEAD_BYTES)
}

/// Waits for a call's outcome, or for the port's shutdown.
async fn unless_drained<T>(
    drain: &Drain,
    outcome: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let drained = drain.clone().begun();
    match future::select(pin!(outcome), pin!(drained)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(Error::Stopped),
    }
}

fn requires_leader<T>(request: &Request<T>) -> bool {
    let required = request.headers().get(&REQUIRE_LEADER);
    required.is_some_and(|value| value.as_bytes() == b"true")
}

impl<B: Backend> GrpcService for Services<B> {
    type Future = Supervised<Call<<Routes as GrpcService>::Future>>;
    type Body = CallBody;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut supervision = self.supervision(&mut request);
        let call = self.begin(request, &mut supervision);
        Supervised::new(call, supervision)
    }
}

impl<B: Backend> Services<B> {
    fn begin(
        &self,
        request: Request<Incoming>,
        supervision: &mut Supervision,
    ) -> Call<<Routes as GrpcService>::Future> {
        let path = request.uri().path();
        if let Err(error) = admit(&self.backend, path, requires_leader(&request)) {
            return Call::Refused(Some(Status::from(error)));
        }
        let deadline = deadline::of(&request);
        if deadline::has_passed(deadline) {
            return Call::Refused(Some(deadline::exceeded()));
        }
        let service = path.get(1..).and_then(|rest| rest.split('/').next());
        let service = service.and_then(Service::named);
        if service != Some(Service::Health)
            && let Err(over) = self.charge_user(request.headers(), request.extensions())
        {
            return Call::Refused(Some(over.status()));
        }
        if path == WATCH {
            return Call::Service(self.watch(self.metered(supervision.method(), request)));
        }
        let own = |answering| match deadline {
            Some(deadline) => Call::Timed(Timed::new(answering, deadline)),
            None => Call::Service(answering),
        };
        // Each of the other methods takes one message.
        let whole = |body: Incoming| body.within(MESSAGE_TIME_MAX);
        match service {
            Some(service) if path == KEEP_ALIVE => {
                let metered = self.metered(supervision.method(), request);
                own(self.serve(service, metered, None))
            }
            Some(service) => match self.serve_admitted(service, request.map(whole), supervision) {
                Ok(answering) => own(answering),
                Err(refused) => Call::Refused(Some(refused)),
            },
            None => Call::Rest(Box::new(GrpcService::call(&self.rest, request))),
        }
    }
}

/// A pending answer of one of these services.
type Answering = BoxFuture<Response<Body>, Infallible>;

/// A request in progress.
pub enum Call<R> {
    /// In one of these services.
    Service(Answering),
    /// In one of these services, with a client's deadline.
    Timed(Timed<Answering>),
    /// In an additional service. Boxed, because it is large and rarer than the others.
    Rest(Box<R>),
    /// Refused.
    Refused(Option<Status>),
}

impl<R> Future for Call<R>
where
    R: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Call::Service(call) => call.as_mut().poll(cx).map_ok(finish),
            Call::Timed(call) => Pin::new(call).poll(cx).map(|answer| match answer {
                Ok(answer) => answer.map(finish),
                Err(late) => Ok(late.into_http()),
            }),
            Call::Rest(call) => Pin::new(call).poll(cx).map_ok(reword),
            Call::Refused(status) => {
                let status = status.take().expect("a future is not polled after its end");
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

/// Completes a service's answer.
fn finish(response: Response<Body>) -> Response<Body> {
    unread::hold(reword(response))
}

/// Replaces tonic's own errors with grpc-go's texts, to which etcd's clients and their users are
/// accustomed. Only an answer that failed before its first message has its status in the headers,
/// so other answers cost one lookup.
fn reword(response: Response<Body>) -> Response<Body> {
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    match Status::from_header_map(response.headers()).and_then(|status| in_go(&status)) {
        Some(status) => status.into_http(),
        None => response,
    }
}

fn in_go(status: &Status) -> Option<Status> {
    let message = status.message();
    match status.code() {
        Code::OutOfRange => {
            let sizes = message.strip_prefix("Error, decoded message length too large: found ")?;
            let (found, rest) = sizes.split_once(" bytes, the limit is: ")?;
            let limit = rest.strip_suffix(" bytes")?;
            Some(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({found} vs. {limit})"
            )))
        }
        Code::Internal => {
            let what = message.strip_prefix("failed to decode Protobuf message: ")?;
            Some(Status::internal(format!(
                "grpc: error unmarshalling request: {what}"
            )))
        }
        _ => None,
    }
}
