//! What a read through the Secrets API costs the store: HTTPS with keep-alive, a secret of 256 bytes.
//!
//! `cargo bench --profile dev -p watchword-e2e --bench https` with the environment of a cluster, as the stories have
//! it; the programs in its image should be of profile `release`. The store's own CPU time is what
//! counts (`/proc/…/stat`, ended threads included), so it makes no difference what else the machine
//! does, nor what the client costs. With `taskset --all-tasks --cpu-list --pid 0 PID` the store has one
//! core, and the reads per second are those of one core.

#![allow(clippy::print_stdout, missing_docs)] // for people at a terminal

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchword_e2e::cluster::Https;
use watchword_e2e::{Cluster, run, run_alone};

fn main() {
    run(async |cluster: Cluster| measure("records in the cluster", &cluster).await);
    run_alone("https-file", "e2e/manifests/file", async |cluster: Cluster| {
        measure("records in a file", &cluster).await
    });
}

async fn measure(what: &str, cluster: &Cluster) -> Result<()> {
    println!("{what}");
    let namespace = cluster.namespace("reads").await?;
    cluster.create_secret(&namespace.secret("db"), "x".repeat(256)).await?;
    namespace.account("reader").await?;
    let rules = json!([{
        "apiGroups": ["store.watchword.dev"], "resources": ["secrets"], "verbs": ["read"],
    }]);
    namespace.grant("reader", &rules).await?;
    let token = namespace.token(cluster.client(), "reader", None, None).await?;
    let request = format!(
        "GET /secrets/v1/secret/default/{} HTTP/1.1\r\nHost: store\r\n\
             Accept: application/octet-stream\r\nAuthorization: Bearer \
             {token}\r\n\r\n",
        namespace.secret("db")
    );
    let store = cluster.https("store").await?;
    // Grants come by a watch, and the first reads fill caches.
    watchword_e2e::wait_for("the grant", Duration::from_secs(60), async || {
        read(&store, &request, Instant::now() + Duration::from_secs(1)).await
    })
    .await?;

    for _ in 0..ROUNDS {
        let (before, start) = (cpu(cluster)?, Instant::now());
        let clients = (0..CLIENTS).map(|_| read(&store, &request, start + ROUND));
        let reads: u32 = try_join_all(clients).await?.into_iter().sum();
        let (spent, took) = (cpu(cluster)? - before, start.elapsed());
        println!(
            "{reads} reads, {:.0}/s, {:.1} µs of CPU each, {:.0} per second of CPU",
            f64::from(reads) / took.as_secs_f64(),
            spent.as_secs_f64() / f64::from(reads) * 1e6,
            f64::from(reads) / spent.as_secs_f64(),
        );
    }
    Ok(())
}

/// Reads over one connection until then; returns how often.
async fn read(store: &Https, request: &str, end: Instant) -> Result<u32> {
    let mut connection = store.handshake().await?;
    let mut buffer = vec![0; 16 << 10];
    let mut count = 0;
    while Instant::now() < end {
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        let mut length = 0;
        // One answer: its end is where the value ends, which no header looks like.
        while !buffer[..length].ends_with(&[b'x'; 256]) {
            let more = connection.read(&mut buffer[length..]).await?;
            ensure!(more > 0, "the store hung up: {}", String::from_utf8_lossy(&buffer[..length]));
            length += more;
            let refused = length > 12 && !buffer.starts_with(b"HTTP/1.1 200");
            ensure!(!refused, "{}", String::from_utf8_lossy(&buffer[..length]));
        }
        count += 1;
    }
    Ok(count)
}

/// The CPU time of all replicas of the store so far.
fn cpu(cluster: &Cluster) -> Result<Duration> {
    let node = cluster.local().context("only the local cluster shows its processes")?;
    let mut total = Duration::ZERO;
    for process in node.processes()? {
        let command = String::from_utf8_lossy(&process.command_line).replace('\0', " ");
        if command.contains("watchword-controller") && command.contains(" store") {
            total += node.cpu_time(process.pid)?;
        }
    }
    ensure!(!total.is_zero(), "no process of the store");
    Ok(total)
}

const CLIENTS: usize = 4;
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;
