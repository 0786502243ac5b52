//! What is known of `AF_UNIX` sockets: the address they were bound to, and who connected.

use auditor_wire::segment::SocketId;

use crate::{cache::Cache, capture::syscalls::UnixSocket};

/// Sockets that are remembered.
const REMEMBERED: usize = 16_384;

/// The sockets met lately.
#[derive(Debug)]
pub(super) struct UnixSockets {
    known: Cache<SocketId, UnixSocket>,
}

impl Default for UnixSockets {
    fn default() -> Self {
        Self { known: Cache::new(REMEMBERED) }
    }
}

impl UnixSockets {
    pub(super) const LIMIT: usize = REMEMBERED;

    pub(super) fn insert(&mut self, socket: SocketId, known: UnixSocket) {
        self.known.insert(socket, known);
    }

    pub(super) fn get(&mut self, socket: SocketId) -> Option<UnixSocket> {
        self.known.get(&socket).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
