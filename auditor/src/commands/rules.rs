//! `auditor rules`: what can be found, why it matters, and what to change.

use std::fmt::Write as _;

use super::{Failure, print};
use crate::{
    cli::{ExplainArgs, RulesArgs, RulesCommand},
    policy::{
        examples::{Example, examples},
        rules::{RULES, Rule},
    },
    sinks::Look,
};

pub(super) fn run(arguments: &RulesArgs) -> Result<(), Failure> {
    match &arguments.command {
        None => print(&list()),
        Some(RulesCommand::Explain(ExplainArgs { rule, stack })) => {
            print(&explain(rule, stack.as_deref(), Look::of_stdout()))
        }
    }
}

fn list() -> String {
    let mut text = String::new();
    let width = RULES.iter().map(|rule| rule.id.len()).max().unwrap_or_default();
    for rule in RULES {
        let _ = writeln!(text, "{:width$}  {:8}  {}", rule.id, rule.severity, rule.title);
    }
    text
}

/// Why a rule is one and how to do better; with code for all stacks, or for those whose name has `stack` in it.
fn explain(rule: &Rule, stack: Option<&str>, look: Look) -> String {
    let mut text = look.wrap(&format!("{} ({}): {}", rule.id, rule.severity, rule.title), 0);
    for (heading, words) in [("Why", rule.explanation), ("Fix", rule.remedy)] {
        let _ = write!(text, "\n{heading}\n{}", look.wrap(words, 2));
    }
    // Not broken, so that it can be followed.
    let _ = writeln!(text, "\nMore\n  {}", rule.link);
    text.push_str("\nIn the service that is called\n");
    let wanted = |example: &Example| {
        let name = example.stack.to_ascii_lowercase();
        stack.is_none_or(|stack| name.contains(&stack.to_ascii_lowercase()))
    };
    for Example { stack, code } in examples(rule.id).filter(wanted) {
        let _ = writeln!(text, "\n  {stack}");
        for line in code.lines() {
            let _ = writeln!(text, "{}", format_args!("    {line}").to_string().trim_end());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::rule;

    #[test]
    fn explanations_fit_the_screen_and_name_what_was_asked_for() {
        for rule in RULES {
            let text = explain(rule, None, Look::PLAIN);
            let long: Vec<&str> = text
                .lines()
                .filter(|line| line.chars().count() > 80 && !line.contains("@type") && !line.contains("https://"))
                .collect();
            assert!(long.is_empty() && text.contains("  Express\n") && text.contains("  Envoy\n"), "{long:?}");
        }
        let rule = rule("unauthenticated-call").expect("a rule");
        let only = explain(rule, Some("go"), Look::PLAIN);
        assert!(only.contains("Go net/http") && !only.contains("Express"), "{only}");
    }
}
