//! The client: carries out the calls that come on standard input.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::LocalSet,
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{Error, plain::Plain};

struct Call {
    number: String,
    port: u16,
    shape: String,
    messages: usize,
    size: usize,
    ending: String,
    expected: i32,
    headers: MetadataMap,
}

impl Call {
    fn read(line: &str) -> Result<Self, Error> {
        let words: Vec<&str> = line.split('\t').collect();
        let [number, port, shape, messages, size, ending, expected, ref pairs @ ..] = words[..] else {
            return Err(format!("no call: {line:?}").into());
        };
        let mut headers = MetadataMap::new();
        for (name, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
            if name.ends_with("-bin") {
                headers.insert_bin(name.parse::<BinaryMetadataKey>()?, MetadataValue::from_bytes(value.as_bytes()));
            } else {
                headers.insert(name.parse::<AsciiMetadataKey>()?, value.parse()?);
            }
        }
        let (messages, size, expected) = (messages.parse()?, size.parse()?, expected.parse()?);
        let (number, shape, ending) = (number.to_owned(), shape.to_owned(), ending.to_owned());
        Ok(Self { number, port: port.parse()?, shape, messages, size, ending, expected, headers })
    }

    fn is_silent(&self) -> bool {
        self.ending == "silent"
    }
}

/// Carries a call out, as far as it goes.
async fn carry_out(channel: &Channel, call: &Call) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path: PathAndQuery = format!("/oracle.Calls/{}", call.number).parse().expect("digits");
    let payload = Bytes::from(vec![b'q'; call.size]);
    let mut request = Request::new(tokio_stream::iter(vec![payload.clone(); call.messages]));
    *request.metadata_mut() = call.headers.clone();
    let one = Request::from_parts(call.headers.clone(), Default::default(), payload);
    let mut answers = match call.shape.as_str() {
        "unary" => return client.unary(one, path, Plain).await.map(drop),
        "client" => return client.client_streaming(request, path, Plain).await.map(drop),
        "server" => client.server_streaming(one, path, Plain).await?.into_inner(),
        _ => client.streaming(request, path, Plain).await?.into_inner(),
    };
    while answers.message().await?.is_some() {
        if call.ending == "first" {
            return Err(Status::cancelled("the first will do"));
        }
    }
    Ok(())
}

async fn one(channel: &Channel, call: &Call) {
    let code = carry_out(channel, call).await.map_or_else(|status| status.code(), |()| Code::Ok);
    if code as i32 != call.expected {
        println!("{} ended with {code}", call.number);
    }
}

/// A call that gets no answer, until another one, sent after it, has got its own.
async fn silent(channel: &Channel, call: &Call, ping: &Call) {
    let mut waits = pin!(carry_out(channel, call));
    tokio::select! {
        biased;
        ended = &mut waits => println!("{} ended with {ended:?}", call.number),
        () = one(channel, ping) => {}
    }
}

async fn work(channel: Channel, calls: Rc<RefCell<VecDeque<Call>>>) {
    let next = || {
        let mut calls = calls.borrow_mut();
        let call = calls.pop_front()?;
        let ping = call.is_silent().then(|| calls.pop_front()).flatten();
        Some((call, ping))
    };
    while let Some((call, ping)) = next() {
        match ping {
            Some(ping) => silent(&channel, &call, &ping).await,
            None => one(&channel, &call).await,
        }
    }
}

async fn connect(port: u16) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    let endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(10)).keep_alive_while_idle(true);
    Ok(endpoint.http2_max_header_list_size(131_072).connect().await?)
}

/// Carries out what comes on standard input, until it ends.
pub(crate) async fn call(connections: usize, concurrent: usize) -> Result<(), Error> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let (mut channels, mut waiting) = (BTreeMap::<u16, Vec<Channel>>::new(), BTreeMap::<u16, Vec<Call>>::new());
    while let Some(line) = input.next_line().await? {
        if !line.is_empty() {
            let call = Call::read(&line)?;
            waiting.entry(call.port).or_default().push(call);
            continue;
        }
        let all = LocalSet::new();
        for (port, mut calls) in std::mem::take(&mut waiting) {
            let opened = channels.entry(port).or_default();
            while opened.len() < connections {
                opened.push(connect(port).await?);
            }
            let part = calls.len().div_ceil(connections);
            for channel in opened {
                let share: VecDeque<Call> = calls.drain(..part.min(calls.len())).collect();
                let share = Rc::new(RefCell::new(share));
                for _ in 0..concurrent {
                    all.spawn_local(work(channel.clone(), Rc::clone(&share)));
                }
            }
        }
        all.await;
        println!("done");
    }
    Ok(())
}
