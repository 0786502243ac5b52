//! Which calls may be passed over when they repeat: those that are byte for byte one that was judged, with nothing at all against
//! it. Nothing is approved while sampling is off.

use std::{collections::HashMap, time::Duration};

use auditor_abi::repeat::APPROVED_MAX;
use auditor_wire::{
    exchange::{Exchange, Reporter},
    segment::{SocketId, Timestamp},
};

use crate::{
    capture::{Approval, Capture},
    credentials::{Credential, CredentialKind},
    judgement::{Judgement, Outcome, Sampling, Verdict},
};

/// How long an approval holds after the call it was given for: what stands behind equal bytes may change.
const HOLDS: Duration = Duration::from_secs(30);
/// One that holds for less than this is given anew.
const RENEWED: Duration = Duration::from_secs(15);
/// Sockets whose approvals are remembered; beyond it all are withdrawn.
const SOCKETS: usize = APPROVED_MAX as usize;

/// What is remembered of approvals, and what the source has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Of how many calls that repeat one is copied; 0 where there is no governor.
    one_of: u32,
    approved: HashMap<SocketId, Approval>,
    /// What was approved before does not hold any more.
    withdrawn: bool,
    /// What the source has to be told, in this order.
    news: Vec<News>,
}

/// What a source is told of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Approved(Approval),
    Forbidden(SocketId),
}

/// A call that may be repeated, by what its source knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeatable {
    socket: SocketId,
    /// In the tracker's time.
    time: Timestamp,
    request: u64,
}

impl Repeatable {
    pub(super) fn of(exchange: &Exchange) -> Option<Self> {
        let end = match exchange.reporter {
            Reporter::Source => &exchange.source,
            Reporter::Destination => &exchange.destination,
        };
        Some(Self { socket: end.socket?, time: exchange.time, request: exchange.repeatable? })
    }
}

impl Repeats {
    /// Of so many calls that repeat one is copied from now on.
    pub(super) fn sample(&mut self, one_of: u32) {
        self.one_of = one_of;
        if one_of <= 1 {
            self.withdraw();
        }
    }

    /// Calls may be judged otherwise from now on than before: the policy is another, the clock was set.
    pub(super) fn withdraw(&mut self) {
        self.approved.clear();
        self.news.clear();
        // Nothing was ever approved without a governor.
        self.withdrawn = self.one_of > 0;
    }

    /// What is said in the record of a call before which so many were passed over; `None` where there is no sampling.
    pub(super) fn sampling(&self, passed_over: u32) -> Option<Sampling> {
        (self.one_of > 1 || passed_over > 0).then_some(Sampling { one_of: self.one_of.max(1), passed_over })
    }

    /// Takes what was found of a call, whose time is `correction_ns` behind the wall clock's. Only a call with nothing at all against
    /// it may be repeated unseen, for as long as that is sure to stay so.
    pub(super) fn judged(&mut self, call: Repeatable, judgement: Option<&Judgement>, correction_ns: i64) {
        if self.one_of <= 1 {
            return;
        }
        let Some(approval) = judgement.and_then(|judgement| approval(call, judgement, correction_ns)) else {
            if self.approved.remove(&call.socket).is_some() {
                self.news.push(News::Forbidden(call.socket));
            }
            return;
        };
        let renewed = u64::try_from(RENEWED.as_nanos()).unwrap_or(u64::MAX);
        let stands = self.approved.get(&call.socket).is_some_and(|before| {
            let same = Approval { until: approval.until, ..*before } == approval;
            same && (before.until >= approval.until || before.until.0 >= call.time.0.saturating_add(renewed))
        });
        if stands {
            return;
        }
        if self.approved.len() >= SOCKETS {
            self.withdraw();
        }
        self.approved.insert(call.socket, approval);
        self.news.push(News::Approved(approval));
    }

    /// Tells the source what there is to tell.
    pub(super) fn tell(&mut self, capture: &mut dyn Capture) {
        if std::mem::take(&mut self.withdrawn) {
            capture.withdraw();
        }
        for news in self.news.drain(..) {
            match news {
                News::Approved(approval) => capture.approve(approval),
                News::Forbidden(socket) => capture.forbid(socket),
            }
        }
    }
}

/// The approval of a call that has nothing against it; `None` where it has, or may soon.
fn approval(call: Repeatable, judgement: &Judgement, correction_ns: i64) -> Option<Approval> {
    let fine = judgement.verdict == Verdict::Authenticated
        && judgement.outcome == Outcome::Accepted
        && judgement.findings.is_empty()
        && judgement.policy.waived.is_empty()
        && judgement.policy.undecided.is_none()
        && judgement.deviations.is_empty()
        && judgement.credentials.iter().all(proves_again);
    let status = judgement.response.filter(|_| fine)?.status;
    let holds = call.time.0.saturating_add(u64::try_from(HOLDS.as_nanos()).unwrap_or(u64::MAX));
    let expiries = judgement.credentials.iter().filter_map(|credential| credential.claims.as_deref()?.exp);
    let until = expiries.map(|exp| steady(exp, correction_ns)).fold(holds, u64::min);
    (until > call.time.0).then_some(Approval {
        socket: call.socket,
        request: call.request,
        status,
        until: Timestamp(until),
    })
}

