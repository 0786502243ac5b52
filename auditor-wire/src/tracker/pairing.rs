//! Requests and responses of one connection, put together.
//!
//! Responses come in the order of their requests (RFC 9112 section 9.3.2). Once a message may have been missed that order says
//! nothing: requests that wait are unknown and get no response, so that no call is given the answer to another. A connection
//! that does not pipeline is in order again at its next request.

use std::collections::VecDeque;
use std::time::Duration;

use crate::exchange::{Deviations, Head, Request, Response, UnknownReason};
use crate::http1::framing::{self, Asked, Framing};
use crate::http1::head::{RequestHead, ResponseHead};
use crate::segment::{Owner, Timestamp};

/// One exchange as one socket saw it.
#[derive(Debug)]
pub(crate) struct ExchangeView {
    pub(crate) request: Option<Request>,
    pub(crate) response: Option<Response>,
    pub(crate) time: Timestamp,
    pub(crate) duration: Option<Duration>,
    pub(crate) unknown: Option<UnknownReason>,
    pub(crate) deviations: Deviations,
    /// Who sent the request, when the socket is the client's.
    pub(crate) sender: Option<Owner>,
    pub(crate) request_sequence: Option<u32>,
    pub(crate) response_sequence: Option<u32>,
    /// Of HTTP/2: the stream.
    pub(crate) stream: Option<u32>,
    /// Calls that were passed over before it.
    pub(crate) passed_over: u32,
    /// The request was all that its segment carried: what that segment is known by.
    pub(crate) lone: Option<u64>,
}

/// What both ends of a connection know an exchange by, each as far as it saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    request: Option<u32>,
    response: Option<u32>,
    stream: Option<u32>,
}

impl ExchangeView {
    /// What a view is worth that lacks nothing.
    pub(crate) const WHOLE: u8 = 3;

    /// How much the view knows: a whole request counts more than a response.
    pub(crate) fn worth(&self) -> u8 {
        2 * u8::from(self.request.is_some() && self.unknown.is_none()) + u8::from(self.response.is_some())
    }

    /// Whether the call asked for HTTP/2 and got it (RFC 7540 section 3.2). Where the request was not seen the answer tells: a server
    /// that is woken by the first bytes (`TCP_DEFER_ACCEPT`) has no socket yet when they come.
    pub(crate) fn leaves_for_http2(&self) -> bool {
        let named = |head: &Head| head.values("upgrade").any(|value| value.eq_ignore_ascii_case(b"h2c"));
        self.request.as_ref().is_none_or(|request| named(&request.head))
            && self.response.as_ref().is_some_and(|response| response.status == 101 && named(&response.head))
    }

    /// Bytes it keeps, about.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.request.as_ref().map_or(0, |request| {
                request.head.bytes().len()
                    + request.path.len()
                    + request.query.as_ref().map_or(0, |query| query.len())
                    + 256
            })
    }

    /// What it is known by at both ends.
    pub(crate) fn key(&self) -> Key {
        Key { request: self.request_sequence, response: self.response_sequence, stream: self.stream }
    }
}

impl Key {
    /// Whether it is the exchange that the other end knows by this.
    pub(crate) fn is_same(self, other: Self) -> bool {
        let same = |mine: Option<u32>, other: Option<u32>| mine.is_some() && mine == other;
        // Where one end missed the request and the other one the response, the stream is all they share.
        same(self.request, other.request) || same(self.response, other.response) || same(self.stream, other.stream)
    }

    /// What it has and the other one has not. An end that missed a part of an exchange tells of its request and its response apart.
    pub(crate) fn beyond(self, other: Self) -> Option<Self> {
        let beyond = Self {
            request: self.request.filter(|_| other.request.is_none()),
            response: self.response.filter(|_| other.response.is_none()),
            stream: None,
        };
        (beyond.request.is_some() || beyond.response.is_some()).then_some(beyond)
    }
}

/// A request that waits for its response.
struct Pending {
    view: Box<ExchangeView>,
    asked: Option<Asked>,
    /// `Expect: 100-continue` was sent and not answered.
    expects_continue: bool,
}

/// Bytes that stay with a connection whose requests are all answered.
#[cfg(test)]
pub(crate) const IDLE: usize = 8 * size_of::<Pending>();

/// Pairs the messages of one connection.
#[derive(Default)]
pub(crate) struct Pairing {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// A message may have been missed, why, and when that showed.
    doubt: Option<(UnknownReason, Timestamp)>,
    /// Requests were sent before earlier ones were answered.
    pipelines: bool,
    /// The framing of a message was ambiguous: what follows it may be anything.
    tainted: bool,
    /// Bytes that are no request stood where one was expected.
    garbage: bool,
    /// Bytes of requests were lost, and no response has come since: what looks like a request may be the body of a lost one.
    unconfirmed: bool,
    /// Any message was seen.
    begun: bool,
    /// What the last request asked for, as far as it says where its response ends.
    last_asked: Option<Asked>,
}

