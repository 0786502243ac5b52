//! Plays bytes that look like TLS over loopback and holds what the kernel programs capture of them against what was sent: record
//! lengths, sizes of writes and what precedes the handshake are random. For machines that have nothing but a kernel, too.
//!
//! `tls-case SEED ROUNDS` prints one line and ends with status 0 when everything was captured as it must be.

mod check;
mod talk;

use std::{
    env,
    fs::File,
    io::{Write as _, stdout},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use auditor::{
    capture::{Capture as _, Status, ring::RingSource},
    kernel::{
        cgroup, layout,
        loader::{self, Options, Programs, Ring},
        object,
        plan::Hook,
    },
};
use auditor_tests::random::Random;

use self::{check::Captured, talk::Talk};

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [seed, rounds] = &words[..] else { bail!("usage: tls-case SEED ROUNDS") };
    let (seed, rounds): (u64, u64) = (seed.parse().context("SEED")?, rounds.parse().context("ROUNDS")?);
    // Before the programs are attached: they meet this one in its middle.
    let mut old = Pair::open()?;
    old.send(false, b"begun before")?;
    old.send(true, b"answered before")?;
    let (programs, ring) = load()?;
    let mut source = attach(programs, ring)?;

    let captured = middle(&mut source, &mut old)?;
    check::middle(&captured).context("a connection met in its middle")?;
    let captured = astray(&mut source)?;
    check::astray(&captured).context("bytes that are no TLS")?;
    let mut headers = 0;
    for round in 0..rounds {
        let talk = Talk::new(&mut Random::new(seed.wrapping_add(round)));
        let captured = play(&mut source, &talk)?;
        let checked = check::talk(&talk, &captured);
        headers += checked.with_context(|| format!("seed {}: {talk}", seed.wrapping_add(round)))?;
    }
    let lost: u64 = source.counts().lost.iter().map(|(_, count)| count).sum();
    ensure!(lost == 0, "{lost} records were lost");
    writeln!(stdout(), "tls-case: {rounds} connections, {headers} headers captured as sent")?;
    Ok(())
}

fn load() -> Result<(Programs, Ring)> {
    let object = object::object().context("built without the eBPF object: run `cargo xtask build-ebpf` first")?;
    let layout = layout::from_file(Path::new(layout::KERNEL_BTF))?;
    let options = Options {
        ring_bytes: 8 << 20,
        request_head_bytes: 16 << 10,
        response_head_bytes: 4 << 10,
        offsets: layout.offsets().to_vec(),
        samples: false,
    };
    Ok(loader::load(object, Hook::Cgroup, &options)?)
}

fn attach(mut programs: Programs, ring: Ring) -> Result<RingSource> {
    let root = cgroup::find()?;
    programs.attach(Some(&File::from(root.as_fd().try_clone_to_owned()?)))?;
    Ok(RingSource::new(programs, ring))
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { client, server })
    }

    /// Sends bytes to the other end and waits until they are there: a segment each, unless they are longer than one.
    fn send(&mut self, by_server: bool, bytes: &[u8]) -> Result<()> {
        use std::io::Read as _;
        let (from, to) = match by_server {
            true => (&mut self.server, &mut self.client),
            false => (&mut self.client, &mut self.server),
        };
        from.write_all(bytes)?;
        let mut read = vec![0; bytes.len()];
        to.read_exact(&mut read)?;
        Ok(())
    }

    /// Ends a direction and waits until the other end knows.
    fn end(&mut self, by_server: bool) -> Result<()> {
        use std::io::Read as _;
        let (from, to) = match by_server {
            true => (&mut self.server, &mut self.client),
            false => (&mut self.client, &mut self.server),
        };
        from.shutdown(std::net::Shutdown::Write)?;
        ensure!(to.read(&mut [0])? == 0, "bytes after the end");
        Ok(())
    }

    /// Everything that was captured of it.
    fn captured(&self, source: &mut RingSource) -> Result<Vec<Captured>> {
        let (client, server) = (self.client.local_addr()?, self.server.local_addr()?);
        let mut captured = Vec::new();
        while source.drain(&mut |segment| {
            let ends = [segment.endpoints.local, segment.endpoints.remote];
            if ends == [client, server] || ends == [server, client] {
                captured.push(Captured::new(segment, segment.endpoints.local == server));
            }
        })? == Status::More
        {}
        Ok(captured)
    }
}

fn play(source: &mut RingSource, talk: &Talk) -> Result<Vec<Captured>> {
    let mut pair = Pair::open()?;
    for write in &talk.writes {
        pair.send(write.by_server, &write.bytes)?;
    }
    pair.end(talk.server_ends_first)?;
    pair.end(!talk.server_ends_first)?;
    pair.captured(source)
}

/// A record of application data is the first that is seen.
fn middle(source: &mut RingSource, pair: &mut Pair) -> Result<Vec<Captured>> {
    for _ in 0..3 {
        pair.send(false, &talk::record(23, &[0; 100]))?;
        pair.send(true, &talk::record(23, &[0; 100]))?;
    }
    pair.captured(source)
}

/// A record whose length leads nowhere.
fn astray(source: &mut RingSource) -> Result<Vec<Captured>> {
    let mut pair = Pair::open()?;
    pair.send(false, &talk::record(22, &[1; 100]))?;
    for _ in 0..3 {
        pair.send(false, b"no record at all")?;
    }
    pair.send(true, &talk::record(22, &[2; 100]))?;
    pair.end(true)?;
    pair.end(false)?;
    pair.captured(source)
}
