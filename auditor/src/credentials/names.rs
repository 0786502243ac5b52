//! A set of names that are compared without case: headers, cookies, query parameters.

/// Names longer than this are in no table.
const LONGEST: usize = 64;

/// Values by name. A lookup compares only with the names of the same length.
#[derive(Clone, Debug)]
pub(super) struct Names<T> {
    by_length: Vec<Vec<(Box<[u8]>, T)>>,
}

impl<T> Names<T> {
    /// An empty table.
    pub(super) fn new() -> Self {
        Self { by_length: std::iter::repeat_with(Vec::new).take(LONGEST + 1).collect() }
    }

    /// Adds a name unless it is there; names that are empty or too long are left out.
    pub(super) fn add(&mut self, name: &str, value: T) {
        let known = self.get(name.as_bytes()).is_some();
        if let Some(bucket) = self.by_length.get_mut(name.len())
            && !name.is_empty()
            && !known
        {
            bucket.push((name.as_bytes().into(), value));
        }
    }

    /// What is known under a name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        let bucket = self.by_length.get(name.len())?;
        bucket.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