/// What a response means for the two streams.
pub(crate) struct Answer {
    pub(crate) view: Option<Box<ExchangeView>>,
    /// How the response's body is delimited.
    pub(crate) framing: Framing,
    /// A CONNECT request, or the offer of another protocol, was refused.
    pub(crate) refused_tunnel: bool,
    /// The request's body may not follow.
    pub(crate) body_optional: bool,
}

impl Pairing {
    /// Takes a request; returns how its body is delimited. `deliver` gets requests whose responses were missed.
    pub(crate) fn request(
        &mut self,
        head: Option<RequestHead>,
        mut unknown: Option<UnknownReason>,
        (time, sequence, sender): (Timestamp, u32, Option<Owner>),
        deliver: &mut dyn FnMut(Box<ExchangeView>),
    ) -> Framing {
        self.begun = true;
        let mut doubt = None;
        if let Some((reason, since)) = self.doubt {
            if self.pipelines || time < since {
                // Its own response may be what is missing: one that began before that showed ends no doubt.
                doubt = Some(reason);
            } else {
                // It is sent because all before it is answered.
                self.flush(Some(reason), deliver);
                self.doubt = None;
            }
        }
        if std::mem::take(&mut self.unconfirmed) {
            unknown = unknown.or(Some(UnknownReason::Gap));
        }
        let cut = unknown.is_some_and(|reason| reason != UnknownReason::Malformed);
        let framing = match &head {
            // In doubt is which response answers it, not where it ends.
            Some(head) if unknown.is_none() => framing::request(head.asked, head.length),
            Some(head) if head.asked.connect && !cut => Framing::Undecided,
            _ => Framing::Unknown,
        };
        unknown = unknown.or(doubt);
        unknown = unknown.or(self.tainted.then_some(UnknownReason::Malformed));
        self.tainted |= framing == Framing::Unknown && !cut;
        let (mut deviations, asked, expects_continue, request) = match head {
            Some(head) => (head.deviations, Some(head.asked), head.expects_continue, Some(head.request)),
            None => (Deviations::default(), None, false, None),
        };
        self.last_asked = asked;
        deviations.leading_garbage = std::mem::replace(&mut self.garbage, request.is_none());
        let view = Box::new(ExchangeView {
            request,
            response: None,
            time,
            duration: None,
            unknown,
            deviations,
            sender,
            request_sequence: Some(sequence),
            response_sequence: None,
            stream: None,
            passed_over: 0,
            lone: None,
        });
        self.bytes += view.cost();
        self.pending.push_back(Pending { view, asked, expects_continue });
        framing
    }

