//! A configuration that is replicated and watched: three of these programs hold it, one of them may
//! die, and each prints every change. A line such as `color green` on standard input sets an entry.
//!
//! Run `cargo run -p keelson-store --example configuration m1`, and the same with m2 and m3.

use keelson_store::config::initial_cluster;
use keelson_store::messages::{PutRequest, WatchCreateRequest};
use keelson_store::{Config, Store};
use tokio::sync::mpsc;

const MEMBERS: &str = "m1=http://127.0.0.1:7381,m2=http://127.0.0.1:7382,m3=http://127.0.0.1:7383";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or("m1".to_owned());
    let cluster = initial_cluster::parse(MEMBERS)?;
    let own = cluster.iter().filter(|(member, _)| *member == name);
    let urls: Vec<_> = own.map(|(_, url)| url.clone()).collect();
    let data = std::env::temp_dir().join(format!("keelson-configuration-{name}"));
    let config = Config {
        listen_peer_urls: urls.clone(),
        initial_advertise_peer_urls: urls,
        initial_cluster: cluster,
        ..Config::single(&name, data)
    };
    let store = Store::open(config).await?;
    store.ready().await;
    // From the first revision on: what was set before comes first.
    let mut watch = store.watch(WatchCreateRequest {
        key: "config/".into(),
        range_end: "config0".into(),
        start_revision: 1,
        ..Default::default()
    });
    let (lines, mut entered) = mpsc::channel(1);
    let read = move || {
        std::io::stdin()
            .lines()
            .try_for_each(|line| lines.blocking_send(line))
    };
    std::thread::spawn(read);
    loop {
        tokio::select! {
            changes = watch.next() => {
                for kv in changes?.events.into_iter().filter_map(|change| change.kv) {
                    println!("{:?} = {:?}, revision {}", kv.key, kv.value, kv.mod_revision);
                }
            }
            line = entered.recv() => {
                let Some(line) = line.transpose()? else { break };
                let (entry, value) = line.split_once(' ').unwrap_or((&line, ""));
                let (key, value) = (format!("config/{entry}").into(), value.to_owned().into());
                store.put(PutRequest { key, value, ..Default::default() }).await?;
            }
        }
    }
    store.shutdown().await;
    Ok(())
}
