//! The rules: what can be wrong with a call, how bad it is unless circumstances say otherwise, and what to do about it.

use crate::judgement::Severity;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in records, metrics and configuration. Never renamed.
    pub id: &'static str,
    /// How bad a finding is by default.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it is wrong.
    pub explanation: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where to read on.
    pub link: &'static str,
}

pub(super) const UNAUTHENTICATED_CALL: &str = "unauthenticated-call";
pub(super) const PLAINTEXT_CREDENTIAL: &str = "plaintext-credential";
pub(super) const BASIC_CREDENTIAL: &str = "basic-credential";
pub(super) const STATIC_API_KEY: &str = "static-api-key";
pub(super) const CREDENTIAL_IN_URL: &str = "credential-in-url";
pub(super) const CORS_ON_INTERNAL: &str = "cors-on-internal";
pub(super) const JWT_UNSIGNED: &str = "jwt-unsigned";
pub(super) const JWT_EXPIRED_ACCEPTED: &str = "jwt-expired-accepted";
pub(super) const JWT_NOT_YET_VALID: &str = "jwt-not-yet-valid";
pub(super) const JWT_NO_EXPIRY: &str = "jwt-no-expiry";
pub(super) const JWT_LONG_LIVED: &str = "jwt-long-lived";
pub(super) const JWT_ISSUER: &str = "jwt-issuer";
pub(super) const JWT_AUDIENCE: &str = "jwt-audience";
pub(super) const JWT_SCOPE: &str = "jwt-scope";
pub(super) const POLICY_VIOLATION: &str = "policy-violation";
pub(super) const UNTRUSTED_CLIENT_CERTIFICATE: &str = "untrusted-client-certificate";
pub(super) const NO_CLIENT_IDENTITY: &str = "no-client-identity";
pub(super) const TLS_OUTDATED: &str = "tls-outdated";
pub(super) const CERTIFICATE_EXPIRES_SOON: &str = "certificate-expires-soon";

