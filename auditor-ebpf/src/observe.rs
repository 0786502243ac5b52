//! The body of the packet hooks: what is wanted of a packet, if anything.

use core::sync::atomic::{Ordering, compiler_fence};

use auditor_abi::{
    counters,
    record::{
        CLASS_AHEAD, CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE,
        CLASS_SHORT, CLASS_TLS, EGRESS, INGRESS, PAYLOAD_MAX,
    },
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_tcp_sock},
};

use crate::{
    emit::{Observed, Thinned, emit},
    globals, http2,
    maps::{self, Socket, count_loss},
    owner,
    packet::{self, FIN, Headers, RST},
    sniff, thin, tls,
    volatile::{get, set},
};

/// `TCP_LISTEN` (include/net/tcp_states.h): connection requests pass here with the listener's socket.
const LISTEN: u32 = 10;
/// Segments without a head, in one direction, after which a connection seen from its start is taken for another protocol.
const MISSES: u32 = 4;
/// Requests of a client's socket before it is looked up among those that are spared: a power of two.
const SPARED_FROM: u32 = 16;
/// [`Socket::http`] after a response with status 101.
const SWITCHED: u32 = 2;
/// In the place of a class: of the payload, if there is any, nothing is wanted.
const BARE: u8 = 0xf0;
/// Bytes copied of what comes before the first byte of a direction: what a peer sends before it hears of a loss.
const AHEAD: u32 = 64 * 1024;
/// Bytes copied of a TLS connection that was met in its middle: a record header.
const TLS_MIDDLE: u32 = 5;

/// Looks at one packet of a socket.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff, direction: u8) {
    let Some(sk) = packet::socket(skb) else { return };
    let half = usize::from(direction != EGRESS);
    // Acknowledgements are most often received on another CPU than the socket's: its memory stays where it is.
    if packet::is_bare(skb) {
        return;
    }
    // This is all that a packet of a muted socket costs.
    let known = maps::socket(sk);
    match &known {
        Some(socket) if socket.quiet[half] != 0 && !tls::lingers(socket, half) => return,
        Some(socket) if socket.followed != 0 && !awaits_first(socket, direction) => {
            return go_on(skb, socket.followed, direction);
        }
        Some(_) => {}
        None if packet::is_tcp_socket(sk) => {}
        None => return,
    }
    let headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    if headers.are_bare() {
        return;
    }
    // SAFETY: a socket.
    if unsafe { (*sk).state } == LISTEN {
        return;
    }
    let socket = match known {
        Some(socket) => socket,
        None => match maps::socket_or_new(sk) {
            Some(socket) => socket,
            None => return count_loss(counters::LOST_SOCKET_STORAGE),
        },
    };
    if get(&socket.seen) == 0 {
        first_sight(skb, sk, socket);
    }
    let (sniffed, behind) = if is_ahead(socket, direction, &headers) {
        (CLASS_AHEAD, 0)
    } else if socket.followed != 0 {
        return go_on(skb, socket.followed, direction);
    } else {
        sniffed(skb, &headers)
    };
    if sniffed == CLASS_REQUEST && globals::load(&globals::SAMPLES) != 0 && maps::sampling().0 > 1 {
        socket.followed = maps::THIN;
        return thin::call(skb, direction);
    }
    tell(skb, sk, socket, &headers, (direction, None), (sniffed, behind));
}

/// Copies what is wanted of a packet of a connection whose calls may be passed over: [`thin`] did not pass it over.
#[inline(always)]
pub fn copy(skb: *mut __sk_buff, direction: u8) {
    let Some((sk, socket)) = maps::known(skb) else { return };
    let mut headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    let (what, passed, next_other) = thin::told(skb);
    if what & thin::BARE != 0 {
        headers.sequence = headers.sequence.wrapping_add(headers.payload_length);
        headers.payload_length = 0;
    }
    let sniffed = sniffed(skb, &headers);
    let thinned = Thinned { tells: what & thin::TELL != 0, passed, next_other, how: what };
    tell(skb, sk, socket, &headers, (direction, Some(&thinned)), sniffed);
}

/// Whether a packet stands behind the first byte of its direction, which has not come: it was lost on the way. What follows it is not
/// what it looks like, and there is no other way to have it once that is known.
#[inline(always)]
fn is_ahead(socket: &mut Socket, direction: u8, headers: &Headers) -> bool {
    if !awaits_first(socket, direction) || headers.payload_length == 0 {
        return false;
    }
    let half = &mut socket.halves[usize::from(INGRESS)];
    let ahead = (headers.sequence.wrapping_sub(half.first) as i32) > 0;
    if !ahead {
        half.begun = 1;
    }
    ahead
}

