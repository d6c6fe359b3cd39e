//! Reads Rust source just well enough for the house rules: what is code, what is a string, and where the tests are.

use std::ops::Range;

/// A source file taken apart. Lines count from 1.
pub struct RustSource {
    /// The text with comments and the insides of strings blanked out; every line is where it was.
    code: String,
    /// The string literals, with the line each begins on.
    strings: Vec<(usize, String)>,
    /// The lines of items under `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
}

impl RustSource {
    pub fn read(text: &str) -> RustSource {
        let mut reader =
            Reader { rest: text.chars().collect(), at: 0, code: String::new(), strings: Vec::new(), line: 1 };
        reader.read();
        let tests = find_tests(&reader.code);
        RustSource { code: reader.code, strings: reader.strings, tests }
    }

    /// Code lines outside tests, without comments and strings.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(line, _)| !self.is_test(*line))
    }

    /// String literals outside tests.
    pub fn product_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings
            .iter()
            .map(|(line, text)| (*line, text.as_str()))
            .filter(|(line, _)| !self.is_test(*line))
    }

    /// How many lines stand before the first test module, the whole file without one.
    pub fn lines_before_tests(&self) -> usize {
        match self.tests.iter().find(|range| range.len() > 3) {
            Some(range) => range.start - 1,
            None => self.code.lines().count(),
        }
    }

    /// The modules declared as `#[cfg(test)] mod name;`: files that are tests as a whole.
    pub fn test_files(&self) -> Vec<String> {
        let lines: Vec<&str> = self.code.lines().collect();
        let in_tests =
            self.tests.iter().flat_map(|range| range.clone()).filter_map(|line| lines.get(line - 1));
        in_tests
            .filter_map(|line| {
                let declaration = line.split("mod ").nth(1)?;
                Some(declaration.split_once(';')?.0.trim().to_owned())
            })
            .collect()
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }
}

struct Reader {
    rest: Vec<char>,
    at: usize,
    code: String,
    strings: Vec<(usize, String)>,
    line: usize,
}

impl Reader {
    fn read(&mut self) {
        while let Some(next) = self.peek(0) {
            match next {
                '/' if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.blank();
                    }
                }
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.string(),
                'r' | 'b' | 'c' if !self.after_name() && self.raw_string_hashes().is_some() => {
                    self.raw_string()
                }
                '\'' => self.character_or_lifetime(),
                _ => {
                    self.keep();
                }
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn after_name(&self) -> bool {
        self.at > 0 && (self.rest[self.at - 1].is_alphanumeric() || self.rest[self.at - 1] == '_')
    }

    /// Takes one character over as code.
    fn keep(&mut self) -> Option<char> {
        let next = self.peek(0)?;
        self.code.push(next);
        self.step(next);
        Some(next)
    }

    /// Takes one character out of the code, keeping the lines.
    fn blank(&mut self) -> Option<char> {
        let next = self.peek(0)?;
        self.code.push(if next == '\n' { '\n' } else { ' ' });
        self.step(next);
        Some(next)
    }

    fn step(&mut self, taken: char) {
        self.at += 1;
        if taken == '\n' {
            self.line += 1;
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank();
                    self.blank();
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank();
                    self.blank();
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => {
                    self.blank();
                }
                (None, _) => return,
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.keep();
        loop {
            match self.peek(0) {
                Some('\\') => {
                    self.blank();
                    text.extend(self.blank());
                }
                Some('"') => {
                    self.keep();
                    break;
                }
                Some(_) => text.extend(self.blank()),
                None => break,
            }
        }
        self.strings.push((line, text));
    }

    /// `r"`, `r#"`, `br#"`, …: the length of the prefix and the number of hashes.
    fn raw_string_hashes(&self) -> Option<(usize, usize)> {
        let mut ahead = usize::from(matches!(self.peek(0), Some('b' | 'c')));
        if self.peek(ahead) != Some('r') {
            return None;
        }
        ahead += 1;
        let mut hashes = 0;
        while self.peek(ahead) == Some('#') {
            hashes += 1;
            ahead += 1;
        }
        (self.peek(ahead) == Some('"')).then_some((ahead + 1, hashes))
    }

    fn raw_string(&mut self) {
        let Some((prefix, hashes)) = self.raw_string_hashes() else { return };
        let line = self.line;
        for _ in 0..prefix {
            self.keep();
        }
        let mut text = String::new();
        while let Some(next) = self.peek(0) {
            if next == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                for _ in 0..=hashes {
                    self.keep();
                }
                break;
            }
            text.extend(self.blank());
        }
        self.strings.push((line, text));
    }

    fn character_or_lifetime(&mut self) {
        let is_character = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.keep();
        if !is_character {
            return;
        }
        loop {
            match self.peek(0) {
                Some('\\') => {
                    self.blank();
                    self.blank();
                }
                Some('\'') => {
                    self.keep();
                    return;
                }
                Some(_) => {
                    self.blank();
                }
                None => return,
            }
        }
    }
}

/// The line ranges of items marked `#[cfg(test)]` or `#[cfg(any(test, …))]`.
fn find_tests(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let line_of = |position: usize| code[..position].matches('\n').count() + 1;
    for (position, _) in code.match_indices("#[cfg(") {
        let Some(length) = code[position..].find(']') else { continue };
        let condition = &code[position..position + length];
        let names_test =
            condition.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test");
        if !names_test || condition.contains("not(") {
            continue;
        }
        let first = line_of(position);
        if found.last().is_some_and(|range| range.contains(&first)) {
            continue;
        }
        let item = position + length + 1;
        found.push(first..line_of(end_of_item(code, item)) + 1);
    }
    found
}

/// Where the item ends: at the first `;` outside brackets, or at the brace that closes its body.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in code[start..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && c == '}' {
                    return start + offset;
                }
            }
            ';' if depth == 0 => return start + offset,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r##"
// "not a string" .unwrap()
fn one<'a>(text: &'a str) -> char { let quote = '"'; let escaped = '\''; call("SELECT \"x\"", r#"FOR "UPDATE"#) }
/* outer /* inner */ .unwrap() */
#[cfg(test)]
mod tests {
    fn two() { value.unwrap(); "in a test"; }

    fn three() {}
}
fn after() {}
"##;

    #[test]
    fn strings_are_found_with_their_lines_and_tests_left_out() {
        let source = RustSource::read(SOURCE);
        let strings: Vec<_> = source.product_strings().collect();
        assert_eq!(strings, [(3, "SELECT \"x\""), (3, "FOR \"UPDATE")]);
    }

    #[test]
    fn comments_and_tests_are_not_product_code() {
        let source = RustSource::read(SOURCE);
        let code: String = source.product_lines().map(|(_, line)| line).collect();
        assert!(!code.contains("unwrap"), "{code}");
        assert!(code.contains("fn after()") && code.contains("fn one<'a>"), "{code}");
        assert_eq!(source.lines_before_tests(), 4);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let source =
            RustSource::read("#[cfg(test)]\nmod storms;\nmod real;\n#[cfg(not(test))]\nmod other;\n");
        assert_eq!(source.test_files(), ["storms"]);
    }
}
