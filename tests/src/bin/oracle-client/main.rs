//! The oracle's Rust client: does on the wire what other clients cannot. Its protocol is in `auditor_tests::clients`.

mod connection;
mod uring;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Write as _, stdin, stdout},
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Context as _, Result};

use connection::Connection;

/// One call, as the row says.
#[derive(Debug)]
struct Row {
    id: String,
    group: String,
    address: SocketAddr,
    mode: String,
    method: String,
    target: String,
    body: usize,
    headers: Vec<String>,
}

impl Row {
    fn parse(line: &str) -> Result<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut field = |name| fields.next().with_context(|| format!("no {name} in {line:?}"));
        let (id, group) = (field("id")?, field("group")?);
        let (ip, port): (IpAddr, u16) = (field("address")?.parse()?, field("port")?.parse()?);
        let (mode, method, target, body) =
            (field("mode")?, field("method")?, field("target")?, field("body")?.parse()?);
        Ok(Self { id, group, address: (ip, port).into(), mode, method, target, body, headers: fields.collect() })
    }
}

fn main() -> Result<()> {
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    say("ready")?;
    for line in stdin().lock().lines() {
        let line = line?;
        if line != "run" {
            let row = Row::parse(&line)?;
            groups.entry(row.group.clone()).or_default().push(row);
            continue;
        }
        thread::scope(|scope| {
            let work = std::mem::take(&mut groups).into_iter().map(|(group, rows)| {
                let connection = connections.remove(&group);
                (group, scope.spawn(move || perform(connection, &rows)))
            });
            for (group, thread) in work.collect::<Vec<_>>() {
                if let Some(connection) = thread.join().expect("no thread of this program panics")? {
                    connections.insert(group, connection);
                }
            }
            anyhow::Ok(())
        })?;
        say("done")?;
    }
    Ok(())
}

/// Performs the rows of one group; gives the connection back for later rows if it can still be used.
fn perform(mut connection: Option<Connection>, rows: &[Row]) -> Result<Option<Connection>> {
    for batch in rows.chunk_by(|a, b| a.mode == "pipeline" && b.mode == "pipeline") {
        let attempt = attempt(connection.take(), batch);
        match attempt {
            Ok(kept) => connection = kept,
            Err(error) => {
                for row in batch {
                    say(&format!("{}\terror\t{error:#}", row.id))?;
                }
            }
        }
    }
    Ok(connection)
}

fn attempt(connection: Option<Connection>, batch: &[Row]) -> Result<Option<Connection>> {
    let first = batch.first().context("batches are not empty")?;
    let mut connection = match connection {
        Some(connection) => connection,
        None => Connection::open(first.address, first.mode == "uring")?,
    };
    let mut usable = true;
    let statuses = connection.call(batch, &mut usable)?;
    for (row, status) in batch.iter().zip(statuses) {
        say(&format!("{}\t{status}", row.id))?;
    }
    Ok(usable.then_some(connection))
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
