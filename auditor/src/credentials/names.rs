//! A set of names that are compared without case: headers, cookies, query parameters, words of paths.

/// Names longer than this are in no table.
const LONGEST: usize = 64;

/// Values by name. A lookup compares only with the names of the same length that begin and end alike: most names that come are in no
/// table.
#[derive(Clone, Debug)]
pub(crate) struct Names<T> {
    by_length: Vec<Bucket<T>>,
}

/// Names of one length.
#[derive(Clone, Debug)]
struct Bucket<T> {
    /// A bit for each [`edge`].
    edges: u32,
    names: Vec<Name<T>>,
}

#[derive(Clone, Debug)]
struct Name<T> {
    edge: u32,
    /// In lower case.
    text: Box<[u8]>,
    value: T,
}

impl<T> Names<T> {
    /// An empty table.
    pub(crate) fn new() -> Self {
        let bucket = || Bucket { edges: 0, names: Vec::new() };
        Self { by_length: std::iter::repeat_with(bucket).take(LONGEST + 1).collect() }
    }

    /// Adds a name unless it is there; names that are empty or too long are left out.
    pub(crate) fn add(&mut self, name: &str, value: T) {
        let known = self.get(name.as_bytes()).is_some();
        if let Some(bucket) = self.by_length.get_mut(name.len())
            && !name.is_empty()
            && !known
        {
            let edge = edge(name.as_bytes());
            bucket.edges |= edge;
            bucket.names.push(Name { edge, text: name.to_ascii_lowercase().into_bytes().into(), value });
        }
    }

    /// What is known under a name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&T> {
        let bucket = self.by_length.get(name.len())?;
        let edge = edge(name);
        if bucket.edges & edge == 0 {
            return None;
        }
        // Without a way out of the loop several bytes are compared at once.
        let same = |same, (known, byte): (&u8, &u8)| same & (*known == byte.to_ascii_lowercase());
        let is = |known: &&Name<T>| known.edge == edge && known.text.iter().zip(name).fold(true, same);
        bucket.names.iter().find(is).map(|known| &known.value)
    }
}

/// A bit for the first and last byte of a name together, the same in both cases: a letter's case is in the sixth bit of ASCII.
fn edge(name: &[u8]) -> u32 {
    let sum = name.first().zip(name.last()).map_or(0, |(first, last)| first.wrapping_add(last.wrapping_mul(3)));
    1 << (sum & 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_no_others() {
        let mut names = Names::new();
        for name in ["x-api-key", "Authorization", "a", "dpop", "x_1"] {
            names.add(name, name);
        }
        names.add("AUTHORIZATION", "not the first");
        for name in ["x-api-key", "Authorization", "a", "dpop", "x_1"] {
            let cases = [name.to_ascii_lowercase(), name.to_ascii_uppercase(), name.to_owned()];
            assert!(cases.iter().all(|case| names.get(case.as_bytes()) == Some(&name)), "{name}");
        }
        for name in ["", "x-api-kez", "y-api-key", "authorisation", "X?1", "b", &"a".repeat(LONGEST + 1)] {
            assert_eq!(names.get(name.as_bytes()), None, "{name}");
        }
    }
}
