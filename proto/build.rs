//! Compiles the .proto files with protox, a compiler written in Rust: a fresh machine has no
//! protoc.

use std::path::Path;

use prost::Message;

const FILES: [&str; 10] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "v3lock.proto",
    "v3election.proto",
    "internal.proto",
    "peer.proto",
    "health.proto",
    "usage.proto",
    "otlp.proto",
];

/// The packages with a JSON form.
const JSON: [&str; 5] = [
    ".mvccpb",
    ".authpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = Path::new("proto");
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, [dir])?;
    let grpc = feature("GRPC");
    if feature("JSON") {
        json(&descriptors.encode_to_vec())?;
    }
    let mut config = prost_build::Config::new();
    // Values are shared with the receive buffer, never copied.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through it"
)]
fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// JSON as in etcd's gateway: the field names of the .proto files, empty fields omitted, and
/// unknown fields ignored.
fn json(descriptors: &[u8]) -> std::io::Result<()> {
    pbjson_build::Builder::new()
        .register_descriptors(descriptors)?
        .preserve_proto_field_names()
        .ignore_unknown_fields()
        .build(&JSON)
}
