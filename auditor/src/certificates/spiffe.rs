//! SPIFFE IDs: the names of workloads (SPIFFE ID section 2).

/// Longest ID, bytes (SPIFFE ID section 2.3).
const LONGEST: usize = 2048;
/// Longest trust domain, bytes.
const LONGEST_DOMAIN: usize = 255;

/// A workload's name: `spiffe://prod.example/ns/shop/sa/cart`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    id: Box<str>,
    /// Where in `id` the trust domain ends.
    domain_end: usize,
}

impl SpiffeId {
    const SCHEME: &str = "spiffe://";

    /// The ID that a URI is; `None` for any other URI.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix(Self::SCHEME).filter(|_| uri.len() <= LONGEST)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(in_segment);
        let fits = is_trust_domain(domain) && path.split('/').skip(1).all(segment);
        fits.then(|| Self { id: uri.into(), domain_end: Self::SCHEME.len() + domain.len() })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The trust domain: `prod.example`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.id[Self::SCHEME.len()..self.domain_end]
    }
}

/// Whether text is the name of a trust domain (SPIFFE ID section 2.1): lower-case letters, digits, `.`, `-` and `_`.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST_DOMAIN && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_standard_allows_and_nothing_else() {
        for (uri, domain) in [
            ("spiffe://prod.example/ns/shop/sa/cart", "prod.example"),
            ("spiffe://cluster.local", "cluster.local"),
            ("spiffe://1_2-3/A.b", "1_2-3"),
        ] {
            let id = SpiffeId::parse(uri).expect(uri);
            assert_eq!((id.as_str(), id.trust_domain()), (uri, domain));
        }
        for uri in [
            "",
            "spiffe://",
            "spiffe:///path",
            "https://prod.example/cart",
            "SPIFFE://prod/x",
            "spiffe://Prod/x",
            "spiffe://prod:8443/x",
            "spiffe://user@prod/x",
            "spiffe://prod/",
            "spiffe://prod/a//b",
            "spiffe://prod/a/",
            "spiffe://prod/../x",
            "spiffe://prod/a?b",
            "spiffe://prod/a#b",
            "spiffe://prod/%41",
            "spiffe://prod/grüße",
        ] {
            assert_eq!(SpiffeId::parse(uri), None, "{uri}");
        }
        assert_eq!(SpiffeId::parse(&format!("spiffe://{}/x", "a".repeat(256))), None);
        assert_eq!(SpiffeId::parse(&format!("spiffe://a/{}", "b".repeat(2048))), None);
    }
}
