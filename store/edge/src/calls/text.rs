//! The text of the counts.

use std::sync::atomic::{AtomicU64, Ordering};

use keelson_port::metrics::Exposition;

use super::methods::METHODS;
use super::{CODES, CallMetrics, MethodCounts};

const STARTED: &str = "grpc_server_started_total";
const HANDLED: &str = "grpc_server_handled_total";
const RECEIVED: &str = "grpc_server_msg_received_total";
const SENT: &str = "grpc_server_msg_sent_total";
const DURATIONS: &str = "grpc_server_handling_seconds";

impl CallMetrics {
    /// Writes all series, also of methods that were never called.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let help = "Total number of RPCs started on the server.";
        self.each(out, STARTED, help, |counts| &counts.started);
        self.handled(out);
        let help = "Total number of RPC stream messages received on the server.";
        self.each(out, RECEIVED, help, |counts| &counts.received);
        let help = "Total number of gRPC stream messages sent by the server.";
        self.each(out, SENT, help, |counts| &counts.sent);
        self.durations(out);
        let counters = [
            (
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
                &self.0.received_bytes,
            ),
            (
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
                &self.0.sent_bytes,
            ),
            (
                "etcd_server_health_success",
                "The total number of successful health checks",
                &self.0.healthy,
            ),
            (
                "etcd_server_health_failures",
                "The total number of failed health checks",
                &self.0.unhealthy,
            ),
        ];
        for (name, help, count) in counters {
            out.counter(name, help, count.load(Ordering::Relaxed));
        }
        self.0.versions.write(out);
        self.0.checks.write(out);
        self.0.keys.write(out);
        self.0.rates.write(out);
        self.0.proxies.write(out);
    }

    fn each(
        &self,
        out: &mut Exposition,
        name: &str,
        help: &str,
        count: impl Fn(&MethodCounts) -> &AtomicU64,
    ) {
        out.begin(name, help, "counter");
        for (method, counts) in self.0.methods.iter().enumerate() {
            let value = count(counts).load(Ordering::Relaxed);
            out.series(name, &labels(method), value);
        }
    }

    fn handled(&self, out: &mut Exposition) {
        let help = "Total number of RPCs completed on the server, regardless of success or \
                    failure.";
        out.begin(HANDLED, help, "counter");
        for (method, counts) in self.0.methods.iter().enumerate() {
            let [name, service, kind] = labels(method);
            for (code, count) in CODES.iter().zip(&counts.handled) {
                let labels = [("grpc_code", *code), name, service, kind];
                out.series(HANDLED, &labels, count.load(Ordering::Relaxed));
            }
        }
    }

    fn durations(&self, out: &mut Exposition) {
        let mut durations = self
            .0
            .methods
            .iter()
            .enumerate()
            .filter_map(|(at, counts)| {
                let durations = counts.durations.as_ref()?;
                Some((at, durations))
            });
        let mut next = durations.next();
        if next.is_some() {
            let help = "Histogram of response latency (seconds) of gRPC that had been \
                        application-level handled by the server.";
            out.begin(DURATIONS, help, "histogram");
        }
        while let Some((method, histogram)) = next {
            out.buckets(DURATIONS, &labels(method), histogram);
            next = durations.next();
        }
    }
}

fn labels(method: usize) -> [(&'static str, &'static str); 3] {
    let (service, method, kind) = METHODS[method];
    [
        ("grpc_method", method),
        ("grpc_service", service),
        ("grpc_type", kind.label()),
    ]
}
