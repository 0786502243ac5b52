//! Sending and receiving through io_uring.

use std::{fmt, io, os::fd::RawFd};

use io_uring::{IoUring, opcode, squeue::Entry, types::Fd};

/// A ring with one operation in flight at a time.
pub(crate) struct Uring(IoUring);

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uring")
    }
}

impl Uring {
    pub(crate) fn new() -> io::Result<Self> {
        IoUring::new(4).map(Self)
    }

    pub(crate) fn send(&mut self, socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: `bytes` outlives the operation, which `complete` waits for.
        unsafe { self.complete(&opcode::Send::new(Fd(socket), bytes.as_ptr(), length).build()) }
    }

    pub(crate) fn receive(&mut self, socket: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        // SAFETY: `buffer` outlives the operation, which `complete` waits for.
        unsafe { self.complete(&opcode::Recv::new(Fd(socket), buffer.as_mut_ptr(), length).build()) }
    }

    /// Performs one operation and waits for it.
    ///
    /// # Safety
    /// The memory the entry names stays valid until this returns.
    unsafe fn complete(&mut self, entry: &Entry) -> io::Result<usize> {
        // SAFETY: the caller keeps the entry's memory valid until this returns.
        unsafe { self.0.submission().push(entry) }.map_err(io::Error::other)?;
        while let Err(error) = self.0.submit_and_wait(1) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let result = self.0.completion().next().map_or(0, |entry| entry.result());
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}
