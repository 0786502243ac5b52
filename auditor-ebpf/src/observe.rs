//! The body of the packet hooks: what is wanted of a packet, if anything.

use auditor_abi::{
    counters,
    record::{
        CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, CLASS_TLS,
        EGRESS,
    },
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_cgroup_id, bpf_tcp_sock},
};

use crate::{
    emit::{Observed, emit},
    globals,
    maps::{self, Socket, count_loss},
    owner,
    packet::{self, FIN, Headers, RST},
    sniff,
};

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// `TCP_LISTEN` (include/net/tcp_states.h): connection requests pass here with the listener's socket.
const LISTEN: u32 = 10;
/// Segments without a head, in one direction, after which a connection seen from its start is taken for another protocol.
const MISSES: u32 = 4;
/// Bytes copied of a TLS ClientHello.
const HELLO: u32 = 4095;

/// Looks at one packet of a socket.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff, direction: u8) {
    // SAFETY: context field; the verifier makes us check it for null.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    // SAFETY: not null. Request and time-wait sockets have no storage and no data of interest.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    // SAFETY: not null: a full socket.
    if sk.is_null() || unsafe { (*sk).protocol } != TCP {
        return;
    }
    let known = maps::socket(sk);
    if let Some(socket) = &known
        && socket.muted != 0
    {
        return;
    }
    let headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    if headers.payload_length == 0 && headers.flags & (FIN | RST) == 0 {
        return;
    }
    // SAFETY: a full socket.
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
    if socket.seen == 0 {
        first_sight(skb, sk, socket);
    }
    let (class, wanted) = if headers.payload_length == 0 {
        (sniff::NOTHING, 0)
    } else {
        let sniffed = sniff::sniff(skb, headers.payload_offset, headers.payload_length);
        decide(socket, usize::from(direction != EGRESS), sniffed, &headers)
    };
    // The end of the stream may come alone or with the end of a body.
    let ends = class == sniff::NOTHING && headers.flags & (FIN | RST) != 0 && socket.http != 0;
    if class == sniff::NOTHING && !ends {
        return;
    }
    if direction == EGRESS && !ends {
        owner::note(sk, socket);
    }
    // In one place only: each copy of this code would have a record's header on the stack, of which there are 512 bytes.
    let class = if ends { CLASS_END } else { class };
    emit(&Observed { skb, sk, headers: &headers, direction, class }, socket, wanted);
}

/// A socket's first packet with payload (or its end).
#[inline(always)]
fn first_sight(skb: *mut __sk_buff, sk: *mut bpf_sock, socket: &mut Socket) {
    socket.seen = 1;
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
        let (received, acknowledged) = unsafe { ((*tcp).bytes_received, (*tcp).bytes_acked) };
        socket.fresh = u32::from(received == 0 && acknowledged <= 1);
    }
    owner::note_namespace(sk, socket);
}

/// The class of a segment and how much of it is wanted; class `NOTHING` when none of it.
#[inline(always)]
fn decide(socket: &mut Socket, half: usize, sniffed: u8, headers: &Headers) -> (u8, u32) {
    let length = headers.payload_length;
    match sniffed {
        CLASS_REQUEST | CLASS_RESPONSE | CLASS_SHORT => {
            let budget = if sniffed == CLASS_RESPONSE {
                globals::load(&globals::RESPONSE_BUDGET)
            } else {
                globals::load(&globals::REQUEST_BUDGET)
            };
            if sniffed != CLASS_SHORT {
                socket.http = 1;
            } else if socket.budget[half] > 0 {
                return continuation(socket, half, length);
            }
            socket.budget[half] = budget.saturating_sub(length);
            (sniffed, length.min(budget))
        }
        _ if socket.budget[half] > 0 => continuation(socket, half, length),
        _ if socket.http != 0 => (sniff::NOTHING, 0),
        CLASS_TLS => {
            socket.muted = 1;
            (CLASS_TLS, length.min(HELLO))
        }
        CLASS_HTTP2 => {
            socket.muted = 1;
            (CLASS_HTTP2, length.min(24))
        }
        _ => {
            socket.misses[half] += 1;
            if socket.fresh == 0 || socket.misses[half] < MISSES {
                return (sniff::NOTHING, 0);
            }
            socket.muted = 1;
            (CLASS_OTHER, 0)
        }
    }
}

#[inline(always)]
fn continuation(socket: &mut Socket, half: usize, length: u32) -> (u8, u32) {
    let budget = socket.budget[half];
    socket.budget[half] = budget.saturating_sub(length);
    (CLASS_CONTINUATION, length.min(budget))
}
