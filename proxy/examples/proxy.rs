//! A proxy without the binary around it, for measuring: `proxy LISTEN CLIENT_URL...`.

use keelson_proxy::{MembersFrom, ProxyConfig};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let listen = args.next().expect("where to listen");
    let listener = TcpListener::bind(&listen).await.expect("a free address");
    println!("{}", listener.local_addr().expect("it is bound"));
    let config = ProxyConfig::new(MembersFrom::Clients(args.collect()));
    let ready = || println!("ready");
    let served = keelson_proxy::serve(config, vec![listener], ready, std::future::pending()).await;
    served.expect("it listens");
}
