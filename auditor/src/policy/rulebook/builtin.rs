//! Routes that are there without a policy: health probes and metrics scrapes carry no credential by custom, nor do gRPC's own
//! services for health and reflection. Serving them is a lesser finding, and still one. A route of the policy that fits comes first
//! and takes their place.

/// For methods that change nothing.
const READS: &[&str] = &["GET", "HEAD"];
/// For calls of gRPC and its relatives.
const CALLS: &[&str] = &["POST"];

/// Name, methods, paths.
pub(super) const BUILTIN: [(&str, &[&str], &[&str]); 4] = [
    (
        "builtin:health",
        READS,
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
    ("builtin:metrics", READS, &["/metrics", "/metrics/*", "/actuator/prometheus", "/stats/prometheus"]),
    // <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
    ("builtin:grpc-health", CALLS, &["/grpc.health.v1.Health/*"]),
    // <https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>
    (
        "builtin:grpc-reflection",
        CALLS,
        &["/grpc.reflection.v1.ServerReflection/*", "/grpc.reflection.v1alpha.ServerReflection/*"],
    ),
];
