//! From a request to its credentials.

use std::sync::Arc;

use auditor_wire::exchange::Request;

use super::{
    Checked, Credential, CredentialKind, CustomClaims, FingerprintKey,
    authorization::percent_decoded,
    found::{Found, Sight},
    names::Names,
    recall::Recall,
    shape::is_token,
    verify::Verifier,
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
pub(super) enum Role {
    ApiKey,
    Authorization,
    Cookie,
    DpopProof,
    ForwardedCertificate,
    HmacSignature,
    /// `X-Amz-Security-Token`: goes with SigV4, and is no credential of its own beside it.
    AwsSessionToken,
    Signature,
    SignatureInput,
}

/// Finds the credentials of requests. Holds names and the fingerprint key, nothing of any request.
#[derive(Clone, Debug)]
pub struct Extractor {
    pub(super) headers: Names<(Role, Arc<str>)>,
    cookies: Names<Arc<str>>,
    cookie_endings: Vec<Box<[u8]>>,
    pub(super) parameters: Names<(CredentialKind, Arc<str>)>,
    userinfo: Arc<str>,
    pub(super) limits: Limits,
    pub(super) key: FingerprintKey,
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(super) recall: Arc<Recall>,
    /// Claims that are kept while a call is judged, besides those that are shown.
    pub(super) wanted_claims: Arc<[Arc<str>]>,
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
            ("x-forwarded-client-cert", Role::ForwardedCertificate),
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
        let recall = Arc::new(Recall::new());
        Self {
            headers,
            cookies,
            cookie_endings,
            parameters,
            userinfo: Arc::from("userinfo"),
            limits,
            key,
            verifier: None,
            recall,
            wanted_claims: Arc::default(),
        }
    }

    /// The same, which also checks signatures of tokens.
    #[must_use]
    pub fn with_verifier(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// What checks signatures of tokens, if anything does.
    #[must_use]
    pub fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_deref()
    }

    /// Also keeps these claims of JWTs while a call is judged, by name.
    pub fn want_claims(&mut self, names: Arc<[Arc<str>]>) {
        self.wanted_claims = names;
    }

    /// The credentials of a request, in the order they stand in it: target first, then headers. A credential that stands
    /// there several times in one place is one. Time and memory are bounded by the size of the head and the limits.
    #[must_use]
    pub fn extract(&self, request: &Request) -> Vec<Credential> {
        self.found(request, Sight::Whole)
    }

    /// As [`Self::extract`], of a request whose secrets are masked: what was found out when they were not is `checked`.
    #[must_use]
    pub fn extract_masked(&self, request: &Request, checked: &[Checked]) -> Vec<Credential> {
        let mut credentials = self.found(request, Sight::Masked);
        let mut taken = vec![false; checked.len()];
        credentials.retain_mut(|credential| {
            let fits = |known: &Checked| known.kind == credential.kind && known.carrier == credential.carrier;
            let at = checked.iter().zip(&taken).position(|(known, taken)| !taken && fits(known));
            let private = credential.claims.as_ref().filter(|claims| claims.readable && !self.wanted_claims.is_empty());
            let recorded = at.and_then(|at| checked[at].claims.as_ref());
            credential.custom = private.map(|_| Box::new(CustomClaims::replayed(&self.wanted_claims, recorded)));
            if let Some(at) = at {
                taken[at] = true;
                credential.signature = checked[at].signature;
                credential.proof.clone_from(&checked[at].proof);
            }
            // Of a masked header it is not seen whether it names a certificate.
            at.is_some() || credential.kind != CredentialKind::ForwardedClientCert
        });
        credentials
    }

    fn found(&self, request: &Request, sight: Sight) -> Vec<Credential> {
        let mut found = Found { extractor: self, request, sight, credentials: Vec::new() };
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
        found.headers();
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
            signature: None,
            proof: None,
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

    pub(super) fn searched<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        &value[..value.len().min(self.limits.searched_bytes)]
    }

    /// The carrier of a session cookie; `None` when the name is no session's.
    pub(super) fn session_cookie(&self, name: &[u8]) -> Option<Arc<str>> {
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
pub(super) fn cookie_carrier(name: &[u8]) -> Arc<str> {
    let name = &name[..name.len().min(64)];
    if is_token(name) {
        return Arc::from("cookie:{token}");
    }
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '_' };
    Arc::from(format!("cookie:{}", name.iter().map(shown).collect::<String>()))
}