/// Whether the first byte of a direction is still to come, and known. What goes out does so in order.
#[inline(always)]
fn awaits_first(socket: &Socket, direction: u8) -> bool {
    let half = &socket.halves[usize::from(INGRESS)];
    direction == INGRESS && half.ahead != 0 && half.begun == 0
}

/// The class of a segment by its first bytes, and the four bytes behind the eighth.
#[inline(always)]
fn sniffed(skb: *mut __sk_buff, headers: &Headers) -> (u8, u32) {
    if headers.payload_length == 0 {
        return (BARE, 0);
    }
    sniff::sniff(skb, headers.payload_offset, headers.payload_length)
}

/// Writes a record of what is wanted of a packet, if anything.
#[inline(always)]
fn tell(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    socket: &mut Socket,
    headers: &Headers,
    (direction, thinned): (u8, Option<&Thinned>),
    (sniffed, behind): (u8, u32),
) {
    let half = usize::from(direction != EGRESS);
    let (class, wanted) =
        if sniffed == BARE { (sniff::NOTHING, 0) } else { decide(socket, half, sniffed, behind, headers) };
    // It may have been recognised by the other direction's packet just now, on another CPU.
    let followed = get(&socket.followed);
    if class != CLASS_AHEAD && (followed == maps::TLS || followed == maps::HTTP2) {
        return go_on(skb, followed, direction);
    }
    let spared = class == CLASS_REQUEST && direction == EGRESS && is_spared(socket);
    let (class, wanted) = if spared { (CLASS_CONTINUATION, 0) } else { (class, wanted) };
    // The end of the stream may come alone or with the end of a body.
    let ends = class == sniff::NOTHING && headers.flags & (FIN | RST) != 0 && socket.http != 0;
    // What was passed over is said even where nothing is wanted.
    let (class, wanted) = match thinned {
        Some(thinned) if thinned.tells && class == sniff::NOTHING && !ends => (CLASS_CONTINUATION, 0),
        _ => (class, wanted),
    };
    if class == sniff::NOTHING && !ends {
        return;
    }
    if direction == EGRESS && !ends {
        owner::note(socket);
    }
    // In one place only: each copy of this code would have a record's header on the stack, of which there are 512 bytes.
    let class = if ends { CLASS_END } else { class };
    emit(&Observed { skb, sk, headers, direction, class, thinned }, socket, wanted, 0);
    if spared {
        self::spared(socket);
    }
}

/// The auditor was told that a client's socket is spared.
#[inline(always)]
pub fn spared(socket: &mut Socket) {
    if socket.halves[usize::from(EGRESS)].gap != 0 {
        // It did not get to know of it.
        socket.quiet = [0, 0];
    }
}

/// Whether a client's socket that sends a request (of HTTP/2: frames) is one the auditor wants no more of; then it is muted. Looked up at the
/// 16th request, the 32nd and so on: it is asked for after a few, and most connections that are not spared are never looked up.
#[inline(always)]
pub fn is_spared(socket: &mut Socket) -> bool {
    let requests = &mut socket.halves[usize::from(EGRESS)].requests;
    *requests += 1;
    let asks = *requests >= SPARED_FROM && *requests & (*requests - 1) == 0;
    if !asks || !maps::is_spared(socket) {
        return false;
    }
    socket.mute();
    true
}

/// Goes on in the program that follows the connection.
#[inline(always)]
fn go_on(skb: *mut __sk_buff, followed: u32, direction: u8) {
    match followed {
        maps::TLS => tls::call(skb, direction),
        maps::HTTP2 => http2::call(skb, direction),
        _ => thin::call(skb, direction),
    }
}

