//! `READY=1` to systemd: CoreOS runs etcd2 as `Type=notify`, and a host waits for it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::environment::{self, NOTIFY_SOCKET};

/// Reports readiness to systemd. Has no effect without a notify socket.
pub(crate) fn ready() {
    let Some(path) = environment::variable(NOTIFY_SOCKET) else {
        return;
    };
    if let Err(error) = send(&path) {
        tracing::warn!(%error, socket = path, "failed to notify systemd for readiness");
    }
}

fn send(path: &str) -> std::io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
