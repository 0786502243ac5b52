//! Checks an expression before any call is seen: every name is declared, every operator gets what it takes, the result is a
//! truth value, and what it can cost is bounded.

use std::collections::HashMap;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators},
};

use super::attributes::{self, RECORDS, Type};
use crate::config::{nearest, value::shown};

/// Most nodes of an expression, those that macros write included.
const NODES: usize = 400;
/// Most evaluations of a node that an expression can take.
const COST: usize = 10_000;
/// Lists of calls have at most so many entries.
const LIST: usize = 16;

const FUNCTIONS: [&str; 6] = ["size", "contains", "startsWith", "endsWith", "string", "int"];

/// What is wrong with an expression.
#[derive(Debug)]
pub(super) struct Fault {
    /// The node.
    pub(super) node: u64,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// One attribute an expression asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    /// Its path: `claims.tenant`.
    pub(super) path: Box<str>,
    /// Only whether it is there.
    pub(super) presence: bool,
}

/// Walks an expression.
pub(super) struct Checker<'a> {
    captures: &'a [Box<str>],
    /// Variables of macros, innermost last, and their types.
    scope: Vec<(String, Type)>,
    pub(super) asked: Vec<Asked>,
    /// Attributes by the node that selects them.
    selected: HashMap<u64, String>,
    nodes: usize,
    cost: usize,
    /// How often the node that is looked at can be evaluated.
    times: usize,
}

type Checked = Result<Type, Fault>;

fn fault<T>(node: &IdedExpr, reason: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { node: leftmost(node), reason: reason.into(), remedy: remedy.into() })
}

/// Where an expression begins: a field's and an operator's own place is in its middle.
fn leftmost(node: &IdedExpr) -> u64 {
    match &node.expr {
        Expr::Select(select) if select.operand.id > 0 => leftmost(&select.operand),
        Expr::Call(CallExpr { target: Some(target), .. }) => leftmost(target),
        Expr::Call(CallExpr { func_name, args, .. }) if func_name.starts_with('_') => {
            args.first().map_or(node.id, leftmost)
        }
        _ => node.id,
    }
}

impl<'a> Checker<'a> {
    pub(super) fn new(captures: &'a [Box<str>]) -> Self {
        Self { captures, scope: Vec::new(), asked: Vec::new(), selected: HashMap::new(), nodes: 0, cost: 0, times: 1 }
    }

    /// Checks a whole expression.
    pub(super) fn condition(&mut self, root: &IdedExpr) -> Result<(), Fault> {
        match self.of(root)? {
            Type::Bool => {}
            Type::Dyn => {
                return fault(root, "a claim by itself is no condition", "compare it, such as `claims.admin == true`");
            }
            other => {
                let reason = format!("the result is {}, not a truth value", other.name());
                return fault(root, reason, "write a comparison, such as `claims.tenant == path.tenant`");
            }
        }
        self.asked.sort();
        self.asked.dedup();
        Ok(())
    }

    /// Makes one name of each selection of an attribute, in an expression that was checked: a selection is put together and taken
    /// apart again whenever it is evaluated.
    pub(super) fn name_attributes(&self, node: &mut IdedExpr) {
        if matches!(&node.expr, Expr::Select(select) if !select.test)
            && let Some(path) = self.selected.get(&node.id)
        {
            node.expr = Expr::Ident(path.clone());
        }
        match &mut node.expr {
            Expr::Select(select) => self.name_attributes(&mut select.operand),
            Expr::Call(CallExpr { target, args, .. }) => {
                target.iter_mut().for_each(|target| self.name_attributes(target));
                args.iter_mut().for_each(|arg| self.name_attributes(arg));
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.name_attributes(element)),
            Expr::Comprehension(inner) => {
                let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = inner.as_mut();
                let nodes = [iter_range, accu_init, loop_cond, loop_step, result];
                nodes.into_iter().for_each(|node| self.name_attributes(node));
            }
            _ => {}
        }
    }

