//! What may break a rule, by name. A rule also fails on an exception that it does not need.

/// Sources of more lines than [`crate::headers::LINES_MAX`].
pub const LONG_FILES: &[&str] = &[
    "proxy/tests/proxy/real.rs",
    "store/core/src/node.rs",
    "store/core/src/node/tests.rs",
    "store/core/src/state/tests/tree.rs",
    "store/src/disk/sim/mod.rs",
    "store/src/engine/sled/mod.rs",
    "tests/src/check/replay.rs",
    "tests/src/deis/components.rs",
    "tests/src/differential_v2/generate.rs",
    "tests/src/sim/clients.rs",
];

/// Functions of more lines than [`crate::functions::LINES_MAX`]: tables of cases, and a `match`
/// over all events or mutants of the simulator.
pub const LONG_FUNCTIONS: &[&str] = &[
    "discovery/tests/it/service.rs: what_the_original_lacks",
    "proxy/tests/proxy/conformance/field_sections.rs: of_field_sections",
    "proxy/tests/proxy/conformance/frame_types.rs: of_frame_types",
    "proxy/tests/proxy/conformance/frames.rs: of_frames",
    "proxy/tests/proxy/conformance/framing.rs: of_framing",
    "proxy/tests/proxy/conformance/hpack.rs: of_hpack",
    "proxy/tests/proxy/conformance/messages.rs: of_messages",
    "store/edge/src/errors.rs: reference",
    "tests/command_line/flags.rs: what_cannot_work_says_so_and_exits",
    "tests/src/sim/swarm.rs: aim_at",
    "tests/src/sim/dispatch.rs: handle",
];

/// Sources that may name `std::fs`. Data that must survive a crash goes through `store/src/disk`;
/// the others read `/proc`, certificates and sockets, or write logs, notes and what a playground
/// keeps.
pub const FILES: &[&str] = &[
    "src/commands/follow/control.rs",
    "src/flags/config_file/mod.rs",
    "src/heap.rs",
    "src/logging/file.rs",
    "src/logging/rotation.rs",
    "src/pages.rs",
    "src/playground/child.rs",
    "src/playground/mod.rs",
    "src/playground/secure.rs",
    "src/playground/service.rs",
    "store/port/src/memory.rs",
    "store/port/src/metrics/process.rs",
    "store/port/src/socket.rs",
    "store/port/src/tls/files.rs",
    "store/port/src/tls/reverse.rs",
    "store/port/src/tls/watched.rs",
    "store/src/disk/private.rs",
    "store/src/disk/read_only.rs",
    "store/src/disk/real.rs",
    "store/src/jwt.rs",
    "store/src/member/foreign.rs",
];

/// Type names that stand twice in a crate. In discovery they are the parts that its `v2` and `v3`
/// have in common; the executor's clocks are the real one and the model's.
pub const REPEATED_NAMES: &[&str] = &[
    "discovery: Options",
    "discovery: Session",
    "store/executor: Clock",
];

/// Dependencies that no source of the crate names: the proxy's tests include `ports.rs` of
/// keelson-tests by its path.
pub const UNNAMED_DEPENDENCIES: &[&str] = &["proxy: dev-dependencies anyhow"];

/// Flags of other programs that our documents name: cargo's, curl's, etcdctl's.
pub const FOREIGN_FLAGS: &[&str] = &[
    "all",
    "all-targets",
    "bench",
    "bin",
    "check",
    "example",
    "lib",
    "locked",
    "no-default-features",
    "features",
    "package",
    "path",
    "profile",
    "release",
    "test",
    "workspace",
    "data-urlencode",
    "retry",
    "cacert",
    "cert",
    "cluster",
    "key",
    "learner",
    "peer-urls",
    "prefix",
    "recursive",
];
