//! One call each way that bytes get into a socket: what a hook sees of it and what it does not is for the caller to say.

use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, IoSlice, Read, Write, stdin, stdout},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, Stdio, id},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use io_uring::{IoUring, opcode, types};
use serde_json::json;

use super::{Server, answer};

/// Every way, as `docs/kernels.md` names it.
const WAYS: [&str; 9] =
    ["write", "iovecs", "three writes", "seven bytes", "io_uring", "sendfile", "splice", "MPTCP", "AF_UNIX"];

/// `AF_INET`, as an address has it.
const INET: libc::sa_family_t = 2;
/// Bytes of an IPv4 address as the kernel has it (`struct sockaddr_in`).
const ADDRESS_BYTES: libc::socklen_t = 16;

/// `IPPROTO_MPTCP` (include/uapi/linux/in.h).
const MPTCP: libc::c_int = 262;

/// Listens on a TCP, an MPTCP and an AF_UNIX socket, prints their addresses (`-` for what the kernel does not have), and answers
/// until standard input ends.
pub(crate) fn serve() -> Result<()> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mptcp = mptcp_listener().ok();
    let path = env::temp_dir().join(format!("vm-case-{}.socket", id()));
    let unix = UnixListener::bind(&path)?;
    let address = mptcp.as_ref().and_then(|listener| Some(listener.local_addr().ok()?.to_string()));
    writeln!(stdout(), "{}\n{}\n{}", tcp.local_addr()?, address.as_deref().unwrap_or("-"), path.display())?;
    for listener in [Some(tcp), mptcp].into_iter().flatten() {
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || drop(stream.try_clone().map_err(Into::into).and_then(|w| answer(stream, w))));
            }
        });
    }
    thread::spawn(move || {
        for stream in unix.incoming().flatten() {
            thread::spawn(move || drop(stream.try_clone().map_err(Into::into).and_then(|w| answer(stream, w))));
        }
    });
    stdin().read_to_end(&mut Vec::new())?;
    drop(std::fs::remove_file(path));
    Ok(())
}

/// Makes one call each way, and for each prints the path and who called whom; `made` is false where the kernel does not have it.
pub(crate) fn call() -> Result<()> {
    let program = env::current_exe()?;
    let mut server =
        Server(Command::new(&program).arg("serve-ways").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let output = server.0.stdout.take().context("standard output is piped")?;
    let lines: Vec<String> = BufReader::new(output).lines().take(3).collect::<Result<_, _>>()?;
    let [tcp, mptcp, unix] = &lines[..] else { bail!("the server says {lines:?}") };
    let mut out = stdout().lock();
    for way in WAYS {
        let path = format!("/way/{}", way.replace(' ', "-"));
        let head = format!("GET {path} HTTP/1.1\r\nHost: ways\r\nX-Filler: {}\r\n\r\n", "x".repeat(100));
        let made = match way {
            "AF_UNIX" => exchange(UnixStream::connect(PathBuf::from(unix))?, &head, 4096).map(|()| true)?,
            "MPTCP" => match mptcp.parse::<SocketAddr>() {
                Ok(SocketAddr::V4(address)) => exchange(mptcp_stream(address)?, &head, 4096).map(|()| true)?,
                _ => false,
            },
            _ => over_tcp(way, tcp.parse()?, head.as_bytes()).map(|()| true)?,
        };
        writeln!(out, "{}", json!({"way": way, "path": path, "made": made, "client": id(), "server": server.0.id()}))?;
    }
    Ok(())
}

fn over_tcp(way: &str, address: SocketAddr, head: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (first, rest) = head.split_at(9);
    let (second, third) = rest.split_at(20);
    let mut step = 4096;
    match way {
        "write" => stream.write_all(head)?,
        "seven bytes" => {
            stream.write_all(head)?;
            step = 7;
        }
        "three writes" => [first, second, third].into_iter().try_for_each(|part| stream.write_all(part))?,
        "iovecs" => {
            let (third, fourth) = third.split_at(40);
            let parts = [first, second, third, fourth].map(IoSlice::new);
            ensure!(stream.write_vectored(&parts)? == head.len(), "writev wrote less");
        }
        "io_uring" => return by_ring(&stream, head),
        "sendfile" => {
            let file = file_with(head)?;
            // SAFETY: both descriptors are open; a null offset means the file's own.
            let sent =
                unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), head.len()) };
            ensure!(usize::try_from(sent).ok() == Some(head.len()), "sendfile sent {sent}");
        }
        "splice" => {
            let (reader, mut writer) = std::io::pipe()?;
            writer.write_all(head)?;
            // SAFETY: both descriptors are open; null offsets are what pipes and sockets want.
            let sent = unsafe {
                let none = std::ptr::null_mut();
                libc::splice(reader.as_raw_fd(), none, stream.as_raw_fd(), none, head.len(), 0)
            };
            ensure!(usize::try_from(sent).ok() == Some(head.len()), "splice sent {sent}");
        }
        _ => bail!("no way {way}"),
    }
    response(&mut stream, step)
}

