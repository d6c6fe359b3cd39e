//! What the guides say, to be run as it stands there.

/// The code blocks of that language in a page of docs/guide.
#[track_caller]
pub fn blocks_of_guide(page: &str, language: &str) -> Vec<String> {
    let path = format!("{}/../../docs/guide/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let blocks = text.split("```").skip(1).step_by(2);
    let named = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    named.map(str::to_owned).collect()
}

/// The only one.
#[track_caller]
pub fn block_of_guide(page: &str, language: &str) -> String {
    let mut blocks = blocks_of_guide(page, language);
    assert_eq!(blocks.len(), 1, "{page} has not one block of {language}");
    blocks.remove(0)
}

/// The text with each of these replaced, which must stand in it.
#[track_caller]
pub fn replaced(text: &str, pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the guide does not say `{from}`");
        text.replace(from, to)
    })
}