/// Every rule, in the order in which reports list them.
pub const RULES: &[Rule] = &[
    Rule {
        id: UNAUTHENTICATED_CALL,
        severity: Severity::High,
        title: "Internal call served without proof of identity",
        explanation: "The whole request was seen: it carried no credential, and the connection carried no client identity. The \
                      service answered it nevertheless. Whoever reaches the network reaches this endpoint.",
        remedy: "Make the service require a proof of identity and answer 401 without one: mutual TLS between workloads, or a \
                 short-lived signed token made for this service.",
        link: "https://doi.org/10.6028/NIST.SP.800-207",
    },
    Rule {
        id: PLAINTEXT_CREDENTIAL,
        severity: Severity::High,
        title: "Reusable secret sent in clear between nodes",
        explanation: "A secret that is valid for whoever holds it left the node without encryption. Everyone on the way can read \
                      it and act as the caller.",
        remedy: "Use TLS between the two, and replace the secret: it has to be taken as known to others.",
        link: "https://www.rfc-editor.org/rfc/rfc6750#section-5.3",
    },
    Rule {
        id: BASIC_CREDENTIAL,
        severity: Severity::Medium,
        title: "HTTP Basic between services",
        explanation: "Basic sends a user name and a password with every call. They live long, are known to both sides, and cannot \
                      be limited to one service or one purpose.",
        remedy: "Use a short-lived token made for the called service, or mutual TLS.",
        link: "https://www.rfc-editor.org/rfc/rfc7617#section-4",
    },
    Rule {
        id: STATIC_API_KEY,
        severity: Severity::Medium,
        title: "Static key instead of an identity",
        explanation: "A key that is the same in every call proves that somebody got hold of it, not who calls. It does not expire, \
                      and who finds it in a configuration, an image or a log can use it.",
        remedy: "Use a short-lived token made for the called service, or mutual TLS. Until then give each caller a key of its own \
                 and change it regularly.",
        link: "https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#api-keys",
    },
    Rule {
        id: CREDENTIAL_IN_URL,
        severity: Severity::High,
        title: "Secret in the URL",
        explanation: "URLs are written to access logs, histories, traces and Referer headers on every hop. A secret in one has to \
                      be taken as known to all who read those.",
        remedy: "Send the secret in the Authorization header, and replace the one that was in the URL.",
        link: "https://www.rfc-editor.org/rfc/rfc6750#section-2.3",
    },
    Rule {
        id: CORS_ON_INTERNAL,
        severity: Severity::Medium,
        title: "Internal endpoint readable by web pages",
        explanation: "The answer carries Access-Control-Allow-Origin: a page of that origin in the browser of anyone inside can \
                      call this endpoint and read the answer.",
        remedy: "Remove the CORS headers from internal endpoints, or name the exact origins that need them.",
        link: "https://fetch.spec.whatwg.org/#http-cors-protocol",
    },
    Rule {
        id: JWT_UNSIGNED,
        severity: Severity::Critical,
        title: "Unsigned token",
        explanation: "The token says alg none: it has no signature, so anyone can write any claims into it.",
        remedy: "Make the service accept only the algorithms it expects, and find out who sends unsigned tokens.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3.1",
    },
    Rule {
        id: JWT_EXPIRED_ACCEPTED,
        severity: Severity::High,
        title: "Expired token accepted",
        explanation: "The token had expired when it was sent, and the service answered as if it were valid. A token that leaked \
                      long ago still works here.",
        remedy: "Make the service check exp, with a leeway of a minute at most, and the caller renew its token in time.",
        link: "https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4",
    },
    Rule {
        id: JWT_NOT_YET_VALID,
        severity: Severity::High,
        title: "Token used before it is valid",
        explanation: "The token says that it must not be used before a time that had not come. Either the service does not check \
                      the claim, or clocks disagree by more than the leeway.",
        remedy: "Make the service check nbf, and keep the clocks of issuer and services in step.",
        link: "https://www.rfc-editor.org/rfc/rfc7519#section-4.1.5",
    },
    Rule {
        id: JWT_NO_EXPIRY,
        severity: Severity::Medium,
        title: "Token without expiry",
        explanation: "The token has no exp claim: once leaked it works until the signing key is changed.",
        remedy: "Make the issuer set exp to minutes, and the service refuse tokens without it.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3",
    },
    Rule {
        id: JWT_LONG_LIVED,
        severity: Severity::Medium,
        title: "Long-lived token",
        explanation: "The token is valid for longer than the limit. A leaked one can be used for all that time.",
        remedy: "Make the issuer give tokens for minutes and the caller renew them.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3",
    },
    Rule {
        id: JWT_ISSUER,
        severity: Severity::High,
        title: "Token of an issuer that the route does not take",
        explanation: "The policy says whose tokens this route takes. The token names another issuer, or none, and the service \
                      did not refuse it. Whoever can get a token anywhere can call it.",
        remedy: "Make the service check `iss` against the issuers it trusts, and the key against that issuer.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3.8",
    },
    Rule {
        id: JWT_AUDIENCE,
        severity: Severity::Medium,
        title: "Token made for another service",
        explanation: "The policy says for whom tokens on this route must be made. The token names another audience, or none, and \
                      the service did not refuse it. A token given to one service can be used at this one.",
        remedy: "Make the service check that `aud` names it, and the issuer give a token for each service.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3.9",
    },
    Rule {
        id: JWT_SCOPE,
        severity: Severity::Medium,
        title: "Token without the scope that the route requires",
        explanation: "The policy says what a token must allow on this route. The token does not say that it does, and the \
                      service did not refuse it.",
        remedy: "Make the service check the token's scopes for each operation.",
        link: "https://www.rfc-editor.org/rfc/rfc6750#section-3.1",
    },
    Rule {
        id: POLICY_VIOLATION,
        severity: Severity::High,
        title: "Call that the policy does not allow",
        explanation: "The policy says who may call this route, with which kind of proof, under which condition. The call does not \
                      meet that, and the service did not refuse it.",
        remedy: "Make the service refuse such calls, mend the caller, or correct the policy if the call is meant to be.",
        link: "https://doi.org/10.6028/NIST.SP.800-207",
    },
    Rule {
        id: UNTRUSTED_CLIENT_CERTIFICATE,
        severity: Severity::High,
        title: "Client certificate accepted that must not be trusted",
        explanation: "The client's certificate is expired, not valid yet, signed by its own key, of a foreign trust domain, or not \
                      of an issuer that is trusted here, and the server went on with the handshake. Whoever makes such a \
                      certificate is let in, unless the service refuses it inside.",
        remedy: "Make the server verify client certificates against the issuers of its callers alone and end the handshake \
                 otherwise: nginx ssl_verify_client on, Go tls.RequireAndVerifyClientCert, Envoy require_client_certificate with a \
                 trusted_ca. Replace expired certificates. Missing issuers belong into trust.bundles.",
        link: "https://www.rfc-editor.org/rfc/rfc5280#section-6",
    },
    Rule {
        id: NO_CLIENT_IDENTITY,
        severity: Severity::Medium,
        title: "TLS without client certificate",
        explanation: "The connection is encrypted, and the client did not prove who it is at the TLS layer. Calls inside may carry a \
                      credential, which is not visible: without one, whoever reaches this endpoint can use it.",
        remedy: "Require client certificates between workloads (mutual TLS), or make sure that the service refuses calls without a \
                 short-lived token.",
        link: "https://doi.org/10.6028/NIST.SP.800-207A",
    },
    Rule {
        id: TLS_OUTDATED,
        severity: Severity::Medium,
        title: "Outdated TLS",
        explanation: "The server chose a version of TLS before 1.2, or a cipher suite that does not encrypt or that is broken. What is \
                      sent can be read or changed on the way, and proofs of identity made with it do not hold.",
        remedy: "Allow TLS 1.2 and 1.3 alone, with AEAD suites, at the server; update clients that can do nothing newer.",
        link: "https://www.rfc-editor.org/rfc/rfc9325#section-3.1.1",
    },
    Rule {
        id: CERTIFICATE_EXPIRES_SOON,
        severity: Severity::Low,
        title: "Certificate expires soon",
        explanation: "A certificate in use ends within the warning time, or the server's has ended already. Calls fail then, or \
                      verification is switched off in a hurry.",
        remedy: "Renew it, and let something renew it by itself well before its end: cert-manager, SPIRE, an ACME client.",
        link: "https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.5",
    },
];

/// The rule of an id.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// The default severity of a rule of the table.
pub(super) fn severity(id: &'static str) -> Severity {
    rule(id).map_or(Severity::High, |rule| rule.severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_complete_and_distinct() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id);
            assert!(rule.link.starts_with("https://") && rule.explanation.ends_with('.') && rule.remedy.ends_with('.'));
            assert!(!RULES[..at].iter().any(|other| other.id == rule.id), "{} is there twice", rule.id);
        }
    }
}