fn exchange<S: Read + Write>(mut stream: S, head: &str, step: usize) -> Result<()> {
    stream.write_all(head.as_bytes())?;
    response(&mut stream, step)
}

/// Reads the response, `step` bytes at a time.
fn response(stream: &mut impl Read, step: usize) -> Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; step];
    while !bytes.ends_with(b"\r\n\r\nok") {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the response ends after {} bytes", bytes.len());
        bytes.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

fn by_ring(stream: &TcpStream, head: &[u8]) -> Result<()> {
    let mut ring = IoUring::new(4)?;
    let socket = types::Fd(stream.as_raw_fd());
    let length = u32::try_from(head.len())?;
    let send = opcode::Send::new(socket, head.as_ptr(), length).build();
    ensure!(submit(&mut ring, &send)? == i32::try_from(head.len())?, "io_uring sent less");
    let mut bytes = Vec::new();
    let mut buffer = [0; 512];
    while !bytes.ends_with(b"\r\n\r\nok") {
        let receive = opcode::Recv::new(socket, buffer.as_mut_ptr(), 512).build();
        let count = usize::try_from(submit(&mut ring, &receive)?).context("io_uring received")?;
        ensure!(count > 0, "the response ends after {} bytes", bytes.len());
        bytes.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

fn submit(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> Result<i32> {
    // SAFETY: the buffers live until the entry is completed, which is waited for.
    unsafe { ring.submission().push(entry)? };
    ring.submit_and_wait(1)?;
    let completed = ring.completion().next().context("nothing was completed")?;
    Ok(completed.result())
}

fn file_with(bytes: &[u8]) -> Result<File> {
    let path = env::temp_dir().join(format!("vm-case-{}.head", id()));
    std::fs::write(&path, bytes)?;
    let file = File::open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn mptcp_socket() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd: RawFd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, MPTCP) };
    ensure!(fd >= 0, "no MPTCP: {}", std::io::Error::last_os_error());
    // SAFETY: it is new, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: INET,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn mptcp_listener() -> Result<TcpListener> {
    let socket = mptcp_socket()?;
    let address = raw_address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    // SAFETY: the address is as long as is said.
    let done = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) == 0
            && libc::listen(socket.as_raw_fd(), 8) == 0
    };
    ensure!(done, "no MPTCP: {}", std::io::Error::last_os_error());
    Ok(TcpListener::from(socket))
}

fn mptcp_stream(address: SocketAddrV4) -> Result<TcpStream> {
    let socket = mptcp_socket()?;
    let address = raw_address(address);
    // SAFETY: the address is as long as is said.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
    ensure!(connected == 0, "no MPTCP: {}", std::io::Error::last_os_error());
    Ok(TcpStream::from(socket))
}