    /// Takes a response. `fresh`: the connection was seen from its begin.
    pub(crate) fn response(&mut self, head: ResponseHead, whole: bool, time: Timestamp, fresh: bool) -> Answer {
        let status = head.response.status;
        let mut answer = Answer { view: None, framing: Framing::Fixed(0), refused_tunnel: false, body_optional: false };
        if (100..200).contains(&status) && status != 101 {
            if let Some(first) = self.pending.front_mut() {
                first.expects_continue = false;
            }
            answer.framing = if whole { Framing::Fixed(0) } else { Framing::Unknown };
            return answer;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        self.unconfirmed = false;
        self.pipelines |= self.doubt.is_none() && self.pending.len() > 1;
        // What was sent before a request does not answer it.
        let answers = self.pending.front().is_some_and(|first| first.view.time <= time);
        let Some(mut pending) = (if answers { self.pop() } else { None }) else {
            answer.framing = framing::response(status, None, head.length);
            answer.view = self.unasked(head, time, first, fresh);
            return answer;
        };
        let doubt = self.doubt.map(|(reason, _)| reason);
        if doubt == Some(UnknownReason::Gap) {
            // It may answer another request: this one is reported without a response.
            answer.framing = if whole { framing::response(status, None, head.length) } else { Framing::Unknown };
            pending.view.unknown = pending.view.unknown.or(doubt);
            answer.view = Some(pending.view);
            return answer;
        }
        answer.framing = if whole { framing::response(status, pending.asked, head.length) } else { Framing::Unknown };
        answer.refused_tunnel =
            pending.asked.is_some_and(|asked| asked.connect || asked.upgrade) && answer.framing != Framing::Tunnel;
        answer.body_optional = pending.expects_continue;
        let view = &mut pending.view;
        view.unknown = view.unknown.or(doubt);
        view.duration = view.request.is_some().then(|| Duration::from_nanos(time.0.saturating_sub(view.time.0)));
        view.response_sequence = Some(head.response.sequence);
        view.response = Some(head.response);
        answer.view = Some(pending.view);
        answer
    }

    /// A response whose request was not seen. `None` for the one that servers send unasked: 408 before they close an idle
    /// connection (RFC 9110 section 15.5.9).
    fn unasked(&self, head: ResponseHead, time: Timestamp, first: bool, fresh: bool) -> Option<Box<ExchangeView>> {
        let unknown = match () {
            () if first && !fresh => UnknownReason::MidStream,
            () if self.doubt.is_none() && head.response.status == 408 => return None,
            () if self.tainted => UnknownReason::Malformed,
            () => UnknownReason::Gap,
        };
        Some(Box::new(ExchangeView {
            request: None,
            response_sequence: Some(head.response.sequence),
            response: Some(head.response),
            time,
            duration: None,
            unknown: Some(unknown),
            deviations: Deviations::default(),
            sender: None,
            request_sequence: None,
            stream: None,
            passed_over: 0,
            lone: None,
        }))
    }

    /// Messages may have been missed, as showed at `time`; whether they were requests.
    pub(crate) fn lost(
        &mut self,
        (reason, time): (UnknownReason, Timestamp),
        requests: bool,
        deliver: &mut dyn FnMut(Box<ExchangeView>),
    ) {
        self.unconfirmed |= requests && reason == UnknownReason::Gap;
        // A gap weighs most, else the first reason stands; the latest time counts, of either direction.
        let stands = self.doubt.map(|(first, _)| first).filter(|_| reason != UnknownReason::Gap);
        let since = self.doubt.map_or(time, |(_, since)| since.max(time));
        self.doubt = Some((stands.unwrap_or(reason), since));
        if reason == UnknownReason::Gap {
            // Which of the requests the next response answers is not known, nor whether it answers one that is known.
            self.flush(Some(reason), deliver);
            return;
        }
        if !self.pipelines {
            // All but the last request have been answered, or the last would not have been sent.
            while self.pending.len() > 1 {
                self.give_up_first(Some(reason), deliver);
            }
        }
        for pending in &mut self.pending {
            pending.view.unknown = pending.view.unknown.or(Some(reason));
        }
    }

    /// Nothing will come any more: what is pending stays unanswered. With a reason: whether it was answered was not seen.
    pub(crate) fn flush(&mut self, reason: Option<UnknownReason>, deliver: &mut dyn FnMut(Box<ExchangeView>)) {
        while !self.pending.is_empty() {
            self.give_up_first(reason.or(self.doubt.map(|(reason, _)| reason)), deliver);
        }
    }

    fn give_up_first(&mut self, reason: Option<UnknownReason>, deliver: &mut dyn FnMut(Box<ExchangeView>)) {
        if let Some(mut pending) = self.pop() {
            pending.view.unknown = pending.view.unknown.or(reason);
            deliver(pending.view);
        }
    }

    fn pop(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        self.bytes -= pending.view.cost();
        if self.pending.is_empty() && self.pending.capacity() > 8 {
            self.pending = VecDeque::new();
        }
        Some(pending)
    }

    /// A request was passed over at `time` that was the same, byte for byte, as the last. Its response follows.
    pub(crate) fn passed_over(&mut self, time: Timestamp, calls: u32) {
        let view = Box::new(ExchangeView {
            request: None,
            response: None,
            time,
            duration: None,
            unknown: Some(UnknownReason::Gap),
            deviations: Deviations::default(),
            sender: None,
            request_sequence: None,
            response_sequence: None,
            stream: None,
            passed_over: calls,
            lone: None,
        });
        self.bytes += view.cost();
        self.pending.push_back(Pending { view, asked: self.last_asked, expects_continue: false });
    }

    /// Requests were sent before earlier ones were answered, though that was not seen here.
    pub(crate) fn pipelines(&mut self) {
        self.pipelines = true;
    }

    /// The last request that waits, to say more of it.
    pub(crate) fn last(&mut self) -> Option<&mut ExchangeView> {
        self.pending.back_mut().map(|pending| &mut *pending.view)
    }

    /// The pending request that began with this sequence number: who sent it.
    pub(crate) fn sender_of(&self, sequence: Option<u32>) -> Option<Owner> {
        let found = self.pending.iter().find(|pending| pending.view.request_sequence == sequence)?;
        found.view.sender
    }

    /// Whether a request waits for its response.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When the first request that waits was sent.
    pub(crate) fn waits_since(&self) -> Option<Timestamp> {
        self.pending.front().map(|pending| pending.view.time)
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of heads that are kept.
    pub(crate) fn buffered(&self) -> usize {
        self.bytes + self.pending.capacity() * size_of::<Pending>()
    }
}
