//! From a request to its credentials.

use std::sync::Arc;

use auditor_wire::exchange::Request;

use super::{
    Claims, Credential, CredentialKind, CustomClaims, FingerprintKey,
    authorization::{self, Scheme, access_key, name_shown, parameter, percent_decoded},
    jwt,
    names::Names,
    shape::{is_placeholder, is_token, unquoted},
};

/// Where credentials are looked for beyond what the standards name. Names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Headers whose value is a static key or an opaque token.
    pub api_key_headers: Vec<String>,
    /// Headers whose value is an HMAC or signature over the message.
    pub signature_headers: Vec<String>,
    /// Names of session cookies, without `__Host-` and `__Secure-`; `*` in front stands for any beginning.
    pub session_cookies: Vec<String>,
    /// Query and path parameters whose value is a secret.
    pub query_parameters: Vec<String>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of the extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Credentials that are kept of one request; those after are left out.
    pub credentials: usize,
    /// Bytes of a header's value, or of a query, that are looked at when searching for tokens, cookies and parameters.
    pub searched_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { credentials: 16, searched_bytes: 32 * 1024 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let list = |names: &str| names.split_ascii_whitespace().map(str::to_owned).collect();
        Self {
            api_key_headers: list(
                "x-api-key api-key apikey x-apikey x-auth-token x-auth-key x-access-token x-session-token x-app-key x-app-token \
                 x-client-secret x-service-token x-internal-token x-functions-key x-gitlab-token private-token job-token \
                 deploy-token x-vault-token x-consul-token x-nomad-token x-amz-security-token x-goog-api-key \
                 ocp-apim-subscription-key x-subscription-token x-rapidapi-key x-shopify-access-token x-figma-token dd-api-key \
                 dd-application-key x-honeycomb-team x-sentry-auth x-aws-ec2-metadata-token x-github-token circle-token \
                 x-jfrog-art-api x-algolia-api-key x-meili-api-key xi-api-key x-parse-rest-api-key x-redmine-api-key \
                 x-n8n-api-key x-auth x-internal-auth x-token x-secret x-secret-key",
            ),
            signature_headers: list(
                "x-signature x-hub-signature x-hub-signature-256 x-slack-signature stripe-signature x-hmac-signature x-hmac \
                 x-webhook-signature webhook-signature svix-signature x-shopify-hmac-sha256 x-line-signature x-twilio-signature \
                 x-signature-ed25519 x-request-signature x-authentication-signature x-gitea-signature x-content-signature \
                 paypal-transmission-sig x-square-hmacsha256-signature x-zm-signature",
            ),
            session_cookies: list(
                "session sessionid session_id session-id sessid sess sid ssid connect.sid jsessionid phpsessid \
                 asp.net_sessionid .aspxauth .aspnetcore.cookies .aspnetcore.session laravel_session ci_session cfid cftoken \
                 auth auth_token authtoken access_token accesstoken refresh_token id_token token jwt remember_token \
                 remember_user_token user_session grafana_session _oauth2_proxy authelia_session vouchcookie sso _forward_auth \
                 *_session *-session *.session *_session_id *_sessionid *sessid *.sid *_sid *_auth_token *-auth-token \
                 *_access_token *-token.sig *session-token *session_token *_session_token *_session_key",
            ),
            query_parameters: list(
                "access_token accesstoken access-token token auth_token auth-token authtoken bearer_token id_token refresh_token \
                 jwt api_key api-key apikey x-api-key key appkey app_key secret client_secret api_secret secret_key password \
                 passwd pwd pass subscription-key auth private_token job_token sig signature x-goog-signature hmac sessionid \
                 session_id jsessionid phpsessid sid session x-amz-security-token x-vault-token code_verifier",
            ),
            limits: Limits::default(),
        }
    }
}

/// What a header is to the extraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    ApiKey,
    Authorization,
    Cookie,
    DpopProof,
    HmacSignature,
    /// `X-Amz-Security-Token`: goes with SigV4, and is no credential of its own beside it.
    AwsSessionToken,
    Signature,
    SignatureInput,
}

/// Finds the credentials of requests. Holds names and the fingerprint key, nothing of any request.
#[derive(Clone, Debug)]
pub struct Extractor {
    headers: Names<(Role, Arc<str>)>,
    cookies: Names<Arc<str>>,
    cookie_endings: Vec<Box<[u8]>>,
    parameters: Names<(CredentialKind, Arc<str>)>,
    userinfo: Arc<str>,
    limits: Limits,
    key: FingerprintKey,
    /// Claims that are kept while a call is judged, besides those that are shown.
    wanted_claims: Arc<[Arc<str>]>,
}

