//! Ways that plaintext gets to and from the kernel.

use std::{
    env,
    fs::File,
    io::{self, IoSlice, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};

use crate::keys::{SOL_TLS, Session, through};

/// `TLS_SET_RECORD_TYPE` (include/uapi/linux/tls.h), and types of records (RFC 8446 section 5.1).
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const ALERT: u8 = 21;
const DATA: u8 = 23;
/// A warning that means nothing to anybody: `user_canceled` (RFC 8446 section 6.1).
const USER_CANCELED: [u8; 2] = [1, 90];

/// How an end talks to the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `write` and `read`.
    Plain,
    /// `sendmsg` and `recvmsg` with control messages, alerts and tickets among the data.
    Messages,
    /// `writev` of four pieces, `read` of seven bytes.
    Pieces,
    /// What comes is peeked at before it is read.
    Peeked,
    /// The server's bodies go by `sendfile`.
    Sendfile,
}

/// One end of a connection.
pub(crate) enum Talk<'a> {
    /// The kernel has keys, maybe not those of what comes.
    Kernel { stream: TcpStream, way: Way, reads: bool },
    /// rustls has them.
    Own(Box<Session>),
    /// rustls still has them.
    Library(&'a mut Session),
}

impl Talk<'_> {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let (stream, way) = match self {
            Self::Kernel { stream, way, .. } => (stream, *way),
            Self::Own(session) => return through(&mut session.tls, &mut session.stream).send(bytes),
            Self::Library(session) => return through(&mut session.tls, &mut session.stream).send(bytes),
        };
        match way {
            Way::Plain | Way::Peeked | Way::Sendfile => stream.write_all(bytes)?,
            Way::Pieces => {
                let (first, rest) = bytes.split_at(9);
                let (second, rest) = rest.split_at(20);
                let (third, fourth) = rest.split_at(3);
                let parts = [first, second, third, fourth].map(IoSlice::new);
                ensure!(stream.write_vectored(&parts)? == bytes.len(), "writev wrote less");
            }
            Way::Messages => {
                message(stream, &USER_CANCELED, ALERT)?;
                let (first, second) = bytes.split_at(11);
                message(stream, first, DATA)?;
                message(stream, second, DATA)?;
            }
        }
        Ok(())
    }

    /// Sends a body.
    pub(crate) fn send_body(&mut self, body: &[u8]) -> Result<()> {
        match self {
            Self::Kernel { stream, way: Way::Sendfile, .. } => {
                let path = env::temp_dir().join(format!("ktls-case-{}", std::process::id()));
                std::fs::write(&path, body)?;
                let file = File::open(&path)?;
                let none = std::ptr::null_mut();
                // SAFETY: both descriptors are open; a null offset means the file's own.
                let sent = unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), none, body.len()) };
                ensure!(usize::try_from(sent).ok() == Some(body.len()), "sendfile: {}", io::Error::last_os_error());
                Ok(())
            }
            other => other.send(body),
        }
    }

    /// What comes next; 0 bytes when nothing does. `None`: it came, and cannot be read.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let (stream, way, reads) = match self {
            Self::Kernel { stream, way, reads } => (stream, *way, *reads),
            Self::Own(session) => return through(&mut session.tls, &mut session.stream).receive(buffer).map(Some),
            Self::Library(session) => return through(&mut session.tls, &mut session.stream).receive(buffer).map(Some),
        };
        if !reads {
            // A record as it is on the wire.
            let mut header = [0; 5];
            stream.read_exact(&mut header)?;
            let mut sealed = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            stream.read_exact(&mut sealed)?;
            return Ok(None);
        }
        Ok(Some(match way {
            Way::Messages => received(stream, buffer)?,
            Way::Pieces => {
                let most = buffer.len().min(7);
                stream.read(&mut buffer[..most])?
            }
            Way::Peeked => {
                let mut ahead = [0; 16];
                stream.peek(&mut ahead)?;
                stream.read(buffer)?
            }
            Way::Plain | Way::Sendfile => stream.read(buffer)?,
        }))
    }
}

/// Makes a call; the status, where the answer can be read. Its body is `ok`.
pub(crate) fn exchange(talk: &mut Talk<'_>, request: &str) -> Result<Option<u16>> {
    talk.send(request.as_bytes())?;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nok") {
        let mut buffer = [0; 4096];
        match talk.receive(&mut buffer)? {
            None => return Ok(None),
            Some(count) => {
                ensure!(count > 0, "the answer ends after {} bytes", bytes.len());
                bytes.extend_from_slice(&buffer[..count]);
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).context("no status")?;
    Ok(Some(status.parse()?))
}

/// Room for one control message with one byte.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends a record of a type.
fn message(stream: &TcpStream, bytes: &[u8], kind: u8) -> Result<()> {
    let mut control = Control([0; 24]);
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: integers and pointers: zeroes make one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut piece, 1);
    (header.msg_control, header.msg_controllen) = ((&raw mut control).cast(), 24);
    // SAFETY: the control message has room for what is written, and what the header points at lives as long as the call.
    let sent = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        ((*first).cmsg_level, (*first).cmsg_type) = (SOL_TLS, TLS_SET_RECORD_TYPE);
        (*first).cmsg_len = libc::CMSG_LEN(1) as usize;
        *libc::CMSG_DATA(first) = kind;
        libc::sendmsg(stream.as_raw_fd(), &raw const header, 0)
    };
    ensure!(usize::try_from(sent).ok() == Some(bytes.len()), "sendmsg: {}", io::Error::last_os_error());
    Ok(())
}

/// Receives the next data; records of other types are passed over.
fn received(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize> {
    loop {
        let mut control = Control([0; 24]);
        let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: integers and pointers: zeroes make one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        (header.msg_iov, header.msg_iovlen) = (&raw mut piece, 1);
        (header.msg_control, header.msg_controllen) = ((&raw mut control).cast(), 24);
        // SAFETY: what the header points at lives as long as the call.
        let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut header, 0) };
        ensure!(count >= 0, "recvmsg: {}", io::Error::last_os_error());
        // SAFETY: the kernel has written the control message it says it has.
        let kind = unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (!first.is_null()).then(|| *libc::CMSG_DATA(first))
        };
        if count == 0 || kind.is_none_or(|kind| kind == DATA) {
            return Ok(usize::try_from(count)?);
        }
    }
}
