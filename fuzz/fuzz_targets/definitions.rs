//! Any text as a definition file: problems with their places, or a registry that its own layout gives back.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tidemill_features::definitions::{DefinitionFile, check, format_text};

fn file(text: String) -> [DefinitionFile; 1] {
    [DefinitionFile { path: "fuzz.toml".into(), text }]
}

fuzz_target!(|data: &[u8]| -> Corpus {
    // Files that are not UTF-8 are refused before they are checked.
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    let registry = match check(&file(text.to_string())) {
        Ok(registry) => registry,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert!(problem.line > 0 && problem.column > 0 && !problem.to_string().is_empty());
            }
            return Corpus::Keep;
        }
    };
    let tidy = format_text(text);
    let again = check(&file(tidy.clone()));
    let again = again.unwrap_or_else(|problems| panic!("right before it was laid out: {}\n{tidy}", problems[0]));
    assert_eq!(registry.hash, again.hash, "the layout changes what is meant:\n{tidy}");
    assert_eq!(format_text(&tidy), tidy, "the layout of the layout differs");
    Corpus::Keep
});