    fn of(&mut self, node: &IdedExpr) -> Checked {
        self.nodes += 1;
        self.cost = self.cost.saturating_add(self.times);
        if self.nodes > NODES || self.cost > COST {
            return fault(node, "the expression can take too long on each call", "split it over several routes");
        }
        match &node.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Ok(Type::Bool),
                LiteralValue::Int(_) | LiteralValue::UInt(_) => Ok(Type::Int),
                LiteralValue::Double(_) => Ok(Type::Double),
                LiteralValue::String(_) => Ok(Type::Text),
                LiteralValue::Null => {
                    fault(node, "nothing is null here", "ask whether it is there: `has(claims.tenant)`")
                }
                LiteralValue::Bytes(_) => fault(node, "bytes are not taken", "write text: \"...\""),
            },
            Expr::Ident(name) => self.name(node, name),
            Expr::Select(select) => self.select(node, select),
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                let mut item = None;
                for element in &list.elements {
                    let kind = self.of(element)?;
                    item = Some(item.map_or(kind.clone(), |known| if known == kind { known } else { Type::Dyn }));
                }
                if !list.optional_indices.is_empty() {
                    return fault(node, "optional entries are not taken", "write the entries without `?`");
                }
                Ok(Type::List(Box::new(item.unwrap_or(Type::Dyn))))
            }
            Expr::Comprehension(comprehension) => self.comprehension(node, comprehension),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                fault(node, "maps and messages are not taken", "use the declared variables and lists")
            }
        }
    }

    fn name(&self, node: &IdedExpr, name: &str) -> Checked {
        if let Some((_, kind)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return Ok(kind.clone());
        }
        let roots = || RECORDS.into_iter().filter(|path| !path.contains('.'));
        if roots().any(|root| root == name) {
            return Ok(Type::Record(name.to_owned()));
        }
        let remedy = match nearest(name, roots()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}; text stands in quotes", roots().collect::<Vec<_>>().join(", ")),
        };
        fault(node, format!("unknown variable `{}`", shown(name)), remedy)
    }

    fn select(&mut self, node: &IdedExpr, select: &SelectExpr) -> Checked {
        match self.of(&select.operand)? {
            Type::Record(record) => {
                let kind = self.attribute(node, &record, &select.field, select.test)?;
                if select.test {
                    return Ok(Type::Bool);
                }
                if !matches!(kind, Type::Record(_)) {
                    self.selected.insert(node.id, format!("{record}.{}", select.field));
                }
                Ok(kind)
            }
            Type::Dyn => fault(
                node,
                format!("`{}` is looked for inside a claim", shown(&select.field)),
                "of claims only text, numbers, truth values and lists of texts are read",
            ),
            other => fault(node, format!("{} has no fields", other.name()), "remove what follows the point"),
        }
    }

    /// A field of a record; notes what is asked for.
    fn attribute(&mut self, node: &IdedExpr, record: &str, field: &str, presence: bool) -> Checked {
        match attributes::field(record, field, self.captures) {
            Ok(Type::Record(path)) if presence => {
                fault(node, format!("`{path}` is a record"), format!("ask for a field of it: `has({path}.subject)`"))
            }
            Ok(kind) => {
                if !matches!(kind, Type::Record(_)) {
                    self.asked.push(Asked { path: format!("{record}.{field}").into(), presence });
                }
                Ok(kind)
            }
            Err(known) if known.is_empty() => fault(
                node,
                format!("`{record}` has no `{}`", shown(field)),
                "the route's path captures nothing; write a segment such as {tenant} in match.path",
            ),
            Err(known) => {
                let remedy = match nearest(field, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{record}.{meant}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                fault(node, format!("`{record}` has no `{}`", shown(field)), remedy)
            }
        }
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Checked {
        let CallExpr { func_name, target, args } = call;
        if let Some(target) = target {
            return self.member(node, func_name, target, args);
        }
        match (func_name.as_str(), args.as_slice()) {
            (operators::IN, [item, list]) => self.within(node, item, list),
            (operators::INDEX, [of, at]) => self.index(node, of, at),
            (operators::CONDITIONAL, [condition, one, other]) => {
                self.expect(condition, &[Type::Bool])?;
                let (one, other) = (self.of(one)?, self.of(other)?);
                Ok(if one == other { one } else { Type::Dyn })
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _])
            | (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [_]) => {
                args.iter().try_for_each(|arg| self.expect(arg, &[Type::Bool]).map(drop))?;
                Ok(Type::Bool)
            }
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
                self.comparable(node, one, other)?;
                Ok(Type::Bool)
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [one, other],
            ) => match self.comparable(node, one, other)? {
                Type::Int | Type::Double | Type::Text | Type::Dyn => Ok(Type::Bool),
                of => fault(one, format!("{} has no order", of.name()), "compare numbers or texts"),
            },
            (operators::ADD, [one, other]) => self.add(node, one, other),
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [one, other]) => {
                let kind = self.expect(one, &[Type::Int, Type::Double])?;
                self.expect(other, &[Type::Int, Type::Double])?;
                Ok(kind)
            }
            (operators::NEGATE, [one]) => self.expect(one, &[Type::Int, Type::Double]),
            ("size", [one]) => self.size(one),
            ("string", [one]) => {
                self.expect(one, &[Type::Text, Type::Int, Type::Double, Type::Bool])?;
                Ok(Type::Text)
            }
            ("int", [one]) => {
                self.expect(one, &[Type::Text, Type::Int, Type::Double])?;
                Ok(Type::Int)
            }
            _ => unknown_function(node, func_name),
        }
    }

    fn member(&mut self, node: &IdedExpr, name: &str, target: &IdedExpr, args: &[IdedExpr]) -> Checked {
        match (name, args) {
            ("contains" | "startsWith" | "endsWith", [part]) => {
                self.expect(target, &[Type::Text])?;
                self.expect(part, &[Type::Text])?;
                Ok(Type::Bool)
            }
            ("size", []) => self.size(target),
            _ => unknown_function(node, name),
        }
    }

    fn size(&mut self, of: &IdedExpr) -> Checked {
        match self.of(of)? {
            Type::Text | Type::List(_) | Type::Dyn => Ok(Type::Int),
            other => fault(of, format!("{} has no size", other.name()), "give it text or a list"),
        }
    }

    fn within(&mut self, node: &IdedExpr, item: &IdedExpr, list: &IdedExpr) -> Checked {
        match self.of(list)? {
            Type::List(of) => {
                let item_type = self.of(item)?;
                if !alike(&item_type, &of) {
                    let reason = format!("{} is looked for in {}", item_type.name(), Type::List(of).name());
                    return fault(node, reason, "compare what is of one type");
                }
            }
            Type::Dyn => drop(self.of(item)?),
            Type::Record(record) => {
                let Expr::Literal(LiteralValue::String(field)) = &item.expr else {
                    return fault(item, format!("a field of `{record}` must be named"), "write its name in quotes");
                };
                self.attribute(node, &record, field, true)?;
            }
            other => {
                let remedy = "for a part of a text write `text.contains(part)`";
                return fault(list, format!("{} holds nothing to look in", other.name()), remedy);
            }
        }
        Ok(Type::Bool)
    }

    fn index(&mut self, node: &IdedExpr, of: &IdedExpr, at: &IdedExpr) -> Checked {
        match self.of(of)? {
            Type::List(item) => {
                self.expect(at, &[Type::Int])?;
                Ok(*item)
            }
            Type::Record(record) => match &at.expr {
                Expr::Literal(LiteralValue::String(field)) => self.attribute(node, &record, field, false),
                _ => fault(at, format!("a field of `{record}` must be named"), "write its name in quotes"),
            },
            other => fault(of, format!("{} has no entries", other.name()), "remove the brackets"),
        }
    }

    fn add(&mut self, node: &IdedExpr, one: &IdedExpr, other: &IdedExpr) -> Checked {
        // Macros gather their results so.
        let gathers = matches!(&one.expr, Expr::Ident(name) if self.is_accumulator(name));
        let (left, right) = (self.of(one)?, self.of(other)?);
        match (&left, &right) {
            (Type::List(_), Type::List(_)) if gathers => Ok(left),
            (Type::List(_), _) => {
                fault(node, "lists are not joined here", "ask each list by itself and join with `||`")
            }
            (Type::Text, Type::Text | Type::Dyn) | (Type::Dyn, Type::Text) => Ok(Type::Text),
            (Type::Int | Type::Double, _) if alike(&left, &right) => Ok(left),
            _ => {
                fault(node, format!("{} and {} cannot be added", left.name(), right.name()), "add what is of one type")
            }
        }
    }

    fn is_accumulator(&self, name: &str) -> bool {
        self.scope.iter().any(|(known, _)| known == name) && !name.starts_with(|c: char| c.is_ascii_alphabetic())
    }

    fn comprehension(&mut self, node: &IdedExpr, macro_call: &ComprehensionExpr) -> Checked {
        let item = match self.of(&macro_call.iter_range)? {
            Type::List(item) => *item,
            Type::Dyn => Type::Dyn,
            other => {
                let reason = format!("{} has no entries to go through", other.name());
                return fault(&macro_call.iter_range, reason, "go through a list, such as `claims.aud`");
            }
        };
        if macro_call.iter_var2.is_some() {
            return fault(node, "macros with two variables are not taken", "use one variable");
        }
        let literal = match &macro_call.iter_range.expr {
            Expr::List(list) => list.elements.len(),
            _ => 0,
        };
        let times = self.times;
        let accumulator = self.of(&macro_call.accu_init)?;
        let outside = self.scope.len();
        self.scope.push((macro_call.accu_var.clone(), accumulator));
        self.scope.push((macro_call.iter_var.clone(), item));
        self.times = times.saturating_mul(literal.max(LIST));
        let inside = self.of(&macro_call.loop_cond).and_then(|_| self.of(&macro_call.loop_step));
        self.times = times;
        self.scope.truncate(outside + 1);
        let result = inside.and_then(|_| self.of(&macro_call.result));
        self.scope.truncate(outside);
        result
    }

    /// The type of what stands left.
    fn comparable(&mut self, node: &IdedExpr, one: &IdedExpr, other: &IdedExpr) -> Checked {
        let (left, right) = (self.of(one)?, self.of(other)?);
        if matches!(left, Type::Record(_)) || matches!(right, Type::Record(_)) || !alike(&left, &right) {
            let reason = format!("{} is compared with {}", left.name(), right.name());
            let remedy = match (&left, &right) {
                (Type::List(_), _) | (_, Type::List(_)) => "ask whether it is in the list: `\"orders\" in claims.aud`",
                (Type::Record(_), _) | (_, Type::Record(_)) => "name a field of the record",
                _ => "compare what is of one type; `string()` and `int()` turn one into the other",
            };
            return fault(node, reason, remedy);
        }
        Ok(left)
    }

    fn expect(&mut self, node: &IdedExpr, kinds: &[Type]) -> Checked {
        let kind = self.of(node)?;
        if kind == Type::Dyn || kinds.contains(&kind) {
            return Ok(kind);
        }
        let wanted: Vec<String> = kinds.iter().map(Type::name).collect();
        fault(node, format!("this is {}", kind.name()), format!("{} is needed here", wanted.join(" or ")))
    }
}

/// Whether values of the two types can be equal.
fn alike(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn, _) | (_, Type::Dyn) | (Type::Int, Type::Double) | (Type::Double, Type::Int) => true,
        (Type::List(one), Type::List(other)) => alike(one, other),
        _ => one == other,
    }
}

fn unknown_function(node: &IdedExpr, name: &str) -> Checked {
    let remedy = match nearest(name, FUNCTIONS) {
        _ if name == "matches" => {
            "regular expressions cost too much on each call; use startsWith, endsWith or contains".to_owned()
        }
        Some(meant) if meant != name => format!("did you mean `{meant}`?"),
        Some(_) => "it takes other arguments".to_owned(),
        None => format!("there are {}, and the macros has, all, exists, exists_one, filter, map", FUNCTIONS.join(", ")),
    };
    fault(node, format!("unknown function `{}`", shown(name)), remedy)
}
