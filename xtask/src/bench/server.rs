//! What answers the calls of a bench run, bound to one processor.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    bulk, http2,
    rig::{PATIENCE, Running, cpu_seconds, free_ports},
    tls,
};
use crate::process::find;

/// The page that the server compresses for each call.
pub(super) const PAGE: &str = "page";

/// nginx with one worker that answers everything with 38 bytes, and beside it what answers calls of gRPC.
pub(crate) struct Server {
    process: Running,
    grpc: Running,
    /// Where it listens.
    pub(crate) port: u16,
    /// Where it listens for TLS.
    pub(crate) tls_port: u16,
    /// Where it listens for HTTP/2 in clear.
    pub(crate) http2_port: u16,
    /// Where calls of gRPC are answered.
    pub(crate) grpc_port: u16,
}

impl Server {
    /// Starts it, its files in `folder`.
    ///
    /// # Errors
    /// When nginx is missing or does not come up.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        Self::start_as(folder, |command| command)
    }

    /// Starts it in the cgroup of this list of processes.
    ///
    /// # Errors
    /// As [`Self::start`], and when it cannot be moved.
    pub(crate) fn start_in(folder: &Path, procs: &Path) -> Result<Self> {
        Self::start_as(folder, |command| bulk::inside(procs, &command))
    }

    fn start_as(folder: &Path, place: impl Fn(Command) -> Command) -> Result<Self> {
        let [port, tls_port, http2_port, grpc_port] = free_ports()?;
        fs::create_dir_all(folder)?;
        let grpc = http2::grpc_server(folder, grpc_port)?;
        tls::certificate(folder)?;
        fs::write(folder.join(PAGE), page())?;
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, nginx_configuration(folder, port, tls_port, http2_port))?;
        let nginx = find("nginx").context("nginx is missing: run `cargo xtask setup --tests`")?;
        let mut command = Command::new(nginx);
        command.arg("-p").arg(folder).arg("-c").arg(&configuration);
        let mut process = Running::start(place(command).stderr(Stdio::inherit()))?;
        let end = Instant::now() + PATIENCE;
        for port in [port, grpc_port] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                if process.ended() || Instant::now() > end {
                    bail!("the servers did not come up on port {port}; nginx's log is in {}", folder.display());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(Self { process, grpc, port, tls_port, http2_port, grpc_port })
    }

    /// CPU seconds that answering has used.
    ///
    /// # Errors
    /// When there is no worker.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        Ok(cpu_seconds(self.worker()?)? + cpu_seconds(self.grpc.pid())?)
    }

    /// What the worker has read from files, MiB: without a cache of its own that is what it sends.
    ///
    /// # Errors
    /// When there is no worker.
    pub(crate) fn mebibytes_read(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.worker()?))?;
        let bytes: f64 = text.lines().find_map(|line| line.strip_prefix("rchar: ")).context("no rchar")?.parse()?;
        Ok(bytes / f64::from(1 << 20))
    }

    /// The process that answers in clear and over TLS.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn worker(&self) -> Result<u32> {
        let master = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        Ok(children.split_whitespace().next().context("nginx has no worker")?.parse()?)
    }
}

fn nginx_configuration(folder: &Path, port: u16, tls_port: u16, http2_port: u16) -> String {
    let (bulk, key, certificate) = (tls::BULK, tls::KEY, tls::CERTIFICATE);
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; worker_cpu_affinity 01; worker_rlimit_nofile 40000;\n\
         pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 30000; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;\n  \
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n  \
         uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n  \
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 \"an answer of thirty-eight bytes, always\"; }}\n  \
         location /{PAGE} {{ root {folder}; default_type application/json; gzip on; gzip_types application/json; }} }}\n  \
         server {{ listen 127.0.0.1:{http2_port} http2 backlog=4096; location / {{ return 200 \"an answer of thirty-eight bytes, always\"; }} }}\n  \
         server {{ listen 127.0.0.1:{tls_port} ssl backlog=4096; ssl_certificate {folder}/{certificate}; ssl_certificate_key {folder}/{key};\n  \
         location / {{ return 200; }} location /{bulk} {{ root {folder}; }} }}\n}}\n"
    )
}

/// Some 4 KiB of JSON, as a service lists things.
fn page() -> String {
    let things = (0_u64..48).map(|number| {
        let price = number * 7919 % 10_007;
        format!("{{\"id\":{number},\"name\":\"thing {:x}\",\"price\":{price},\"stock\":{}}}", price * price, price % 89)
    });
    format!("[{}]", things.collect::<Vec<_>>().join(","))
}