impl Extractor {
    /// An extractor with these names and this key.
    #[must_use]
    pub fn new(settings: Settings, key: FingerprintKey) -> Self {
        let mut headers = Names::new();
        let fixed = [
            ("authorization", Role::Authorization),
            ("proxy-authorization", Role::Authorization),
            ("cookie", Role::Cookie),
            ("signature", Role::Signature),
            ("signature-input", Role::SignatureInput),
            ("dpop", Role::DpopProof),
            ("x-amz-security-token", Role::AwsSessionToken),
        ];
        let listed = settings.api_key_headers.iter().map(|name| (name.as_str(), Role::ApiKey));
        let signed = settings.signature_headers.iter().map(|name| (name.as_str(), Role::HmacSignature));
        for (name, role) in fixed.into_iter().chain(listed).chain(signed) {
            headers.add(name, (role, Arc::from(format!("header:{}", name.to_ascii_lowercase()))));
        }
        let mut cookies = Names::new();
        let mut cookie_endings = Vec::new();
        for name in &settings.session_cookies {
            match name.strip_prefix('*') {
                Some(ending) if !ending.is_empty() => cookie_endings.push(ending.as_bytes().into()),
                _ => cookies.add(name, Arc::from(format!("cookie:{name}"))),
            }
        }
        let mut parameters = Names::new();
        for name in ["x-amz-signature"].into_iter().chain(settings.query_parameters.iter().map(String::as_str)) {
            let name = name.to_ascii_lowercase();
            parameters.add(&name, (parameter_kind(&name), Arc::from(format!("query:{name}"))));
        }
        let limits = settings.limits;
        let (userinfo, wanted_claims) = (Arc::from("userinfo"), Arc::default());
        Self { headers, cookies, cookie_endings, parameters, userinfo, limits, key, wanted_claims }
    }

    /// Also keeps these claims of JWTs while a call is judged, by name.
    pub fn want_claims(&mut self, names: Arc<[Arc<str>]>) {
        self.wanted_claims = names;
    }

    /// The credentials of a request, in the order they stand in it: target first, then headers. A credential that stands
    /// there several times in one place is one. Time and memory are bounded by the size of the head and the limits.
    #[must_use]
    pub fn extract(&self, request: &Request) -> Vec<Credential> {
        let mut found = Found { extractor: self, credentials: Vec::new() };
        if let Some(userinfo) = &request.userinfo
            && !matches!(userinfo.as_bytes(), b"" | b":")
        {
            found.add(CredentialKind::Basic, &self.userinfo, percent_decoded(userinfo.as_bytes()).bytes(), None);
        }
        if let Some(query) = &request.query {
            let query = self.searched(query.as_bytes());
            query.split(|byte| matches!(byte, b'&' | b';')).for_each(|pair| found.parameter(pair, None, query));
        }
        if request.path.contains(';') {
            for segment in self.searched(request.path.as_bytes()).split(|byte| *byte == b'/') {
                segment.split(|byte| *byte == b';').skip(1).for_each(|pair| found.parameter(pair, Some("path"), b""));
            }
        }
        found.headers(request);
        found.credentials
    }

    /// The credential that a client certificate is, accepted at the TLS layer; `leaf` is its bytes, where they were visible.
    #[must_use]
    pub fn client_certificate(&self, leaf: Option<&[u8]>) -> Credential {
        let fingerprint = leaf.map(|leaf| self.key.fingerprint(leaf)).unwrap_or_default();
        Credential {
            kind: CredentialKind::Mtls,
            carrier: "tls:client-certificate".into(),
            fingerprint,
            claims: None,
            custom: None,
        }
    }

    /// Whether [`Self::extract`] looked at all of a request: when it did not, a credential may stand in what was left out.
    #[must_use]
    pub fn looks_at_all(&self, request: &Request, found: &[Credential]) -> bool {
        let limit = self.limits.searched_bytes;
        found.len() < self.limits.credentials
            && request.path.len() <= limit
            && request.query.as_ref().is_none_or(|query| query.len() <= limit)
            && request.head.headers().all(|(_, value)| value.len() <= limit)
    }

