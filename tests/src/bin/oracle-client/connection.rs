//! One connection and the ways to put a request on it.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use auditor_tests::http1::Responses;

use crate::{Row, uring::Uring};

/// What goes through an upgraded connection.
const NOT_HTTP: &[u8] = b"GET is not a request here\r\n\r\n";

/// Bytes to and from the server.
#[derive(Debug)]
enum Stream {
    Socket(TcpStream),
    Uring(Box<Uring>, TcpStream),
}

/// A connection on which calls are made.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    responses: Responses<Stream>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.read(buffer),
            Self::Uring(ring, socket) => ring.receive(socket.as_raw_fd(), buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.write(bytes),
            Self::Uring(ring, socket) => ring.send(socket.as_raw_fd(), bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    fn fd(&self) -> RawFd {
        match self {
            Self::Socket(socket) | Self::Uring(_, socket) => socket.as_raw_fd(),
        }
    }
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, uring: bool) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(20))
            .with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let stream = if uring { Stream::Uring(Box::new(Uring::new()?), socket) } else { Stream::Socket(socket) };
        Ok(Self { address, responses: Responses::new(stream) })
    }

    /// Sends the requests of a batch together and reads their answers.
    pub(crate) fn call(&mut self, batch: &[Row], usable: &mut bool) -> Result<Vec<u16>> {
        let first = batch.first().context("batches are not empty")?;
        let message: Vec<u8> = batch.iter().flat_map(|row| self.message(row)).collect();
        let fd = self.responses.get_mut().fd();
        match first.mode.split_once(':').unwrap_or((&first.mode, "")) {
            ("bytes", _) => message.chunks(1).try_for_each(|byte| self.responses.get_mut().write_all(byte))?,
            ("split", at) => {
                let (head, tail) = message.split_at(at.parse::<usize>()? % message.len());
                self.responses.get_mut().write_all(head)?;
                self.responses.get_mut().write_all(tail)?;
            }
            ("sendfile", _) => sendfile(fd, &message)?,
            ("splice", _) => splice(fd, &message)?,
            ("expect", _) => return self.expect(first, &message, usable),
            _ => self.responses.get_mut().write_all(&message)?,
        }
        let mut statuses = Vec::new();
        for row in batch {
            let response = self.responses.next(&row.method, false)?;
            *usable &= !response.last;
            statuses.push(response.status);
        }
        if first.mode == "upgrade" {
            self.responses.get_mut().write_all(NOT_HTTP)?;
            let echo = self.responses.exactly(NOT_HTTP.len())?;
            ensure!(echo == NOT_HTTP, "the upgraded connection does not echo");
            *usable = false;
        }
        Ok(statuses)
    }

    fn expect(&mut self, row: &Row, message: &[u8], usable: &mut bool) -> Result<Vec<u16>> {
        let (head, body) = message.split_at(message.len() - row.body);
        self.responses.get_mut().write_all(head)?;
        let go_on = self.responses.next(&row.method, true)?;
        ensure!(go_on.status == 100, "{} instead of 100 Continue", go_on.status);
        self.responses.get_mut().write_all(body)?;
        let response = self.responses.next(&row.method, false)?;
        *usable &= !response.last;
        Ok(vec![response.status])
    }

    fn message(&self, row: &Row) -> Vec<u8> {
        let target =
            if row.mode == "absolute" { format!("http://{}{}", self.address, row.target) } else { row.target.clone() };
        let version = if row.mode == "http10" { "1.0" } else { "1.1" };
        let mut lines = vec![format!("{} {target} HTTP/{version}", row.method), format!("Host: {}", self.address)];
        lines.extend(row.headers.iter().cloned());
        let chunked = matches!(row.mode.as_str(), "chunked" | "length-and-chunked");
        match row.mode.as_str() {
            "http10" => lines.push("Connection: keep-alive".into()),
            "expect" => lines.push("Expect: 100-continue".into()),
            "upgrade" => lines.extend(["Connection: Upgrade".into(), "Upgrade: oracle".into()]),
            // The length of the first chunk's line: who believes it reads the rest as the next request.
            "length-and-chunked" => lines.push("Content-Length: 4".into()),
            _ => {}
        }
        if chunked {
            lines.push("Transfer-Encoding: chunked".into());
        } else if row.body > 0 {
            lines.push(format!("Content-Length: {}", row.body));
        }
        let end = if row.mode == "bare-lf" { "\n" } else { "\r\n" };
        let mut message = (lines.join(end) + end + end).into_bytes();
        if chunked {
            message.extend(format!("{:x};note=\"a\"\r\n", row.body).bytes().chain(vec![b'c'; row.body]));
            message.extend(b"\r\n0\r\nX-Trailer: yes\r\n\r\n");
        } else {
            message.resize(message.len() + row.body, b'b');
        }
        message
    }
}

/// A file in memory that holds the message.
fn memory_file(message: &[u8]) -> Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"request".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        bail!("memfd_create: {}", io::Error::last_os_error());
    }
    // SAFETY: memfd_create returned a descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(message)?;
    Ok(file)
}

fn sendfile(socket: RawFd, message: &[u8]) -> Result<()> {
    let file = memory_file(message)?;
    let mut offset = 0;
    while usize::try_from(offset)? < message.len() {
        // SAFETY: both descriptors are open and `offset` outlives the call.
        let sent = unsafe { libc::sendfile(socket, file.as_raw_fd(), &raw mut offset, message.len()) };
        ensure!(sent > 0, "sendfile: {}", io::Error::last_os_error());
    }
    Ok(())
}

fn splice(socket: RawFd, message: &[u8]) -> Result<()> {
    let file = memory_file(message)?;
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, "pipe2: {}", io::Error::last_os_error());
    // SAFETY: pipe2 returned descriptors that nobody else owns.
    let (output, input) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let mut offset = 0_i64;
    while usize::try_from(offset)? < message.len() {
        // SAFETY: the descriptors are open, `offset` outlives the call, and a pipe takes no offset.
        let moved = unsafe {
            libc::splice(file.as_raw_fd(), &raw mut offset, input.as_raw_fd(), ptr::null_mut(), message.len(), 0)
        };
        ensure!(moved > 0, "splice into the pipe: {}", io::Error::last_os_error());
        let mut left = moved.cast_unsigned();
        while left > 0 {
            // SAFETY: the descriptors are open; neither a pipe nor a socket takes an offset.
            let sent = unsafe { libc::splice(output.as_raw_fd(), ptr::null_mut(), socket, ptr::null_mut(), left, 0) };
            ensure!(sent > 0, "splice into the socket: {}", io::Error::last_os_error());
            left -= sent.cast_unsigned();
        }
    }
    Ok(())
}
