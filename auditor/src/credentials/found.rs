//! The credentials of one request, put together while its bytes are there.

use std::sync::Arc;

use auditor_wire::exchange::Request;

use super::{
    Claims, Credential, CredentialKind, CustomClaims, Proof,
    authorization::{self, Scheme, Secret, access_key, name_shown, parameter, percent_decoded},
    certificate, dpop,
    extract::{Extractor, Role, cookie_carrier},
    fingerprint, jwt,
    message::{self, Signed},
    recall,
    shape::{is_placeholder, is_token, unquoted},
};

/// What is there of a request's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// All of them.
    Whole,
    /// Filler of their length and shape: nothing can be checked.
    Masked,
}

/// The credentials of one request so far.
pub(super) struct Found<'a> {
    pub(super) extractor: &'a Extractor,
    pub(super) request: &'a Request,
    pub(super) sight: Sight,
    pub(super) credentials: Vec<Credential>,
}

impl Found<'_> {
    pub(super) fn add(&mut self, kind: CredentialKind, carrier: &Arc<str>, secret: &[u8], claims: Option<Claims>) {
        self.add_with(kind, carrier, secret, claims, || None);
    }

    fn add_with(
        &mut self,
        kind: CredentialKind,
        carrier: &Arc<str>,
        secret: &[u8],
        claims: Option<Claims>,
        proof: impl FnOnce() -> Option<Proof>,
    ) {
        if !self.is_full() {
            let found = self.hashed(kind, secret, claims);
            self.put(carrier, &found, secret, proof);
        }
    }

    fn is_full(&self) -> bool {
        self.credentials.len() >= self.extractor.limits.credentials
    }

    fn hashed(&self, kind: CredentialKind, secret: &[u8], claims: Option<Claims>) -> recall::Found {
        let hash = self.extractor.key.hash(secret);
        recall::Found { kind, hash, fingerprint: fingerprint::text(&hash), claims: claims.map(Arc::new), at: None }
    }

    /// Keeps what was found. `proof` is not asked for of a credential that is there already, nor where secrets are masked.
    fn put(&mut self, carrier: &Arc<str>, found: &recall::Found, secret: &[u8], proof: impl FnOnce() -> Option<Proof>) {
        let recall::Found { kind, hash, fingerprint, claims, .. } = found;
        let same =
            |known: &Credential| known.kind == *kind && known.fingerprint == *fingerprint && known.carrier == *carrier;
        if self.is_full() || self.credentials.iter().any(same) {
            return;
        }
        let Self { extractor, sight, credentials, .. } = self;
        let whole = *sight == Sight::Whole;
        let verifier = extractor.verifier.as_ref().filter(|_| whole);
        let signature = claims.as_ref().zip(verifier).map(|(claims, verifier)| verifier.check(secret, hash, claims));
        let proof = if whole { proof().map(Box::new) } else { None };
        let wanted = &extractor.wanted_claims;
        let read = claims.as_ref().filter(|claims| claims.readable && !wanted.is_empty());
        let custom = read.and_then(|_| CustomClaims::read(secret, wanted)).map(Box::new);
        // Most requests have one.
        credentials.reserve_exact(usize::from(credentials.is_empty()));
        credentials.push(Credential {
            kind: *kind,
            carrier: carrier.clone(),
            fingerprint: fingerprint.clone(),
            claims: claims.clone(),
            signature,
            proof,
            custom,
        });
    }

    /// What a value of `Authorization` proves. A value that comes with every call is read once.
    fn authorization(&mut self, carrier: &Arc<str>, value: &[u8]) {
        let read = || {
            let authorization::Proof { kind, secret, claims } = authorization::read(value)?;
            let at = match &secret {
                Secret::Borrowed(secret) => Some(secret.as_ptr().addr() - value.as_ptr().addr()),
                Secret::Decoded(_) => None,
            };
            let at = at.map(|at| at..at + secret.bytes().len());
            Some(recall::Found { at, ..self.hashed(kind, secret.bytes(), claims) })
        };
        let Some(found) = self.extractor.recall.of(value, read) else { return };
        let (kind, request) = (found.kind, self.request);
        // Of a secret that does not stand there as it is nothing more is asked than its hash.
        let secret = found.at.clone().and_then(|at| value.get(at)).unwrap_or_default();
        self.put(carrier, &found, secret, || authorized(kind, value, request));
    }

    pub(super) fn headers(&mut self) {
        let (extractor, request) = (self.extractor, self.request);
        let mut session_token = None;
        for (name, value) in request.head.headers() {
            let Some((role, carrier)) = extractor.headers.get(name) else {
                self.unlisted(name, extractor.searched(value));
                continue;
            };
            match role {
                Role::Authorization => self.authorization(carrier, value),
                Role::ApiKey => self.key(carrier, value),
                Role::HmacSignature | Role::Signature if is_placeholder(value) => {}
                Role::HmacSignature => {
                    let proof = || message::hmac(carrier, value, |name| request.head.values(name).next());
                    let proof = || proof().map(Proof::MessageSignature);
                    self.add_with(CredentialKind::HttpSignature, carrier, value, None, proof);
                }
                Role::Signature => {
                    let input = request.head.values("signature-input").find_map(|input| parameter(input, b"keyid"));
                    let named = parameter(value, b"keyid").or(input).unwrap_or(value);
                    self.add_with(CredentialKind::HttpSignature, carrier, named, None, || signature(value, request));
                }
                Role::DpopProof if is_placeholder(value) => {}
                Role::DpopProof => {
                    let proof = || Some(Proof::Dpop(dpop::read(value, &request.method, &request.path, bound(request))));
                    self.add_with(CredentialKind::Dpop, carrier, value, None, proof);
                }
                Role::ForwardedCertificate => self.forwarded(carrier, value),
                Role::Cookie => self.cookies(extractor.searched(value)),
                Role::AwsSessionToken => session_token = Some((carrier, value)),
                // Says what the signature covers; the proof is in `Signature`.
                Role::SignatureInput => {}
            }
        }
        let signed = |known: &Credential| known.kind == CredentialKind::AwsSigv4;
        if let Some((carrier, value)) = session_token
            && !self.credentials.iter().any(signed)
        {
            self.key(carrier, value);
        }
    }

    /// A certificate that a proxy says it saw.
    fn forwarded(&mut self, carrier: &Arc<str>, value: &[u8]) {
        const KIND: CredentialKind = CredentialKind::ForwardedClientCert;
        match certificate::read(self.extractor.searched(value)) {
            _ if is_placeholder(value) => {}
            _ if self.sight == Sight::Masked => self.add(KIND, carrier, value, None),
            Some((certificate, known_by)) => {
                self.add_with(KIND, carrier, known_by, None, || Some(Proof::ClientCertificate(certificate)));
            }
            None => {}
        }
    }

    /// A header that holds a key. Some put `Bearer` in front, which is no part of it.
    fn key(&mut self, carrier: &Arc<str>, value: &[u8]) {
        let (word, rest) = authorization::split(value);
        let key = match authorization::scheme(word) {
            Some(Scheme::Bearer | Scheme::ApiKey | Scheme::Basic) => rest,
            _ => unquoted(value),
        };
        if is_placeholder(key) {
            return;
        }
        match jwt::find(self.extractor.searched(key)).next() {
            Some((range, claims)) => self.add(CredentialKind::InternalJwt, carrier, &key[range], Some(claims)),
            None => self.add(CredentialKind::ApiKey, carrier, key, None),
        }
    }

    /// A header of no known meaning: a token in it counts.
    fn unlisted(&mut self, name: &[u8], value: &[u8]) {
        if !jwt::possible(value) {
            return;
        }
        for (range, claims) in jwt::find(value).take(self.extractor.limits.credentials) {
            let carrier = Arc::from(format!("header:{}", name_shown(name)));
            self.add(CredentialKind::InternalJwt, &carrier, &value[range], Some(claims));
        }
    }

    /// RFC 6265 section 4.2.1.
    fn cookies(&mut self, value: &[u8]) {
        for pair in value.split(|byte| *byte == b';') {
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (pair[..equals].trim_ascii(), unquoted(&pair[equals + 1..]));
            if is_placeholder(value) {
                continue;
            }
            let token = if jwt::possible(value) { jwt::find(value).next() } else { None };
            match (token, self.extractor.session_cookie(name)) {
                (Some((range, claims)), carrier) => {
                    let carrier = carrier.unwrap_or_else(|| cookie_carrier(name));
                    self.add(CredentialKind::InternalJwt, &carrier, &value[range], Some(claims));
                }
                (None, Some(carrier)) if !matches!(value, b"0" | b"1") => {
                    self.add(CredentialKind::SessionCookie, &carrier, value, None);
                }
                _ => {}
            }
        }
    }

    /// A parameter of the query, or of a path segment when `place` says so.
    pub(super) fn parameter(&mut self, pair: &[u8], place: Option<&str>, query: &[u8]) {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { return };
        let (name, value) = (percent_decoded(&pair[..equals]), percent_decoded(&pair[equals + 1..]));
        let (name, value) = (name.bytes(), value.bytes());
        if is_placeholder(value) {
            return;
        }
        let carrier = |known: Option<&Arc<str>>| match (place, known) {
            (None, Some(known)) => known.clone(),
            (place, _) => Arc::from(format!("{}:{}", place.unwrap_or("query"), name_shown(name))),
        };
        let known = self.extractor.parameters.get(name);
        if jwt::possible(value)
            && let Some((range, claims)) = jwt::find(value).next()
        {
            let carrier = carrier(known.map(|(_, carrier)| carrier));
            self.add(CredentialKind::BearerJwt, &carrier, &value[range], Some(claims));
            return;
        }
        let Some((kind, known)) = known else { return };
        // `key` is also the name of what is asked for.
        if name.eq_ignore_ascii_case(b"key") && !is_token(value) {
            return;
        }
        if *kind == CredentialKind::AwsSigv4 {
            let scope = query.split(|byte| *byte == b'&').find_map(|pair| parameter(pair, b"x-amz-credential"));
            let scope = percent_decoded(scope.unwrap_or(value));
            let proof = || Some(Proof::MessageSignature(message::presigned(query)));
            self.add_with(*kind, &carrier(Some(known)), access_key(scope.bytes()), None, proof);
        } else {
            self.add(*kind, &carrier(Some(known)), value, None);
        }
    }
}

