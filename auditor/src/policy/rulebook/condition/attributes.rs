//! What an expression can ask for, and of which type it is.

/// Type of a value, as far as it is known before a call is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Double,
    Text,
    List(Box<Type>),
    /// A record of attributes, by its path: `transport.client_certificate`.
    Record(String),
    /// Only the call tells.
    Dyn,
}

impl Type {
    /// Its name, as people know it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Bool => "a truth value".to_owned(),
            Self::Int => "a whole number".to_owned(),
            Self::Double => "a number".to_owned(),
            Self::Text => "text".to_owned(),
            Self::List(item) => match **item {
                Self::Text => "a list of texts".to_owned(),
                _ => "a list".to_owned(),
            },
            Self::Record(path) => format!("the record `{path}`"),
            Self::Dyn => "a claim".to_owned(),
        }
    }

    pub(super) fn texts() -> Self {
        Self::List(Box::new(Self::Text))
    }
}

/// A name and its type.
type Declared = (&'static str, fn() -> Type);

/// Attributes with a fixed name, by their path.
const FIXED: [Declared; 22] = [
    ("source.workload", || Type::Text),
    ("source.namespace", || Type::Text),
    ("source.address", || Type::Text),
    ("source.executable", || Type::Text),
    ("destination.workload", || Type::Text),
    ("destination.namespace", || Type::Text),
    ("destination.address", || Type::Text),
    ("destination.executable", || Type::Text),
    ("destination.port", || Type::Int),
    ("request.method", || Type::Text),
    ("request.path", || Type::Text),
    ("request.route", || Type::Text),
    ("request.authority", || Type::Text),
    ("transport.security", || Type::Text),
    ("transport.version", || Type::Text),
    ("transport.sni", || Type::Text),
    ("transport.resumed", || Type::Bool),
    ("transport.client_certificate.spiffe_id", || Type::Text),
    ("transport.client_certificate.subject", || Type::Text),
    ("credential.kind", || Type::Text),
    ("credential.carrier", || Type::Text),
    ("credential.signature", || Type::Text),
];

/// Registered claims that are read of every token; all others are kept when an expression names them.
const CLAIMS: [Declared; 9] = [
    ("aud", Type::texts),
    ("client_id", || Type::Text),
    ("exp", || Type::Int),
    ("iat", || Type::Int),
    ("iss", || Type::Text),
    ("nbf", || Type::Int),
    ("roles", Type::texts),
    ("scope", Type::texts),
    ("sub", || Type::Text),
];

/// Records.
pub(super) const RECORDS: [&str; 8] =
    ["source", "destination", "request", "path", "transport", "transport.client_certificate", "credential", "claims"];

/// Whether a claim is read of every token.
pub(super) fn is_registered(claim: &str) -> bool {
    CLAIMS.iter().any(|(name, _)| *name == claim)
}

/// The type of `record.field`; otherwise the fields there are.
pub(super) fn field(record: &str, field: &str, captures: &[Box<str>]) -> Result<Type, Vec<String>> {
    let path = format!("{record}.{field}");
    if let Some((_, kind)) = FIXED.iter().find(|(known, _)| *known == path) {
        return Ok(kind());
    }
    match record {
        "claims" => Ok(CLAIMS.iter().find(|(name, _)| *name == field).map_or(Type::Dyn, |(_, kind)| kind())),
        "path" if captures.iter().any(|name| **name == *field) => Ok(Type::Text),
        "path" => Err(captures.iter().map(ToString::to_string).collect()),
        _ if RECORDS.contains(&&*path) => Ok(Type::Record(path)),
        _ => {
            let prefix = format!("{record}.");
            let known = FIXED.iter().map(|(path, _)| *path).chain(RECORDS);
            let inside = known.filter_map(|path| path.strip_prefix(&*prefix)).filter(|rest| !rest.contains('.'));
            Err(inside.map(str::to_owned).collect())
        }
    }
}
