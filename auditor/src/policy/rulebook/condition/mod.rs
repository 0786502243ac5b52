//! Conditions of routes, in CEL: checked once when the policy is read, evaluated on each call of the route.
//!
//! What a call does not have makes an expression fail, and a condition that fails does not hold. What was not *seen* of a call
//! leaves the condition undecided, which is no finding.

mod attributes;
mod facts;
mod types;

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use cel::{Context, Env, ExecutionError, IdedExpr, Value, common::types::CelBool};

pub(in crate::policy) use self::facts::Facts;
use self::{
    facts::{Known, Scope},
    types::{Asked, Checker},
};
use crate::config::value::shown;

/// Longest expression, bytes.
const EXPRESSION_BYTES: usize = 2048;
/// Deepest nesting of an expression: the parser calls itself for each level, a dozen functions deep.
const DEPTH: usize = 32;
/// Stack of the thread that parses, bytes: several times what the deepest expression takes.
const STACK: usize = 64 << 20;

/// The standard functions and macros, without regular expressions and times.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A condition that was checked.
#[derive(Debug)]
pub(super) struct Condition {
    expression: IdedExpr,
    asked: Vec<Asked>,
}

/// What is wrong with an expression.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Characters of the expression before the place.
    pub(super) offset: usize,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// What came of evaluating a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Yes,
    /// Why not.
    No(String),
    /// Why it cannot be told.
    Undecided(&'static str),
}

impl Condition {
    /// Checks an expression; `captures` are what the route's path captures.
    pub(super) fn compile(text: &str, captures: &[Box<str>]) -> Result<Self, Wrong> {
        if text.len() > EXPRESSION_BYTES {
            let reason = format!("the expression is longer than {EXPRESSION_BYTES} bytes");
            return Err(Wrong { offset: 0, reason, remedy: "split it over several routes".to_owned() });
        }
        if let Some(offset) = too_deep(text) {
            let reason = format!("the expression is nested deeper than {DEPTH} levels");
            return Err(Wrong { offset, reason, remedy: "split it over several routes".to_owned() });
        }
        // The parser has no bound of its own that holds: what it takes of the stack must not be that of the caller.
        thread::scope(|scope| {
            let parsing = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || Self::parse(text, captures));
            let parsed = parsing.ok().and_then(|parsing| parsing.join().ok());
            parsed.unwrap_or_else(|| {
                let reason = "the expression cannot be parsed: there is no thread for it".to_owned();
                Err(Wrong { offset: 0, reason, remedy: "try again".to_owned() })
            })
        })
    }

    fn parse(text: &str, captures: &[Box<str>]) -> Result<Self, Wrong> {
        let parser = ENVIRONMENT.parser().error_recovery_limit(1);
        let (mut expression, source) = parser.parse_with_source_info(text).map_err(|errors| syntax(text, &errors))?;
        let mut checker = Checker::new(captures);
        match checker.condition(&expression) {
            Ok(()) => {
                checker.name_attributes(&mut expression);
                Ok(Self { expression, asked: checker.asked })
            }
            Err(fault) => {
                let offset = source.offset_for(fault.node).and_then(|(start, _)| usize::try_from(start).ok());
                Err(Wrong { offset: offset.unwrap_or_default(), reason: fault.reason, remedy: fault.remedy })
            }
        }
    }

    /// Claims it asks for that are not read of every token.
    pub(super) fn custom_claims(&self) -> impl Iterator<Item = &str> {
        let claims = self.asked.iter().filter_map(|asked| asked.path.strip_prefix("claims."));
        claims.filter(|name| !attributes::is_registered(name))
    }

    /// Whether it asks for anything of a credential.
    pub(super) fn asks_for_credential(&self) -> bool {
        self.asked.iter().any(|asked| asked.path.starts_with("claims.") || asked.path.starts_with("credential."))
    }

    /// Whether it holds for a call.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> Held {
        let scope = Scope { facts, asked: &self.asked };
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&scope);
        let result = Value::resolve_val(&self.expression, &context);
        let unseen = |presence: bool| {
            let unknown = |asked: &&Asked| facts.look(&asked.path) == Known::Unknown;
            self.asked.iter().filter(|asked| asked.presence || !presence).find(unknown)
        };
        match result.map(|value| value.downcast_ref::<CelBool>().map(|value| *value.inner())) {
            Ok(Some(true)) => Held::Yes,
            // A value that is not known ends in an error, unless the rest decides without it; only `has` takes it for absent.
            Ok(Some(false)) => match unseen(true) {
                Some(asked) => Held::Undecided(facts.why(&asked.path)),
                None => Held::No("it does not hold".to_owned()),
            },
            Ok(None) => Held::No("it gives no truth value".to_owned()),
            Err(error) => match unseen(false) {
                Some(asked) => Held::Undecided(facts.why(&asked.path)),
                None => Held::No(self.failure(facts, &error)),
            },
        }
    }

    /// What went wrong in evaluating, without a value of the call.
    fn failure(&self, facts: &Facts<'_>, error: &ExecutionError) -> String {
        let absent = |asked: &&Asked| !asked.presence && facts.look(&asked.path) == Known::Absent;
        match error {
            ExecutionError::NoSuchKey(name) | ExecutionError::UndeclaredReference(name) => {
                let field = match error {
                    // An attribute by its path.
                    ExecutionError::UndeclaredReference(_) => name.rsplit('.').next().unwrap_or_default(),
                    _ => name.as_str(),
                };
                let named = |asked: &&Asked| asked.path.rsplit('.').next() == Some(field);
                match self.asked.iter().filter(named).chain(&self.asked).find(absent) {
                    Some(asked) => format!("there is no `{}`", asked.path),
                    None => "something it asks for is not there".to_owned(),
                }
            }
            ExecutionError::NoSuchOverload(error) => {
                format!("`{}` got {}", error.function().trim_matches('_'), error.argument_types().join(" and "))
            }
            ExecutionError::IndexOutOfBounds(_) => "a list has fewer entries".to_owned(),
            _ => "it fails on what the call has".to_owned(),
        }
    }
}

