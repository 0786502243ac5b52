//! A network namespace for one thread: nothing in it but a loopback interface. The kernel takes it away with the thread and its
//! sockets, however the test ends.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
};

use anyhow::{Context as _, Result, ensure};

use crate::auditor::{answer, get};

/// Makes a namespace, one call of `path` inside without credentials, and takes the namespace away.
///
/// # Errors
/// When a step fails.
pub fn call_inside(path: &str) -> Result<()> {
    thread::scope(|scope| scope.spawn(|| called(path)).join().expect("no step panics"))
}

fn called(path: &str) -> Result<()> {
    // SAFETY: it concerns this thread alone, and touches no memory.
    let made = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    ensure!(made == 0, "no network namespace: {}", io::Error::last_os_error());
    loopback_up()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen in the namespace")?;
    let address = listener.local_addr()?;
    let answered = thread::scope(|scope| {
        // Started from here, so it is in this namespace, too.
        let server = scope.spawn(move || answer(listener.accept()?.0));
        let answered = get(address, path);
        if answered.is_err() {
            // Nobody may have come: then this lets it end.
            drop(TcpStream::connect(address));
        }
        server.join().expect("it does not panic")?;
        answered
    })?;
    ensure!(answered.starts_with("HTTP/1.1 200"), "the server inside answered {answered:?}");
    Ok(())
}

/// A new namespace's loopback interface is down (netdevice(7)).
fn loopback_up() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: integers, byte arrays and a union of such have no invalid values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::try_from(*from)?;
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
    // SAFETY: the kernel reads the structure that is passed.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    ensure!(set == 0, "lo stays down: {}", io::Error::last_os_error());
    Ok(())
}
