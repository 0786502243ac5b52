//! The HTTP side of the daemon: `/metrics`, `/healthz`, `/readyz`, on a thread of its own. It only reads.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Sleep, sleep},
};

use crate::config::reason_of;

/// Connections served at once; more wait.
const CONNECTIONS: usize = 32;
/// A connection is closed after this time, so that idle ones cannot keep others out. Scrapers just open another.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long a stop waits for answers that are under way.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// A pipeline that did not come round for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {}; {remedy}", reason_of(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The thread or its runtime cannot be started.
    #[error("cannot start the thread that serves metrics: {0}; check the limits on threads and memory")]
    Thread(io::Error),
}

/// How the pipeline does; it writes, the endpoint reads.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    ready: AtomicBool,
    /// Milliseconds from `started` to when the pipeline last came round.
    round: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), ready: AtomicBool::new(false), round: AtomicU64::new(0) }
    }
}

impl Health {
    /// Capture is attached, or not any more.
    pub fn set_ready(&self, ready: bool) {
        self.round();
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The pipeline came round.
    pub fn round(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.round.store(now, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn is_stuck(&self) -> bool {
        let since = self.started.elapsed().saturating_sub(Duration::from_millis(self.round.load(Ordering::Relaxed)));
        self.is_ready() && since > STUCK
    }
}

/// What is served.
struct Pages {
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    content_type: &'static str,
    health: Arc<Health>,
}

/// The running endpoint. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` and serves from then on. `metrics` gives the page for Prometheus, of type `content_type`.
    ///
    /// # Errors
    /// When the address cannot be listened at, or no thread can be started.
    pub fn start(
        address: SocketAddr,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        content_type: &'static str,
        health: Arc<Health>,
    ) -> Result<Self, ServerError> {
        let fail = |source: io::Error| {
            let remedy = match source.kind() {
                io::ErrorKind::AddrInUse => "stop what listens there, or give another --listen address",
                io::ErrorKind::PermissionDenied => "take a port above 1023",
                _ => "give an address of this machine with --listen",
            };
            ServerError::Listen { address, source, remedy }
        };
        let listener = std::net::TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ServerError::Thread)?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).map_err(fail)?
        };
        let (stop, stopped) = oneshot::channel();
        let pages = Arc::new(Pages { metrics: Box::new(metrics), content_type, health });
        let thread = thread::Builder::new()
            .name("auditor-http".to_owned())
            .spawn(move || runtime.block_on(serve(listener, pages, stopped)))
            .map_err(ServerError::Thread)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; the port that was chosen when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The receiver is gone when the thread has ended already.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that served metrics had panicked");
        }
    }
}

async fn serve(listener: TcpListener, pages: Arc<Pages>, stopped: oneshot::Receiver<()>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(pages);
    let (draining, drain_began) = oneshot::channel::<()>();
    let listener = Limited { listener, permits: Arc::new(Semaphore::new(CONNECTIONS)) };
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        // Both a word and a dropped sender mean: stop.
        let _ = stopped.await;
        drop(draining);
    });
    tokio::select! {
        _ = serving => {}
        () = async {
            let _ = drain_began.await;
            sleep(STOP_WAIT).await;
        } => {}
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    ([(CONTENT_TYPE, pages.content_type)], (pages.metrics)()).into_response()
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    if pages.health.is_stuck() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the pipeline is stuck\n").into_response();
    }
    "ok\n".into_response()
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    if pages.health.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "capture is not attached\n").into_response()
}

/// A listener that serves a bounded number of connections, each for a bounded time.
struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    return (Bounded { stream, expires: Box::pin(sleep(LIFETIME)), _permit: permit }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to the metrics endpoint was not accepted");
                    // Out of file descriptors, most likely: waiting is all that helps.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
struct Bounded {
    stream: TcpStream,
    expires: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        self.expires.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.expired(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.expired(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpStream},
    };

    use super::*;

    fn start() -> (Server, Arc<Health>) {
        let health = Arc::new(Health::default());
        let page = || "auditor_build_info 1\n".to_owned();
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), page, "text/plain", Arc::clone(&health));
        (server.expect("a free port"), health)
    }

    fn get(server: &Server, path: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        answer
    }

    #[test]
    fn serves_metrics_and_health() {
        let (server, health) = start();
        let page = get(&server, "/metrics");
        assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("auditor_build_info 1\n"), "{page}");
        assert!(page.contains("content-type: text/plain"), "{page}");
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(get(&server, "/readyz").starts_with("HTTP/1.1 503"));
        health.set_ready(true);
        assert!(get(&server, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(&server, "/elsewhere").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_port_in_use_is_said_with_the_remedy() {
        let (server, health) = start();
        let error = Server::start(server.address(), String::new, "text/plain", health).expect_err("in use").to_string();
        let expected = format!(
            "cannot listen at {}: address already in use; stop what listens there, or give another --listen address",
            server.address()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn stopping_frees_the_port_though_connections_are_open() {
        let (server, health) = start();
        let address = server.address();
        let mut idle = TcpStream::connect(address).expect("listens");
        idle.write_all(b"GET /metr").expect("writes half a request");
        drop(server);
        assert!(Server::start(address, String::new, "text/plain", health).is_ok());
    }

    #[test]
    fn a_pipeline_that_does_not_come_round_is_unhealthy() {
        let health = Health { started: Instant::now().checked_sub(2 * STUCK).expect("long ago"), ..Health::default() };
        assert!(!health.is_stuck(), "not ready yet");
        health.ready.store(true, Ordering::Relaxed);
        assert!(health.is_stuck());
        health.round();
        assert!(!health.is_stuck());
    }
}
