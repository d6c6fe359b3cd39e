//! Licence expressions as packages declare them: `MIT OR (Apache-2.0 WITH LLVM-exception AND BSD-3-Clause)`.

/// Whether the expression can be satisfied with licences that `allowed` accepts. An expression that cannot be read is an
/// error: nobody has agreed to it.
pub fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    // The older way to write OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let result = reader.any().and_then(|satisfied| match reader.words {
        [] => Ok(satisfied),
        [word, ..] => Err(format!("`{word}` is not expected there")),
    });
    result.map_err(|problem| format!("licence expression `{expression}`: {problem}"))
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Result<bool, String> {
        let mut satisfied = self.all()?;
        while self.take("OR") {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    /// AND binds more tightly than OR.
    fn all(&mut self) -> Result<bool, String> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let satisfied = self.any()?;
            return if self.take(")") { Ok(satisfied) } else { Err("a parenthesis is not closed".into()) };
        }
        let licence = self.identifier()?;
        if self.take("WITH") {
            let exception = self.identifier()?;
            // As cargo-deny has it: the licence with its exception is allowed by that name, or not at all.
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(licence))
    }

    fn identifier(&mut self) -> Result<&'a str, String> {
        let (word, rest) = self.words.split_first().ok_or("it ends too early")?;
        if matches!(*word, "AND" | "OR" | "WITH" | "(" | ")") {
            return Err(format!("`{word}` is not a licence"));
        }
        self.words = rest;
        Ok(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(allowed: &[&str], expression: &str) -> Result<bool, String> {
        satisfied(expression, &|licence| allowed.contains(&licence))
    }

    #[test]
    fn one_side_of_or_is_enough_and_both_of_and_are_needed() {
        assert_eq!(with(&["MIT"], "MIT OR Apache-2.0"), Ok(true));
        assert_eq!(with(&["MIT"], "GPL-3.0/MIT"), Ok(true));
        assert_eq!(with(&["MIT"], "MIT AND Apache-2.0"), Ok(false));
        assert_eq!(with(&["MIT", "ISC"], "MIT AND (GPL-3.0 OR ISC)"), Ok(true));
    }

    #[test]
    fn and_binds_more_tightly_than_or() {
        assert_eq!(with(&["MIT"], "MIT OR ISC AND Zlib"), Ok(true));
        assert_eq!(with(&["MIT"], "(MIT OR ISC) AND Zlib"), Ok(false));
    }

    #[test]
    fn an_exception_is_allowed_by_its_own_name() {
        assert_eq!(with(&["Apache-2.0"], "Apache-2.0 WITH LLVM-exception"), Ok(false));
        assert_eq!(
            with(&["Apache-2.0 WITH LLVM-exception"], "Apache-2.0 WITH LLVM-exception OR GPL-3.0"),
            Ok(true)
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND MIT"] {
            assert!(with(&["MIT", "Apache-2.0"], expression).is_err(), "{expression:?}");
        }
    }
}
