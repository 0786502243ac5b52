//! The route of a call: a configured template, else the path with its variable parts replaced, and what varies besides learned.

use std::collections::HashMap;

use super::{
    crosscall::{Held, WorkloadId},
    learned::Learned,
    route::push_route,
};

/// A path template such as `/tenants/{tenant}/orders/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
}

/// Most positions of a template.
const POSITIONS: usize = 32;
/// Longest template, bytes.
const BYTES: usize = 512;

impl Template {
    /// Reads a template: a path whose positions are words or `{name}`.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') || text.len() > BYTES || text.split('/').count() > POSITIONS + 1 {
            return Err(
                "a template is a path from `/` on with at most 32 positions, such as /tenants/{tenant}/orders/{id}",
            );
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#', ';']) {
            return Err("a template is a path alone, without query; percent-encode what is not visible ASCII");
        }
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let is_position = |position: &str| match position.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => is_name(name),
            None => !position.contains(['{', '}']),
        };
        match text.split('/').all(is_position) {
            true => Ok(Self { text: text.into() }),
            false => Err("a position of a template is a word or a {name} that fills it"),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn fits(&self, path: &str) -> bool {
        let mut positions = path.split('/');
        self.text.split('/').all(|expected| {
            let position = positions.next().unwrap_or_default();
            // Path parameters are no part of the position (RFC 3986 section 3.3).
            let position = position.split(';').next().unwrap_or_default();
            if expected.starts_with('{') { !position.is_empty() } else { expected == position }
        })
    }
}

/// Routes of all calls.
#[derive(Debug)]
pub(super) struct Routes {
    /// By how many positions they have; within that in the order they were given.
    templates: HashMap<usize, Vec<Template>>,
    learned: Learned,
    /// Room for the route of the call at hand.
    scratch: String,
}

impl Routes {
    pub(super) fn new(templates: &[Template]) -> Self {
        let mut by_length: HashMap<usize, Vec<Template>> = HashMap::new();
        for template in templates {
            by_length.entry(template.text.split('/').count()).or_default().push(template.clone());
        }
        Self { templates: by_length, learned: Learned::new(), scratch: String::new() }
    }

    pub(super) fn held(&self) -> Held {
        self.learned.held()
    }

    /// The route of a path of a workload, where the workload is known, that was answered with `status`.
    pub(super) fn route(
        &mut self,
        workload: Option<WorkloadId>,
        path: &str,
        status: Option<u16>,
        now: u32,
    ) -> Box<str> {
        if !self.templates.is_empty()
            && let Some(templates) = self.templates.get(&path.split('/').count())
            && let Some(template) = templates.iter().find(|template| template.fits(path))
        {
            return template.text.clone();
        }
        self.scratch.clear();
        push_route(&mut self.scratch, path);
        match workload {
            Some(workload) => self.learned.route(workload, &self.scratch, status.is_some_and(shows_a_route), now),
            None => (*self.scratch).into(),
        }
    }
}

/// Whether an answer shows that there is something at a path. Refusals, redirects and most errors are given for any.
fn shows_a_route(status: u16) -> bool {
    matches!(status, 101 | 200..=299 | 304 | 409 | 422 | 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::new(text).expect(text)
    }

    #[test]
    fn configured_templates_come_first_and_the_first_of_them_wins() {
        let templates = ["/tenants/{tenant}/orders/{id}", "/tenants/main/{what}/{id}", "/a/{x}/"].map(template);
        let mut routes = Routes::new(&templates);
        for (path, expected) in [
            ("/tenants/acme/orders/77", "/tenants/{tenant}/orders/{id}"),
            ("/tenants/main/orders/77", "/tenants/{tenant}/orders/{id}"),
            ("/tenants/main/carts/blue;v=1", "/tenants/main/{what}/{id}"),
            ("/tenants/acme/orders/", "/tenants/acme/orders/"),
            ("/tenants/acme/orders/77/lines", "/tenants/acme/orders/{id}/lines"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/{x}/"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(&*routes.route(None, path, Some(200), 1), expected, "{path}");
        }
    }

    #[test]
    fn templates_are_checked() {
        for text in ["/", "/a", "/{x}", "/a/{tenant-id}/b.json", "/a%20b"] {
            assert_eq!(template(text).as_str(), text);
        }
        for text in ["", "a", "/a?b", "/a#b", "/a b", "/{", "/{}", "/x{id}", "/{a}{b}", "/é", &"/a".repeat(33), "/a;b"]
        {
            assert!(Template::new(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_answers_that_show_something_teach() {
        for status in [200, 204, 304, 409, 422, 500, 101] {
            assert!(shows_a_route(status), "{status}");
        }
        for status in [100, 301, 302, 400, 401, 403, 404, 405, 429, 502, 503] {
            assert!(!shows_a_route(status), "{status}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_paths_are_taken_and_routes_are_the_same_again(
            calls in proptest::collection::vec(("(/[a-c{}x;0-9]{0,3}){0,20}", 100_u16..600, 0_u32..100_000), 0..200)
        ) {
            let mut both = [Routes::new(&[template("/a/{b}")]), Routes::new(&[template("/a/{b}")])];
            for (path, status, now) in &calls {
                let [one, other] = both.each_mut().map(|routes| routes.route(Some(WorkloadId(1)), path, Some(*status), *now));
                proptest::prop_assert_eq!(&one, &other);
                proptest::prop_assert!(one.split('/').count() <= 15, "{}", one);
            }
        }
    }
}
