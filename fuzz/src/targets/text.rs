//! What is common to configuration in text: an input is text, and a mistake has its place in it.

use actorsim_supervision::ConfigError;

/// The input as text; what is no UTF-8 is none.
pub(crate) fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// Mistakes are there, each has words and a place inside the text, and they can be shown.
pub(crate) fn placed(errors: &[ConfigError], text: &str) {
    assert!(!errors.is_empty(), "refused without a reason");
    for error in errors {
        assert!(!error.message.is_empty(), "a mistake without words");
        let lines = text.split('\n').count();
        assert!(error.line <= lines, "line {} of {lines}", error.line);
        assert_eq!(
            error.line == 0,
            error.column == 0,
            "half a place: {error:?}"
        );
        if error.line > 0 {
            let line = text.split('\n').nth(error.line - 1).unwrap_or_default();
            let most = line.chars().count() + 1;
            assert!(
                error.column <= most,
                "column {} of {most}: {error:?}",
                error.column
            );
        }
        assert!(!error.render().is_empty());
    }
}

/// Texts as inputs.
pub(crate) fn inputs(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
