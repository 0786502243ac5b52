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
pub(super) const JWT_BAD_SIGNATURE: &str = "jwt-bad-signature";
pub(super) const WEAK_SIGNATURE: &str = "weak-signature";
pub(super) const DPOP_MISMATCH: &str = "dpop-mismatch";
pub(super) const UNTRUSTED_FORWARDED_CERTIFICATE: &str = "untrusted-forwarded-certificate";
pub(super) const JWT_ISSUER: &str = "jwt-issuer";
pub(super) const JWT_AUDIENCE: &str = "jwt-audience";
pub(super) const JWT_SCOPE: &str = "jwt-scope";
pub(super) const POLICY_VIOLATION: &str = "policy-violation";
pub(super) const UNTRUSTED_CLIENT_CERTIFICATE: &str = "untrusted-client-certificate";
pub(super) const NO_CLIENT_IDENTITY: &str = "no-client-identity";
pub(super) const TLS_OUTDATED: &str = "tls-outdated";
pub(super) const CERTIFICATE_EXPIRES_SOON: &str = "certificate-expires-soon";
pub(super) const SHARED_CREDENTIAL: &str = "shared-credential";
pub(super) const CREDENTIAL_REPLAYED: &str = "credential-replayed";
pub(super) const CREDENTIAL_STRIPPED: &str = "credential-stripped";
pub(super) const NEW_UNAUTHENTICATED_EDGE: &str = "new-unauthenticated-edge";
pub(super) const UNIX_SOCKET_EXPOSED: &str = "unix-socket-exposed";

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
        id: JWT_BAD_SIGNATURE,
        severity: Severity::Critical,
        title: "Token accepted that its issuer did not sign",
        explanation: "The keys of the issuer that the token names are known here. The one that the token says it was signed with \
                      did not make this signature, or the algorithm is one that the issuer does not sign with. The service \
                      took it nevertheless: anyone can write any claims into such a token.",
        remedy: "Make the service verify signatures with the issuer's keys, with a fixed list of algorithms, before it reads a \
                 claim. If the token is right, jwt.issuers is not: check keys and algorithms there.",
        link: "https://www.rfc-editor.org/rfc/rfc8725#section-3.1",
    },
    Rule {
        id: WEAK_SIGNATURE,
        severity: Severity::Medium,
        title: "Signature that fits other requests, too",
        explanation: "The signature over the message does not cover the method, the target or the body, does not say when it was \
                      made, or was taken long after that. Who reads one such request can send another one with it.",
        remedy: "Sign @method, @target-uri and, where there is a body, content-digest, with created; make the service require \
                 these and refuse what is older than a few minutes.",
        link: "https://www.rfc-editor.org/rfc/rfc9421#section-7.2.1",
    },
    Rule {
        id: DPOP_MISMATCH,
        severity: Severity::High,
        title: "Key-bound token accepted without a fitting proof",
        explanation: "The token is bound to a key, so that only the holder of the key can use it. The proof of that was missing, \
                      too old, or made for another request, token or key, and the service answered nevertheless: a stolen token \
                      works here.",
        remedy: "Make the service require a DPoP proof with every key-bound token, and check its signature, htm, htu, iat, jti \
                 and ath, and that its key is the one in the token's cnf.jkt.",
        link: "https://www.rfc-editor.org/rfc/rfc9449#section-4.3",
    },
    Rule {
        id: UNTRUSTED_FORWARDED_CERTIFICATE,
        severity: Severity::High,
        title: "Forwarded client certificate from anyone",
        explanation: "The request says in X-Forwarded-Client-Cert which certificate its sender showed to a proxy. It did not come \
                      from a proxy that is trusted here, and the service answered. If the service goes by that header, whoever \
                      reaches it can be any workload.",
        remedy: "Let only the proxy reach the service, have the proxy remove the header from what it gets, and make the service \
                 refuse it from others. Name the proxies' networks in credentials.trusted_proxies.",
        link: "https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert",
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
    Rule {
        id: SHARED_CREDENTIAL,
        severity: Severity::High,
        title: "One credential used by several workloads",
        explanation: "Two or more workloads send the same secret as their own. The service cannot tell them apart or turn one of them \
                      away, and the secret of the weakest is that of all: when it leaks it has to be changed everywhere at once. \
                      Counted are keys, passwords, opaque tokens and tokens whose subject is a workload. A workload that passes on \
                      what it was sent does not count as one.",
        remedy: "Give each workload an identity of its own: mutual TLS, or short-lived tokens that it gets for itself, such as \
                 projected service account tokens or SPIFFE JWT-SVIDs. Then take the shared secret out of use.",
        link: "https://doi.org/10.6028/NIST.SP.800-207A",
    },
    Rule {
        id: CREDENTIAL_REPLAYED,
        severity: Severity::Medium,
        title: "One credential sent to several services",
        explanation: "The same credential went to two or more services. Each of them can act as the caller towards the others, and \
                      so can whoever breaks into one of them. Gateways that send calls on as they came are not counted as services.",
        remedy: "Use a token for each called service, with that service as its only audience: token exchange (RFC 8693) where a \
                 service calls on behalf of its caller. Make each service refuse tokens that were made for another one.",
        link: "https://www.rfc-editor.org/rfc/rfc9700#section-2.3",
    },
    Rule {
        id: CREDENTIAL_STRIPPED,
        severity: Severity::Medium,
        title: "Credential lost on the way",
        explanation: "A call came to a workload with a credential, and the workload sent the same call on without any: same request or \
                      trace id, method and path. The service behind it has to believe whoever reaches it.",
        remedy: "Make the workload in between pass the credential on, or exchange it for one made for the service behind it (RFC 8693), \
                 and make that service require it.",
        link: "https://doi.org/10.6028/NIST.SP.800-207",
    },
    Rule {
        id: NEW_UNAUTHENTICATED_EDGE,
        severity: Severity::High,
        title: "New caller without proof of identity",
        explanation: "A workload was served without proof of identity by a service that did not serve it so while edges were learned, \
                      or now changes state where it only read before. That is a change that nobody had to approve, or somebody who \
                      looks around. Calls of a new edge are findings for an hour.",
        remedy: "Find out who began to call and why. Make the service require a proof of identity, so that a new caller has to be let in.",
        link: "https://doi.org/10.6028/NIST.SP.800-207",
    },
    Rule {
        id: UNIX_SOCKET_EXPOSED,
        severity: Severity::High,
        title: "Container reaches a socket of its host",
        explanation: "A process in a container called the AF_UNIX socket of a container runtime or of a data store outside that \
                      container. Who reaches a runtime's socket can start a privileged container, and so is root on the node; a data \
                      store's takes the user id of who connects for proof, and a container can have any.",
        remedy: "Take the mount of the socket out of the container. Where a container needs some calls of a runtime, put a proxy \
                 before it that lets only those through; reach data stores over TCP with mutual TLS or a credential.",
        link: "https://docs.docker.com/engine/security/#docker-daemon-attack-surface",
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
            for text in [rule.title, rule.explanation, rule.remedy] {
                assert!(!text.contains("  ") && !text.contains('\n'), "{}: {text:?}", rule.id);
            }
            assert!(!RULES[..at].iter().any(|other| other.id == rule.id), "{} is there twice", rule.id);
        }
    }
}
