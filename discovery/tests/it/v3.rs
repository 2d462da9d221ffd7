//! v3 discovery in a real etcd's v3 API.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_discovery::v3::{Options, cluster_of, join};
use keelson_discovery::{DiscoveryError, Outcome, Registration};
use tokio::task::JoinSet;

use crate::client::ask;
use crate::etcd::{Etcd, SOON};
use crate::hosts::{check, host};

fn options(etcd: &Etcd, token: &str) -> Options {
    Options {
        // The first one has no listener.
        endpoints: vec!["127.0.0.1:1".to_owned(), etcd.url()],
        token: token.to_owned(),
        request_timeout: Duration::from_secs(3),
        retry: crate::hosts::options().retry,
        ..Options::default()
    }
}

/// Writes a key through the JSON gateway.
pub(crate) async fn put(etcd: &Etcd, key: &str, value: &str) -> Result<()> {
    let json = format!(r#"{{"key":"{}","value":"{}"}}"#, base64(key), base64(value));
    let answer = ask("POST", &format!("{}/v3/kv/put", etcd.url()), &json).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// The number of keys with this prefix.
async fn count(etcd: &Etcd, prefix: &str) -> Result<usize> {
    let end = prefix.strip_suffix('/').context("a directory")?.to_owned() + "0";
    let json = format!(
        r#"{{"key":"{}","range_end":"{}","count_only":true}}"#,
        base64(prefix),
        base64(&end)
    );
    let answer = ask("POST", &format!("{}/v3/kv/range", etcd.url()), &json).await?;
    let body: serde_json::Value = serde_json::from_str(&answer.body)?;
    Ok(body["count"].as_str().unwrap_or("0").parse()?)
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut bytes = [0; 3];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            encoded.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    encoded
}

async fn boot(
    options: &Options,
    hosts: impl IntoIterator<Item = usize>,
) -> Result<Vec<(usize, Outcome)>> {
    let mut booting = JoinSet::new();
    for number in hosts {
        let options = options.clone();
        booting.spawn(async move {
            let me = host(number, &options.token);
            join(&me, &options, None)
                .await
                .map(|outcome| (number, outcome))
        });
    }
    let mut outcomes = Vec::new();
    while let Some(joined) = tokio::time::timeout(SOON, booting.join_next()).await? {
        outcomes.push(joined??);
    }
    Ok(outcomes)
}

#[tokio::test]
async fn of_all_hosts_at_once_exactly_n_are_members() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    for (token, size, hosts) in [("a", 3, 3), ("b", 5, 8)] {
        put(
            &etcd,
            &format!("/_etcd/registry/{token}/_config/size"),
            &size.to_string(),
        )
        .await?;
        let options = options(&etcd, token);
        let watching = tokio::spawn({
            let options = options.clone();
            async move { cluster_of(&options).await }
        });
        check(&boot(&options, 1..=hosts).await?, size)?;
        ensure!(count(&etcd, &format!("/_etcd/registry/{token}/members/")).await? == size);
        let seen = tokio::time::timeout(SOON, watching).await???;
        ensure!(seen.split(',').count() == size, "{seen}");
    }
    Ok(())
}

#[tokio::test]
async fn crashes_and_an_etcd_that_dies_and_returns() -> Result<()> {
    let Some(mut etcd) = Etcd::start().await? else {
        return Ok(());
    };
    put(&etcd, "/_etcd/registry/t/_config/size", "3").await?;
    let options = options(&etcd, "t");
    let me = host(1, "t");
    let joining = tokio::spawn({
        let (me, options) = (me.clone(), options.clone());
        async move { join(&me, &options, None).await }
    });
    let deadline = tokio::time::Instant::now() + SOON;
    while count(&etcd, "/_etcd/registry/t/members/").await? != 1 {
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the host did not register"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(!joining.is_finished(), "the cluster cannot be complete");
    joining.abort();
    let early = tokio::spawn({
        let options = options.clone();
        async move { boot(&options, [1, 2]).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    etcd.down();
    tokio::time::sleep(Duration::from_millis(500)).await;
    etcd.up().await?;
    let mut outcomes = boot(&options, [3]).await?;
    outcomes.extend(early.await??);
    check(&outcomes, 3)?;
    let first = outcomes.iter().find(|(number, _)| *number == 1);
    let Some((_, Outcome::Member { resumed: true, .. })) = first else {
        bail!("{first:?}");
    };
    Ok(())
}

#[tokio::test]
async fn troubles_have_names() -> Result<()> {
    let Some(etcd) = Etcd::start().await? else {
        return Ok(());
    };
    let refused = async |options: &Options, me: &Registration| {
        let joining = tokio::time::timeout(SOON, join(me, options, None)).await?;
        anyhow::Ok(joining.err().context("it joined")?.to_string())
    };
    let mut options = options(&etcd, "none");
    let text = refused(&options, &host(1, "none")).await?;
    ensure!(text.starts_with("discovery: size key not found"), "{text}");
    ensure!(
        text.contains("etcdctl put /_etcd/registry/none/_config/size"),
        "{text}"
    );

    put(&etcd, "/_etcd/registry/bad/_config/size", "many").await?;
    options.token = "bad".to_owned();
    let text = refused(&options, &host(1, "bad")).await?;
    ensure!(text.starts_with("discovery: size key is bad"), "{text}");

    put(&etcd, "/_etcd/registry/dup/_config/size", "2").await?;
    options.token = "dup".to_owned();
    let me = host(1, "dup");
    let key = format!("/_etcd/registry/dup/members/{}", me.hex_id());
    put(&etcd, &key, "other=http://10.0.0.1:2380").await?;
    let text = refused(&options, &me).await?;
    ensure!(text.starts_with("discovery: found duplicate id"), "{text}");

    options.user = Some("root".to_owned());
    let error = join(&me, &options, None).await;
    ensure!(matches!(error, Err(DiscoveryError::Option(_))), "{error:?}");
    Ok(())
}
