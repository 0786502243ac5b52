//! Routes that are there without a policy: health probes and metrics scrapes carry no credential by custom. Serving them is a
//! lesser finding, and still one. A route of the policy that fits comes first and takes their place.

/// Name, paths.
pub(super) const BUILTIN: [(&str, &[&str]); 2] = [
    (
        "builtin:health",
        &[
            "/health/**",
            "/healthz/**",
            "/livez/**",
            "/readyz/**",
            "/startupz",
            "/live",
            "/ready",
            "/-/healthy",
            "/-/ready",
            "/actuator/health/**",
        ],
    ),
    ("builtin:metrics", &["/metrics", "/metrics/*", "/actuator/prometheus", "/stats/prometheus"]),
];

/// They are for methods that change nothing.
pub(super) const METHODS: [&str; 2] = ["GET", "HEAD"];
