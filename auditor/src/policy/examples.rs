//! What a receiving service has to do so that a rule finds nothing any more, in code, for the stacks that are met most.

/// Code for one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The framework, server or proxy.
    pub stack: &'static str,
    /// The code, without a line break at its end.
    pub code: &'static str,
}

const TOKEN: &str = include_str!("examples/token.md");
const MUTUAL_TLS: &str = include_str!("examples/mutual-tls.md");
const SIGNATURE: &str = include_str!("examples/signature.md");
const DPOP: &str = include_str!("examples/dpop.md");
const FORWARDED: &str = include_str!("examples/forwarded-certificate.md");
const CORS: &str = include_str!("examples/cors.md");
const UNIX: &str = include_str!("examples/unix-socket.md");

/// Examples for the rule of an id: by what heals it.
pub fn examples(rule: &str) -> impl Iterator<Item = Example> {
    let text = match rule {
        "cors-on-internal" => CORS,
        "plaintext-credential" => MUTUAL_TLS,
        "weak-signature" => SIGNATURE,
        "dpop-mismatch" => DPOP,
        "untrusted-forwarded-certificate" => FORWARDED,
        "unix-socket-exposed" => UNIX,
        _ if rule.starts_with("tls-") || rule.contains("certificate") || rule == "no-client-identity" => MUTUAL_TLS,
        _ => TOKEN,
    };
    text.split("## ").skip(1).filter_map(read)
}

/// A section: its heading, and what stands between the fences.
fn read(section: &'static str) -> Option<Example> {
    let (stack, rest) = section.split_once('\n')?;
    let (_, fenced) = rest.split_once("```")?;
    let (_, code) = fenced.split_once('\n')?;
    let (code, _) = code.split_once("\n```")?;
    Some(Example { stack, code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::RULES;

    #[test]
    fn every_rule_has_an_example_for_every_stack_that_fits_the_screen() {
        for rule in RULES {
            let found: Vec<Example> = examples(rule.id).collect();
            let stacks: Vec<&str> = found.iter().map(|example| example.stack).collect();
            assert_eq!(
                stacks,
                ["Express", "FastAPI", "Spring", "Go net/http", "axum", "nginx", "Envoy"],
                "{}",
                rule.id
            );
            for Example { stack, code } in found {
                assert!(code.lines().count() > 1 && code == code.trim_end(), "{} {stack}", rule.id);
                // The names of Envoy's types are as long as they are.
                let long = code.lines().filter(|line| !line.contains("@type") && line.len() > 76).count();
                assert_eq!(long, 0, "{} {stack}", rule.id);
            }
        }
    }
}