    fn searched<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        &value[..value.len().min(self.limits.searched_bytes)]
    }

    /// The carrier of a session cookie; `None` when the name is no session's.
    fn session_cookie(&self, name: &[u8]) -> Option<Arc<str>> {
        let plain = ["__host-", "__secure-"]
            .into_iter()
            .find_map(|prefix| {
                let (head, rest) = name.split_at_checked(prefix.len())?;
                head.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
            })
            .unwrap_or(name);
        match self.cookies.get(plain) {
            Some(carrier) if &carrier.as_bytes()["cookie:".len()..] == name => return Some(carrier.clone()),
            Some(_) => return Some(cookie_carrier(name)),
            None => {}
        }
        let ends = |ending: &[u8]| {
            let tail = plain.len().checked_sub(ending.len()).map(|at| &plain[at..]);
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(ending))
        };
        self.cookie_endings.iter().any(|ending| ends(ending)).then(|| cookie_carrier(name))
    }
}

/// What a parameter of this name holds.
fn parameter_kind(name: &str) -> CredentialKind {
    match name {
        "x-amz-signature" => CredentialKind::AwsSigv4,
        "sig" | "signature" | "x-goog-signature" | "hmac" => CredentialKind::HttpSignature,
        "sessionid" | "session_id" | "jsessionid" | "phpsessid" | "sid" | "session" => CredentialKind::SessionCookie,
        _ if name.contains("token") || name == "jwt" || name == "auth" => CredentialKind::BearerOpaque,
        _ => CredentialKind::ApiKey,
    }
}

/// A cookie's carrier, with its name as it was sent: names of cookies differ by case.
fn cookie_carrier(name: &[u8]) -> Arc<str> {
    let name = &name[..name.len().min(64)];
    if is_token(name) {
        return Arc::from("cookie:{token}");
    }
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '_' };
    Arc::from(format!("cookie:{}", name.iter().map(shown).collect::<String>()))
}

/// The credentials of one request so far.
struct Found<'a> {
    extractor: &'a Extractor,
    credentials: Vec<Credential>,
}

impl Found<'_> {
    fn add(&mut self, kind: CredentialKind, carrier: &Arc<str>, secret: &[u8], claims: Option<Claims>) {
        if self.credentials.len() >= self.extractor.limits.credentials {
            return;
        }
        let fingerprint = self.extractor.key.fingerprint(secret);
        let same =
            |known: &Credential| known.kind == kind && known.fingerprint == fingerprint && known.carrier == *carrier;
        if !self.credentials.iter().any(same) {
            let wanted = &self.extractor.wanted_claims;
            let read = claims.as_ref().filter(|claims| claims.readable && !wanted.is_empty());
            let custom = read.and_then(|_| CustomClaims::read(secret, wanted)).map(Box::new);
            let claims = claims.map(Box::new);
            self.credentials.push(Credential { kind, carrier: carrier.clone(), fingerprint, claims, custom });
        }
    }

    fn headers(&mut self, request: &Request) {
        let extractor = self.extractor;
        let mut session_token = None;
        for (name, value) in request.head.headers() {
            let Some((role, carrier)) = extractor.headers.get(name) else {
                self.unlisted(name, extractor.searched(value));
                continue;
            };
            match role {
                Role::Authorization => {
                    if let Some(proof) = authorization::read(value) {
                        self.add(proof.kind, carrier, proof.secret.bytes(), proof.claims);
                    }
                }
                Role::ApiKey => self.key(carrier, value),
                Role::HmacSignature | Role::Signature if is_placeholder(value) => {}
                Role::HmacSignature => self.add(CredentialKind::HttpSignature, carrier, value, None),
                Role::Signature => {
                    let input = request.head.values("signature-input").find_map(|input| parameter(input, b"keyid"));
                    let named = parameter(value, b"keyid").or(input).unwrap_or(value);
                    self.add(CredentialKind::HttpSignature, carrier, named, None);
                }
                Role::DpopProof if is_placeholder(value) => {}
                Role::DpopProof => self.add(CredentialKind::Dpop, carrier, value, None),
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
    fn parameter(&mut self, pair: &[u8], place: Option<&str>, query: &[u8]) {
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
            self.add(*kind, &carrier(Some(known)), access_key(scope.bytes()), None);
        } else {
            self.add(*kind, &carrier(Some(known)), value, None);
        }
    }
}
