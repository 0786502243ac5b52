//! Where in a file a character of a value stands: expressions are told with their own line and column.

/// Line and column, from 1, of the character `offset` of the scalar that begins at `line` and `column`. YAML folds lines and
/// resolves escapes: what cannot be told exactly is told as the beginning.
pub(super) fn within(text: &str, line: u64, column: u64, offset: usize) -> (u64, u64) {
    find(text, line, column, offset).unwrap_or((line, column))
}

fn find(text: &str, line: u64, column: u64, offset: usize) -> Option<(u64, u64)> {
    let lines: Vec<&str> = text.lines().collect();
    let number = usize::try_from(line).ok()?.checked_sub(1)?;
    let before = usize::try_from(column).ok()?.checked_sub(1)?;
    let first: Vec<char> = lines.get(number)?.chars().skip(before).collect();
    let header =
        number.checked_sub(1).and_then(|above| lines.get(above)).and_then(|above| above.split_whitespace().last());
    match first.first()? {
        quote @ ('\'' | '"') => Some((line, column + u64::try_from(quoted(&first[1..], *quote, offset)? + 1).ok()?)),
        '|' | '>' => block(&lines, number + 1, offset),
        // Parsers tell where the text of a block begins, not its header.
        _ if header.is_some_and(|word| word.starts_with(['|', '>'])) => block(&lines, number, offset),
        _ if offset <= first.len() => Some((line, column + u64::try_from(offset).ok()?)),
        _ => None,
    }
}

/// Where a character of a block scalar stands, whose text begins on the line of this index.
fn block(lines: &[&str], first: usize, offset: usize) -> Option<(u64, u64)> {
    let lines = lines.get(first..)?;
    let indent = lines.iter().find(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len())?;
    let mut left = offset;
    for (at, content) in lines.iter().enumerate() {
        let length = content.get(indent..).unwrap_or_default().chars().count();
        if left <= length {
            return Some((u64::try_from(first + at + 1).ok()?, u64::try_from(indent + left + 1).ok()?));
        }
        left -= length + 1;
    }
    None
}

/// Raw characters before the character `offset` of a quoted scalar.
fn quoted(raw: &[char], quote: char, offset: usize) -> Option<usize> {
    let mut at = 0;
    for _ in 0..offset {
        at += match (raw.get(at)?, quote) {
            ('\'', '\'') | ('\\', '"') => 2,
            _ => 1,
        };
    }
    (at <= raw.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn characters_are_found_in_every_kind_of_scalar() {
        let text = "a: one two\nb: 'it''s two'\nc: \"a \\\" two\"\nd: |\n  one\n  two\ne: >-\n    one\n    two\n";
        for (line, column, offset, expected) in [
            (1, 4, 4, (1, 8)),
            (2, 4, 5, (2, 11)),
            (3, 4, 4, (3, 10)),
            (4, 4, 4, (6, 3)),
            (5, 3, 4, (6, 3)),
            (7, 4, 4, (9, 5)),
            (1, 4, 99, (1, 4)),
            (99, 1, 0, (99, 1)),
        ] {
            assert_eq!(within(text, line, column, offset), expected, "line {line}, offset {offset}");
        }
    }
}
