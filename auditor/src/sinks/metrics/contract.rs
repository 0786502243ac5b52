//! Holds `docs/metrics.md`, the dashboard and the rules to what the program serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{Sink, sample},
    Metrics, Settings,
};

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// Name to type and labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn repository_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page on which every family has a series.
fn page() -> String {
    let metrics = Metrics::new(Settings::default());
    let mut sink = metrics.sink();
    for judgement in [sample::unauthenticated(), sample::authenticated(), sample::connection()] {
        sink.judgement(&judgement);
    }
    metrics.set_records("ring", 1);
    metrics.set_ignored("not-tcp", 1);
    metrics.set_program_run("egress", Duration::from_millis(1));
    metrics.set_tls_libraries("openssl", true, 1);
    metrics.set_sampled_out(1);
    metrics.set_sampling(1, 0.1, 0.05);
    metrics.set_tracked("connections", 1, 2);
    metrics.set_evicted("credentials", 1);
    metrics.set_external("exchange", 1);
    metrics.set_issuer_keys("https://issuer.example", 1, 0);
    metrics.set_sink_dropped("jsonl", 0);
    metrics.set_policy("0123456789abcdef", 1, [("legacy-cron", "unused")].into_iter());
    metrics.set_policy_reloads("ok", 1);
    metrics.set_sink_errors("webhook", 0);
    metrics.observe_pipeline(Duration::from_millis(1));
    metrics.render()
}

fn served() -> Families {
    let page = page();
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let labels = |name: &str, kind: &str| {
        let series = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let of = |line: &&str| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let line = page.lines().find(of).unwrap_or_else(|| panic!("{series} has no series in\n{page}"));
        selector(line.strip_prefix(&series).unwrap_or_default())
    };
    kinds.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), labels(name, kind)))).collect()
}

/// Names of the labels in `{...}` at the start of `text`.
fn selector(text: &str) -> BTreeSet<String> {
    let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.split('}').next()) else { return BTreeSet::new() };
    // Every other part is a value in quotes.
    let outside = inside.split('"').step_by(2);
    outside
        .map(|part| part.trim_matches([',', ' ', '=', '!', '~']).to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn documented() -> Families {
    let text = repository_file("docs/metrics.md");
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `auditor_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = words(cells[1]).remove(0);
        (name, (cells[2].to_owned(), words(cells[3]).into_iter().collect()))
    })
    .collect()
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&repository_file("dashboards/rules.yml")).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&repository_file("dashboards/overview.json")).unwrap()
}

/// The queries of the dashboard, its variables included.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" || name == "definition" => found.push(text.clone()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// Names in an expression that hold `auditor`, each with what follows it.
fn names(expression: &str) -> Vec<(&str, &str)> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(part_of_name) {
        let name = &rest[start..];
        let end = name.find(|c| !part_of_name(c)).unwrap_or(name.len());
        if name[..end].contains("auditor") && !rest[..start].ends_with('"') {
            found.push((&name[..end], &name[end..]));
        }
        rest = &name[end..];
    }
    found
}

fn assert_known(expression: &str, families: &Families, recorded: &BTreeSet<&str>) {
    let all: BTreeSet<&str> =
        families.values().flat_map(|(_, labels)| labels).map(String::as_str).chain(ADDED).collect();
    for (name, after) in names(expression) {
        if name.contains(':') {
            assert!(recorded.contains(name), "{name} is not recorded by a rule: {expression}");
            continue;
        }
        let family = ["", "_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let family = families.get(name.strip_suffix(suffix)?)?;
            (suffix.is_empty() != (family.0 == "histogram")).then_some(family)
        });
        let Some((_, labels)) = family else { panic!("{name} is not served: {expression}") };
        let unknown: Vec<_> = selector(after).difference(labels).cloned().collect();
        assert!(unknown.is_empty(), "{name} has no labels {unknown:?}: {expression}");
    }
    for list in expression.split("by (").skip(1) {
        for label in list.split(')').next().unwrap_or_default().split(',') {
            assert!(all.contains(label.trim()), "no metric has the label {label}: {expression}");
        }
    }
}

#[test]
fn the_documentation_lists_exactly_what_is_served() {
    let (served, documented) = (served(), documented());
    assert_eq!(documented, served, "left: docs/metrics.md, right: the program");
    for (name, (kind, _)) in &served {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
}

#[test]
fn rules_use_what_is_served_and_say_what_to_do() {
    let (served, rules) = (served(), rules());
    let recorded = rules.iter().filter_map(|rule| rule.record.as_deref()).collect();
    assert!(rules.iter().any(|rule| rule.alert.is_some()), "there are alerts");
    for rule in &rules {
        assert_known(&rule.expr, &served, &recorded);
        if let Some(alert) = &rule.alert {
            let severity = rule.labels.get("severity").map(String::as_str);
            assert!(matches!(severity, Some("info" | "warning" | "critical")), "severity of {alert}: {severity:?}");
            for annotation in ["summary", "description"] {
                assert!(rule.annotations.get(annotation).is_some_and(|text| !text.is_empty()), "{alert}: {annotation}");
            }
        }
    }
}

#[test]
fn the_dashboard_uses_what_is_served_and_explains_every_panel() {
    let (served, rules, dashboard) = (served(), rules(), dashboard());
    let recorded = rules.iter().filter_map(|rule| rule.record.as_deref()).collect();
    let mut expressions = Vec::new();
    queries(&dashboard, &mut expressions);
    assert!(expressions.len() > 10, "{expressions:?}");
    for expression in &expressions {
        assert_known(expression, &served, &recorded);
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "ids are unique: {}", panel["title"]);
        if panel["type"] != "row" {
            let said = |field: &str| panel[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("title") && said("description"), "{panel}");
        }
    }
}

#[test]
fn a_wrong_name_or_label_is_noticed() {
    let served = served();
    let fails = |expression: &'static str| {
        let served = served.clone();
        std::panic::catch_unwind(move || assert_known(expression, &served, &BTreeSet::new())).is_err()
    };
    for wrong in [
        "rate(auditor_exchange_total[5m])",
        "auditor_exchanges_total{pod=\"x\"}",
        "sum by (pod) (auditor_series)",
        "auditor_pipeline_seconds",
        "auditor_series_bucket",
        "x:auditor:y",
    ] {
        assert!(fails(wrong), "{wrong}");
    }
    for right in
        ["auditor_exchanges_total{verdict!~\"a|b\", outcome=\"x\"}", "sum by (le) (auditor_pipeline_seconds_bucket)"]
    {
        assert!(!fails(right), "{right}");
    }
}