/// Where an expression is nested deeper than [`DEPTH`]: brackets, operators before a value, choices. What stands in quotes counts, too.
fn too_deep(text: &str) -> Option<usize> {
    let (mut brackets, mut before, mut choices) = (0_usize, 0_usize, 0_usize);
    text.chars().position(|character| {
        match character {
            '(' | '[' | '{' => brackets += 1,
            ')' | ']' | '}' => brackets = brackets.saturating_sub(1),
            '?' => choices += 1,
            _ => {}
        }
        match character {
            '!' | '-' => before += 1,
            _ if character.is_whitespace() => {}
            _ => before = 0,
        }
        brackets.max(before).max(choices) > DEPTH
    })
}

/// The parser's first complaint.
fn syntax(text: &str, errors: &cel::ParseErrors) -> Wrong {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let number = |number: isize| usize::try_from(number.max(1)).unwrap_or(1) - 1;
    let before: usize = text.split_inclusive('\n').take(number(line)).map(|line| line.chars().count()).sum();
    let message = first.map_or("it cannot be read", |error| error.msg.trim());
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message).lines().next().unwrap_or_default();
    let (reason, remedy) = if text.trim().is_empty() {
        ("the expression is empty".to_owned(), "write one, or leave out `when`")
    } else if message.contains("'<EOF>'") {
        ("the expression ends too early".to_owned(), "close brackets, and write what follows the last operator")
    } else if let Some(rest) = message.strip_prefix("token recognition error at: ") {
        let reason = format!("the expression cannot be read from {} on", shown(rest));
        (reason, "close quotes, and write `&&`, `||`, `==` and `!`")
    } else {
        (format!("this is no CEL: {}", shown(message)), "docs/policy.md shows expressions")
    };
    Wrong { offset: (before + number(column)).min(text.chars().count()), reason, remedy: remedy.to_owned() }
}
