//! The body of the hooks: what is wanted of what is sent or was read, if anything.

use auditor_abi::{
    counters,
    record::{
        CLASS_CONTINUATION, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, CLASS_TLS, EGRESS,
        PAYLOAD_MAX,
    },
};

use aya_ebpf::bindings::BPF_NOEXIST;

use crate::{
    buffers::user,
    emit::{Transfer, emit},
    globals,
    maps::{self, SOCKETS, Socket, count_loss},
    sniff, socket, tls,
};

/// Transfers without a head, in one direction, after which a connection seen from its start is taken for another protocol.
const MISSES: u32 = 4;
/// [`Socket::http`] after a response with status 101.
const SWITCHED: u32 = 2;
/// Bytes copied of a TLS connection that was met in its middle: a record header.
const TLS_MIDDLE: u32 = 5;

/// The socket's memory, if there is any that is of this connection.
#[inline(always)]
pub fn known(sk: u64, ports: u32) -> Option<&'static mut Socket> {
    let socket = SOCKETS.get_ptr_mut(&sk)?;
    // SAFETY: the value lives as long as the program runs; plain integers, for which torn writes are harmless.
    let socket = unsafe { &mut *socket };
    socket::are_same(ports, socket.ports).then_some(socket)
}

/// Looks at bytes that are sent or were read. `read` is the sequence number of the first byte that was not read before them.
#[inline(always)]
pub fn transfer(transfer: &Transfer<'_>, read: u32) {
    let sk = transfer.sk;
    let ports = socket::ports(sk);
    // No closure: the compiler would make it a function, whose stack adds to this one's.
    let socket = match known(sk, ports) {
        None => meet(sk, ports, read),
        socket => socket,
    };
    let Some(socket) = socket else {
        return count_loss(counters::LOST_SOCKET_STORAGE);
    };
    if socket.quiet != 0 {
        return;
    }
    let half = usize::from(transfer.direction != EGRESS);
    if transfer.direction != EGRESS && socket.next[half] != transfer.sequence {
        // What came before was read in a way that is not seen, and will not come.
        socket.gap[half] = 1;
    }
    socket.next[half] = transfer.sequence.wrapping_add(transfer.length);
    if !transfer.buffers.are_readable() {
        // On the way out a hole shows by itself; on the way in one would be waited for.
        socket.gap[half] |= u32::from(transfer.direction != EGRESS);
        return;
    }
    let (class, wanted) = decide(socket, half, transfer);
    if class != sniff::NOTHING {
        copy(transfer, socket, half, class, wanted);
    }
    if socket.followed == maps::TLS && socket.done[half] == 0 {
        tls::follow(transfer, socket, half);
    }
}

#[inline(always)]
fn copy(transfer: &Transfer<'_>, socket: &mut Socket, half: usize, class: u8, wanted: u32) {
    // SAFETY: places in the socket's memory. Volatile: the verifier is to forget how the values came about.
    let (class, wanted) = unsafe {
        (&raw mut socket.class[half]).write_volatile(u32::from(class));
        (&raw mut socket.wanted[half]).write_volatile(wanted);
        ((&raw const socket.class[half]).read_volatile(), (&raw const socket.wanted[half]).read_volatile())
    };
    emit(transfer, socket, class as u8, wanted);
}

#[inline(always)]
fn meet(sk: u64, ports: u32, read: u32) -> Option<&'static mut Socket> {
    let met = socket::met(sk, ports, read);
    // Another thread may meet it at the same time, with what goes the other way. One that is known by then, and not this one, had the
    // same address before.
    if SOCKETS.insert(&sk, &met, u64::from(BPF_NOEXIST)).is_err() && known(sk, ports).is_none() {
        SOCKETS.insert(&sk, &met, 0).ok()?;
    }
    known(sk, ports)
}

/// The class of the first bytes, and the four bytes behind the eighth.
#[inline(always)]
fn sniffed(transfer: &Transfer<'_>) -> (u8, u32) {
    let (buffer, length) = transfer.buffers.first();
    let length = length.min(u64::from(transfer.length));
    let word = u64::from_le;
    if length >= 24 {
        if let Some([a, b, c]) = user::<[u64; 3]>(buffer) {
            return (sniff::classify([word(a), word(b), word(c)], 24), word(b) as u32);
        }
    } else if length >= 8 {
        if let Some(a) = user::<u64>(buffer) {
            return (sniff::classify([word(a), 0, 0], 8), 0);
        }
    } else if length >= 4 {
        if let Some(a) = user::<u32>(buffer) {
            return (sniff::classify([u64::from(u32::from_le(a)), 0, 0], 4), 0);
        }
    } else if length > 0
        && let Some(a) = user::<u8>(buffer)
    {
        return (sniff::classify([u64::from(a), 0, 0], 1), 0);
    }
    (sniff::NOTHING, 0)
}

