//! The server: answers any path as the call's `x-answer` asks.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, body::Body, server, transport::Server};
use tower_service::Service;

use crate::{Error, plain::Plain};

/// Answers that wait for the connection.
const AHEAD: usize = 16;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone)]
struct Calls;

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(server::Grpc::new(Plain).streaming(Self, request).await) })
    }
}

impl Service<Request<Streaming<Bytes>>> for Calls {
    type Response = Response<ReceiverStream<Result<Bytes, Status>>>;
    type Error = Status;
    type Future = Later<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(answer(request))
    }
}

async fn answer(request: Request<Streaming<Bytes>>) -> Result<Response<ReceiverStream<Result<Bytes, Status>>>, Status> {
    let asked = request.metadata().get("x-answer").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let [mode, numbers @ ..] = &asked.split(' ').collect::<Vec<_>>()[..] else { return Err(Status::internal("how?")) };
    let numbers: Vec<usize> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let [status, count, size] = numbers[..] else { return Err(Status::internal("how?")) };
    let ended = Status::new(Code::from_i32(i32::try_from(status).unwrap_or(-1)), "as asked");
    match *mode {
        "early" => return Err(ended),
        "hang" if count == 0 => return pending().await,
        _ => {}
    }
    let (reads, echoes, hangs) = (matches!(*mode, "after" | "echo"), *mode == "echo", *mode == "hang");
    let (answers, stream) = mpsc::channel(AHEAD);
    let mut messages = request.into_inner();
    tokio::spawn(async move {
        let payload = Bytes::from(vec![b'a'; size]);
        while reads && let Ok(Some(_)) = messages.message().await {
            if echoes && answers.send(Ok(payload.clone())).await.is_err() {
                return;
            }
        }
        for _ in 0..count {
            if answers.send(Ok(payload.clone())).await.is_err() {
                return;
            }
        }
        if hangs {
            return answers.closed().await;
        }
        if status != 0 {
            // Whether anybody still listens does not matter.
            drop(answers.send(Err(ended)).await);
        }
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// Prints its port and answers until standard input ends.
pub(crate) async fn serve() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let server = Server::builder().http2_max_header_list_size(131_072);
    let mut rest = Vec::new();
    let mut input = tokio::io::stdin();
    tokio::select! {
        ended = server.serve_with_incoming(Calls, TcpListenerStream::new(listener)) => Ok(ended?),
        read = input.read_to_end(&mut rest) => Ok(read.map(drop)?),
    }
}
