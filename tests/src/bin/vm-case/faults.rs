//! What happens to a machine while calls go on: its clock is stepped, a processor goes and comes back.

use std::{fs, io, net::TcpStream, thread, time::Duration};

use anyhow::{Context as _, Result};
use auditor_tests::http1::Responses;

use super::{CASES, Calls};

/// The second processor; the first cannot be taken away.
const PROCESSOR: &str = "/sys/devices/system/cpu/cpu1/online";
const HOUR: libc::time_t = 3600;
/// How long the machine may take to settle: what runs on a processor moves to another, and the auditor reads what came before. It says of
/// a call when it was by the clock as that is when it reads of it.
const SETTLED: Duration = Duration::from_secs(2);

/// Makes calls before and after each fault: on a connection as old as the first of them, and on one that it finds new.
pub(crate) fn call() -> Result<()> {
    let calls = Calls::start()?;
    let address = calls.addresses[0];
    let mut old = Responses::new(TcpStream::connect(address)?);
    for fault in ["none", "forward", "back", "offline", "online"] {
        thread::sleep(SETTLED);
        match fault {
            "forward" => step(HOUR)?,
            "back" => step(-2 * HOUR)?,
            "offline" => processor("0")?,
            "online" => processor("1")?,
            _ => {}
        }
        let mut new = Responses::new(TcpStream::connect(address)?);
        for number in 0..2 * CASES.len() {
            calls.make(&mut old, number, &format!("{fault}-old-{number}"))?;
            calls.make(&mut new, number, &format!("{fault}-new-{number}"))?;
        }
    }
    Ok(())
}

/// Steps the wall clock by so many seconds.
fn step(seconds: libc::time_t) -> Result<()> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both take a pointer to a timespec that outlives the call.
    let set = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        now.tv_sec += seconds;
        libc::clock_settime(libc::CLOCK_REALTIME, &raw const now)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("the clock cannot be set") }
}

fn processor(online: &str) -> Result<()> {
    fs::write(PROCESSOR, online).with_context(|| format!("{PROCESSOR}: cannot write {online}"))
}