/// What is signed besides what a signature names itself.
fn signed(request: &Request) -> Signed<'_> {
    Signed { has_query: request.query.is_some(), date: request.head.values("date").next() }
}

/// What a signature in `Authorization` says of itself.
fn authorized(kind: CredentialKind, value: &[u8], request: &Request) -> Option<Proof> {
    let parameters = || authorization::split(value).1;
    let header = |name| request.head.values(name).next();
    match kind {
        CredentialKind::HttpSignature => Some(message::cavage(parameters(), signed(request))),
        CredentialKind::AwsSigv4 => {
            let payload = header("x-amz-content-sha256");
            Some(message::sigv4(parameters(), header("x-amz-date"), payload, signed(request)))
        }
        _ => None,
    }
    .map(Proof::MessageSignature)
}

/// What the value of `Signature` says of itself; where it follows RFC 9421, `Signature-Input` says it.
fn signature(value: &[u8], request: &Request) -> Option<Proof> {
    let found = if parameter(value, b"keyid").is_some() {
        Some(message::cavage(value, signed(request)))
    } else {
        message::rfc9421(request.head.values("signature-input"), signed(request))
    };
    found.map(Proof::MessageSignature)
}

/// The access token that a DPoP proof comes with (RFC 9449 section 7.1).
fn bound(request: &Request) -> Option<&[u8]> {
    let mut values = request.head.values("authorization").map(authorization::split);
    let (_, token) = values.find(|(scheme, _)| authorization::scheme(scheme) == Some(Scheme::Dpop))?;
    (!is_placeholder(token)).then_some(token)
}
