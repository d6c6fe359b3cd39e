//! What the pages say is code that compiles, and runs in the black-box tests.

const EXAMPLE: &str = include_str!("../../examples/guarded_app.rs");
const GUIDE: &str = include_str!("../../../../docs/guide/rust-axum.md");
const README: &str = include_str!("../../README.md");

/// The code blocks of that language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap_or("")).collect()
}

#[test]
fn every_block_of_the_guide_stands_in_the_example() {
    let blocks = blocks(GUIDE, "rust");
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    for block in blocks {
        assert!(EXAMPLE.contains(block), "not in examples/guarded_app.rs:\n{block}");
    }
}

#[test]
fn every_handler_of_the_example_is_explained() {
    for (at, _) in EXAMPLE.match_indices("\nasync fn ") {
        let name = EXAMPLE[at..].trim_start().lines().next().expect("a line");
        let stands_for_the_work = name.contains("fn draw(");
        assert!(stands_for_the_work || GUIDE.contains(name), "not in the guide: {name}");
    }
}

#[test]
fn the_readme_shows_the_example_too() {
    let blocks = blocks(README, "rust");
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(EXAMPLE.contains(block), "not in examples/guarded_app.rs:\n{block}");
    }
}