/// Whether a credential proves the same when it comes again. A proof that is made for one message does not: it is too old at some
/// time, and should not come twice.
fn proves_again(credential: &Credential) -> bool {
    let kind = matches!(
        credential.kind,
        CredentialKind::ApiKey
            | CredentialKind::Basic
            | CredentialKind::BearerJwt
            | CredentialKind::BearerOpaque
            | CredentialKind::InternalJwt
            | CredentialKind::SessionCookie
    );
    kind && credential.proof.is_none()
}

/// A second by the wall clock, in the time of segments, nanoseconds.
fn steady(second: i64, correction_ns: i64) -> u64 {
    let nanoseconds = i128::from(second) * 1_000_000_000 - i128::from(correction_ns);
    u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        capture::{CaptureError, Counts, Status},
        credentials::{Claims, DpopProof, Match, Proof},
        judgement::{ResponseFacts, Waived, WaiverNote},
        sinks::sample,
    };
    use auditor_wire::segment::Segment;

    const SOCKET: SocketId = SocketId(7);
    const SECOND: u64 = 1_000_000_000;

    /// What a source was told.
    #[derive(Debug, PartialEq)]
    enum Told {
        Approved(u64, u16, u64),
        Forbidden,
        Withdrawn,
    }

    #[derive(Default)]
    struct Listens(Vec<Told>);

    impl Capture for Listens {
        fn drain(&mut self, _: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
            Ok(Status::End)
        }

        fn counts(&mut self) -> Counts {
            Counts::default()
        }

        fn approve(&mut self, approval: Approval) {
            assert_eq!(approval.socket, SOCKET);
            self.0.push(Told::Approved(approval.request, approval.status, approval.until.0 / SECOND));
        }

        fn forbid(&mut self, socket: SocketId) {
            assert_eq!(socket, SOCKET);
            self.0.push(Told::Forbidden);
        }

        fn withdraw(&mut self) {
            self.0.push(Told::Withdrawn);
        }
    }

    fn call(second: u64, request: u64) -> Repeatable {
        Repeatable { socket: SOCKET, time: Timestamp(second * SECOND), request }
    }

    fn told(repeats: &mut Repeats) -> Vec<Told> {
        let mut listens = Listens::default();
        repeats.tell(&mut listens);
        listens.0
    }

    fn says(repeats: &mut Repeats, call: Repeatable, judgement: &Judgement) -> Vec<Told> {
        repeats.judged(call, Some(judgement), 0);
        told(repeats)
    }

    /// Sampling one of so many.
    fn sampling(one_of: u32) -> Repeats {
        let mut repeats = Repeats::default();
        repeats.sample(one_of);
        repeats
    }

    /// A call with one opaque token, in order.
    fn fine() -> Judgement {
        let mut fine = sample::authenticated();
        let credential = Credential {
            kind: CredentialKind::BearerOpaque,
            carrier: Arc::from("header:authorization"),
            fingerprint: Arc::from("00"),
            claims: None,
            signature: None,
            proof: None,
            custom: None,
        };
        fine.credentials = vec![credential];
        fine.response = Some(ResponseFacts { status: 204, grpc_status: None, duration_seconds: None });
        fine
    }

    fn with(change: impl FnOnce(&mut Judgement)) -> Judgement {
        let mut judgement = fine();
        change(&mut judgement);
        judgement
    }

    fn expiring(at: i64) -> Judgement {
        with(|judgement| {
            let credential = &mut judgement.credentials[0];
            credential.kind = CredentialKind::BearerJwt;
            credential.claims = Some(Arc::new(Claims { exp: Some(at), ..Claims::default() }));
        })
    }

    #[test]
    fn only_calls_with_nothing_against_them_may_be_repeated() {
        assert!(says(&mut Repeats::default(), call(1, 5), &fine()).is_empty(), "no governor");
        assert!(!says(&mut sampling(1), call(1, 5), &fine()).contains(&Told::Approved(5, 204, 31)), "sampling is off");
        let mut repeats = sampling(2);
        let fits = Match::Matches;
        let proof = DpopProof { iat: None, method: fits, target: fits, token: fits, key: fits };
        let finding = sample::unauthenticated().findings.remove(0);
        let expires = jiff::civil::date(2026, 12, 1);
        let waiver = Arc::new(WaiverNote { name: "known".into(), owner: "who".into(), expires });
        let waived = Waived { finding, waiver };
        for (name, judgement) in [
            ("unauthenticated", with(|call| call.verdict = Verdict::Unauthenticated)),
            ("unknown", with(|call| call.verdict = Verdict::Unknown)),
            ("weak", with(|call| call.verdict = Verdict::Weak)),
            ("exempt", with(|call| call.verdict = Verdict::Exempt)),
            ("refused", with(|call| call.outcome = Outcome::Refused)),
            ("failed", with(|call| call.outcome = Outcome::Failed)),
            ("unanswered", with(|call| call.response = None)),
            ("deviation", with(|call| call.deviations = vec!["length-and-chunked"])),
            ("finding", with(|call| call.findings = sample::unauthenticated().findings)),
            ("waived", with(|call| call.policy.waived = vec![waived.clone()])),
            ("signature over the message", with(|call| call.credentials[0].kind = CredentialKind::HttpSignature)),
            ("dpop", with(|call| call.credentials[0].kind = CredentialKind::Dpop)),
            ("negotiate", with(|call| call.credentials[0].kind = CredentialKind::Negotiate)),
            ("proof of its own", with(|call| call.credentials[0].proof = Some(Box::new(Proof::Dpop(proof))))),
            ("expired within the leeway", expiring(1)),
        ] {
            assert!(says(&mut repeats, call(2, 5), &judgement).is_empty(), "{name}");
        }
        repeats.judged(call(3, 5), None, 0);
        assert!(told(&mut repeats).is_empty(), "an external call is not judged");
        assert_eq!(says(&mut repeats, call(4, 5), &fine()), [Told::Approved(5, 204, 34)]);
    }

    #[test]
    fn an_approval_is_of_one_request_and_is_renewed_before_it_ends() {
        let mut repeats = sampling(4);
        assert_eq!(says(&mut repeats, call(0, 5), &fine()), [Told::Approved(5, 204, 30)]);
        assert!(says(&mut repeats, call(15, 5), &fine()).is_empty());
        assert_eq!(says(&mut repeats, call(16, 5), &fine()), [Told::Approved(5, 204, 46)]);
        assert_eq!(says(&mut repeats, call(16, 6), &fine()), [Told::Approved(6, 204, 46)], "another request");
        let other = with(|call| call.response = Some(ResponseFacts { status: 200, ..call.response.expect("one") }));
        assert_eq!(says(&mut repeats, call(16, 6), &other), [Told::Approved(6, 200, 46)], "another status");
        assert_eq!(says(&mut repeats, call(17, 6), &sample::unauthenticated()), [Told::Forbidden]);
        assert!(says(&mut repeats, call(18, 6), &sample::unauthenticated()).is_empty(), "said once");
        assert_eq!(says(&mut repeats, call(19, 6), &fine()), [Told::Approved(6, 204, 49)]);
    }

    #[test]
    fn an_approval_ends_with_the_token_by_the_wall_clock() {
        let mut repeats = sampling(4);
        assert_eq!(says(&mut repeats, call(100, 5), &expiring(107)), [Told::Approved(5, 204, 107)]);
        assert!(says(&mut repeats, call(106, 5), &expiring(107)).is_empty(), "no later than that");
        assert_eq!(says(&mut repeats, call(107, 5), &expiring(107)), [Told::Forbidden]);
        // The wall clock is an hour ahead of the time of segments.
        repeats.judged(call(100, 5), Some(&expiring(3709)), 3600 * 1_000_000_000);
        assert_eq!(told(&mut repeats), [Told::Approved(5, 204, 109)]);
        for exp in [i64::MIN, i64::MAX] {
            let mut repeats = sampling(4);
            repeats.judged(call(100, 5), Some(&expiring(exp)), i64::MIN);
            assert_eq!(told(&mut repeats).len(), usize::from(exp > 0), "{exp}");
        }
    }

    #[test]
    fn a_withdrawal_takes_all_back_even_what_was_not_told() {
        let mut repeats = sampling(4);
        repeats.judged(call(1, 5), Some(&fine()), 0);
        repeats.withdraw();
        assert_eq!(told(&mut repeats), [Told::Withdrawn]);
        assert_eq!(says(&mut repeats, call(2, 5), &fine()), [Told::Approved(5, 204, 32)], "given anew");
        repeats.sample(1);
        assert_eq!(told(&mut repeats), [Told::Withdrawn], "sampling is over");
        assert!(says(&mut repeats, call(3, 5), &fine()).is_empty());
        let mut none = Repeats::default();
        none.withdraw();
        assert!(told(&mut none).is_empty(), "there is no governor");
    }

    #[test]
    fn no_more_sockets_are_remembered_than_the_source_does() {
        let mut repeats = sampling(2);
        for socket in 0..=SOCKETS as u64 {
            repeats.judged(Repeatable { socket: SocketId(socket), ..call(1, 5) }, Some(&fine()), 0);
        }
        assert_eq!((repeats.approved.len(), repeats.news.len(), repeats.withdrawn), (1, 1, true));
    }

    #[test]
    fn records_say_of_sampling_where_there_is_some() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.sampling(0), None);
        assert_eq!(repeats.sampling(3), Some(Sampling { one_of: 1, passed_over: 3 }));
        repeats.sample(8);
        let mut judgement = fine();
        let record = |judgement: &Judgement| serde_json::to_value(judgement).expect("JSON");
        assert!(record(&judgement).get("sampling").is_none(), "all are judged");
        judgement.sampling = repeats.sampling(7);
        assert_eq!(record(&judgement)["sampling"], serde_json::json!({"one_of": 8, "passed_over": 7}));
    }
}