/// A socket's first packet with payload (or its end). Two CPUs may be here at once, one for each direction: they write the same.
#[inline(always)]
fn first_sight(skb: *mut __sk_buff, sk: *mut bpf_sock, socket: &mut Socket) {
    owner::keep(sk, socket);
    // SAFETY: the context.
    unsafe {
        socket.cookie = bpf_get_socket_cookie(skb.cast());
        socket.cgroup_id = bpf_skb_cgroup_id(skb);
    }
    // SAFETY: a full socket.
    let tcp = unsafe { bpf_tcp_sock(sk) };
    if !tcp.is_null() {
        // Nothing received and nothing but the SYN acknowledged: no byte has passed before this packet. The counters are
        // updated after the ingress hook has run (tcp_rcv_nxt_update, tcp_snd_una_update in net/ipv4/tcp_input.c).
        // SAFETY: not null.
        let next = unsafe { (&raw const (*tcp).rcv_nxt).read_volatile() };
        // After that: it is counted up first, and as long as it is 0 the other is of the first byte.
        // SAFETY: not null.
        let (received, acknowledged) =
            unsafe { ((&raw const (*tcp).bytes_received).read_volatile(), (*tcp).bytes_acked) };
        if received == 0 && acknowledged <= 1 {
            socket.fresh = 1;
            let ingress = &mut socket.halves[usize::from(INGRESS)];
            (ingress.first, ingress.ahead) = (next, AHEAD);
        }
    }
    owner::note_namespace(socket);
    // Last, also for the compiler: who finds it written reads the rest.
    compiler_fence(Ordering::Release);
    set(&mut socket.seen, 1);
}

/// The class of a segment and how much of it is wanted; class `NOTHING` when none of it.
#[inline(always)]
fn decide(socket: &mut Socket, half: usize, sniffed: u8, behind: u32, headers: &Headers) -> (u8, u32) {
    let length = headers.payload_length;
    match sniffed {
        CLASS_AHEAD => {
            let ahead = &mut socket.halves[half].ahead;
            *ahead = ahead.saturating_sub(length);
            (CLASS_AHEAD, length.min(PAYLOAD_MAX as u32 - 1))
        }
        CLASS_REQUEST | CLASS_RESPONSE | CLASS_SHORT => {
            let budget = if sniffed == CLASS_RESPONSE {
                globals::load(&globals::RESPONSE_BUDGET)
            } else {
                globals::load(&globals::REQUEST_BUDGET)
            };
            if sniffed != CLASS_SHORT {
                let switches = sniffed == CLASS_RESPONSE && behind == sniff::SWITCHES;
                let http = if switches { SWITCHED } else { 1 };
                if get(&socket.http) != http {
                    set(&mut socket.http, http);
                }
            } else if socket.halves[half].budget > 0 {
                return continuation(socket, half, length);
            }
            socket.halves[half].budget = budget.saturating_sub(length);
            (sniffed, length.min(budget))
        }
        // Before the budget: what is under way may be a PROXY header, or another protocol's word that asks for TLS.
        CLASS_TLS if socket.http == 0 => follow(socket, maps::TLS),
        // A body may begin like this, too: between requests of HTTP/1 it is believed only where the server agreed to it.
        CLASS_HTTP2 if socket.http == 0 || socket.http == SWITCHED => follow(socket, maps::HTTP2),
        _ if socket.halves[half].budget > 0 => continuation(socket, half, length),
        _ if socket.http != 0 => (sniff::NOTHING, 0),
        sniff::TLS_MIDDLE if socket.fresh != 0 => follow(socket, maps::TLS),
        sniff::TLS_MIDDLE => {
            socket.mute();
            (CLASS_TLS, length.min(TLS_MIDDLE))
        }
        sniff::TLS_SHORT if socket.fresh != 0 && socket.halves[half].misses == 0 => follow(socket, maps::TLS),
        sniff::SETTINGS if socket.halves[half].misses == 0 => follow(socket, maps::HTTP2),
        sniff::FRAMES if socket.fresh == 0 && socket.halves[half].misses < MISSES => follow(socket, maps::HTTP2),
        _ => {
            socket.halves[half].misses += 1;
            if socket.fresh == 0 || socket.halves[half].misses < MISSES {
                return (sniff::NOTHING, 0);
            }
            socket.mute();
            (CLASS_OTHER, 0)
        }
    }
}

/// The connection is TLS or HTTP/2 from here on: another program follows it.
#[inline(always)]
fn follow(socket: &mut Socket, what: u32) -> (u8, u32) {
    socket.followed = what;
    (sniff::NOTHING, 0)
}

#[inline(always)]
fn continuation(socket: &mut Socket, half: usize, length: u32) -> (u8, u32) {
    let budget = socket.halves[half].budget;
    socket.halves[half].budget = budget.saturating_sub(length);
    (CLASS_CONTINUATION, length.min(budget))
}
