//! The server.

use std::{
    io::{Read as _, Write as _, stdin, stdout},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};
use auditor_tests::http1::header;
use rustls::ServerConfig;

use crate::{
    Case,
    keys::{Session, server_config},
    talk::Way,
};

/// Listens, prints where, and answers until standard input ends.
pub(crate) fn run(case: &'static Case) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let config = server_config(case.version, usize::from(case.way == Way::Messages) * 2)?;
    writeln!(stdout(), "{}", listener.local_addr()?)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                if let Err(error) = answer(stream, &config, case) {
                    eprintln!("{}: server: {error:#}", case.name);
                }
            });
        }
    });
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>, case: &Case) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut talk = Session::server(stream, config, case.version)?.offload(case.server, case.way)?;
    let mut bytes = Vec::new();
    loop {
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match talk.receive(&mut buffer)?.context("a server reads its requests")? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        let head = String::from_utf8_lossy(&bytes).into_owned();
        bytes.clear();
        let known = header(&head, "authorization").or(header(&head, "x-api-key")).is_some();
        let status = if head.starts_with("GET /guarded/") && !known { "401 Unauthorized" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n");
        if case.way == Way::Sendfile {
            talk.send(answer.as_bytes())?;
            talk.send_body(b"ok")?;
        } else {
            talk.send(format!("{answer}ok").as_bytes())?;
        }
    }
}