/// The class of a transfer and how much of it is wanted; class `NOTHING` when none of it.
#[inline(always)]
fn decide(socket: &mut Socket, half: usize, transfer: &Transfer<'_>) -> (u8, u32) {
    let (sequence, length) = (transfer.sequence, transfer.length);
    if socket.followed == maps::TLS {
        return first_of_tls(transfer, socket, half);
    }
    if socket.followed == maps::HTTP2 {
        return (CLASS_HTTP2, length.min(PAYLOAD_MAX as u32 - 1));
    }
    let (class, behind) = sniffed(transfer);
    let left = left(socket, half, sequence);
    match class {
        CLASS_SHORT if left > 0 => (CLASS_CONTINUATION, length.min(left)),
        CLASS_REQUEST | CLASS_RESPONSE | CLASS_SHORT => {
            let budget = if class == CLASS_RESPONSE {
                globals::load(&globals::RESPONSE_BUDGET)
            } else {
                globals::load(&globals::REQUEST_BUDGET)
            };
            if class != CLASS_SHORT {
                let switches = class == CLASS_RESPONSE && behind == sniff::SWITCHES;
                socket.http = if switches { SWITCHED } else { 1 };
            }
            allow(socket, half, sequence, budget);
            (class, length.min(budget))
        }
        // Before the budget: what is under way may be a PROXY header, or another protocol's word that asks for TLS.
        CLASS_TLS if socket.http == 0 => follow_tls(transfer, socket, half),
        // A body may begin like this, too: between requests of HTTP/1 it is believed only where the server agreed to it.
        CLASS_HTTP2 if socket.http == 0 || socket.http == SWITCHED => follow_http2(socket, length),
        _ if left > 0 => (CLASS_CONTINUATION, length.min(left)),
        _ if socket.http != 0 => (sniff::NOTHING, 0),
        sniff::TLS_MIDDLE if socket.fresh != 0 => follow_tls(transfer, socket, half),
        sniff::TLS_MIDDLE => {
            socket.quiet = 1;
            (CLASS_TLS, length.min(TLS_MIDDLE))
        }
        sniff::TLS_SHORT if socket.fresh != 0 && socket.misses[half] == 0 => follow_tls(transfer, socket, half),
        sniff::SETTINGS if socket.misses[half] == 0 => follow_http2(socket, length),
        sniff::FRAMES if socket.fresh == 0 && socket.misses[half] < MISSES => follow_http2(socket, length),
        _ => {
            socket.misses[half] += 1;
            if socket.fresh == 0 || socket.misses[half] < MISSES {
                return (sniff::NOTHING, 0);
            }
            socket.quiet = 1;
            (CLASS_OTHER, 0)
        }
    }
}

/// Bytes that may still be copied of what is under way.
#[inline(always)]
fn left(socket: &mut Socket, half: usize, sequence: u32) -> u32 {
    if socket.copying[half] == 0 {
        return 0;
    }
    let left = socket.until[half].wrapping_sub(sequence);
    if left as i32 <= 0 {
        socket.copying[half] = 0;
        return 0;
    }
    left
}

/// Allows so many bytes from here on to be copied.
#[inline(always)]
fn allow(socket: &mut Socket, half: usize, sequence: u32, budget: u32) {
    socket.until[half] = sequence.wrapping_add(budget);
    socket.copying[half] = 1;
}

#[inline(always)]
fn follow_http2(socket: &mut Socket, length: u32) -> (u8, u32) {
    socket.followed = maps::HTTP2;
    (CLASS_HTTP2, length.min(PAYLOAD_MAX as u32 - 1))
}

#[inline(always)]
fn follow_tls(transfer: &Transfer<'_>, socket: &mut Socket, half: usize) -> (u8, u32) {
    tls::begin(transfer.sk, socket);
    first_of_tls(transfer, socket, half)
}

#[inline(always)]
fn first_of_tls(transfer: &Transfer<'_>, socket: &mut Socket, half: usize) -> (u8, u32) {
    let wanted = tls::copied(socket, half, transfer.sequence, transfer.length);
    (if wanted > 0 { CLASS_TLS } else { sniff::NOTHING }, wanted)
}
