//! The canonical layout of definition files, line by line: comments and order stay as they are.

/// Lays a file out: no spaces at line ends, one around `=`, one blank line before a table, none doubled, arrays over several lines
/// indented, one line break at the end. Lines inside multi-line texts are left alone.
pub fn format_text(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut open: Option<&str> = None;
    let mut depth = 0usize;
    for line in text.lines() {
        if let Some(quotes) = open {
            if line.matches(quotes).count() % 2 == 1 {
                open = None;
            }
            out.push(line.to_string());
            continue;
        }
        open = ["\"\"\"", "'''"].into_iter().find(|quotes| line.matches(quotes).count() % 2 == 1);
        if open.is_some() {
            out.push(line.trim_start().to_string());
            continue;
        }
        let line = line.trim();
        if depth > 0 {
            // Inside an array over several lines: indented by its depth, whatever stands there.
            let (opened, closed) = brackets(line);
            let outdent = usize::from(line.starts_with(']') || line.starts_with('}'));
            let indent = if line.is_empty() { 0 } else { INDENT * depth.saturating_sub(outdent) };
            out.push(format!("{:indent$}{line}", ""));
            depth = (depth + opened).saturating_sub(closed);
            continue;
        }
        let continues = |last: &String| last.is_empty() || last.starts_with('#');
        if line.starts_with('[') && !out.last().is_none_or(continues) {
            out.push(String::new());
        }
        if line.is_empty() && out.last().is_none_or(String::is_empty) {
            continue;
        }
        let (opened, closed) = brackets(line);
        depth = opened.saturating_sub(closed);
        out.push(spaced(line));
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.join("\n") + "\n"
}

/// Spaces before the elements of an array over several lines.
const INDENT: usize = 4;

/// Brackets and braces that a line opens and closes, outside of texts and comments.
fn brackets(line: &str) -> (usize, usize) {
    let (mut opened, mut closed) = (0, 0);
    let mut quote = None;
    let mut escaped = false;
    for c in line.chars() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => break,
            (None, '[' | '{') => opened += 1,
            (None, ']' | '}') => closed += 1,
            _ => {}
        }
        escaped = false;
    }
    (opened, closed)
}

/// `key = value` with single spaces around the sign, where the key is bare.
fn spaced(line: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    match line.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && key.chars().all(bare) => {
            format!("{} = {}", key.trim(), value.trim())
        }
        _ => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let messy = "[entity.a]\nkey='x'   \n\n\n# about b\n[entity.b]\nkey  =   \"y = z\"\nlong = \"\"\"\n  kept =  as is\n\"\"\"\n[entity.c]\n";
        let tidy = "[entity.a]\nkey = 'x'\n\n# about b\n[entity.b]\nkey = \"y = z\"\nlong = \"\"\"\n  kept =  as is\n\"\"\"\n\n[entity.c]\n";
        assert_eq!(format_text(messy), tidy);
        assert_eq!(format_text(tidy), tidy);
    }

    #[test]
    fn arrays_over_several_lines_keep_their_shape() {
        let messy = "[service.s]\nfeatures=[\n'a:[*', # ]\n      \"b:\\\"]\",\n]\nowner='x'\n";
        let tidy = "[service.s]\nfeatures = [\n    'a:[*', # ]\n    \"b:\\\"]\",\n]\nowner = 'x'\n";
        assert_eq!(format_text(messy), tidy);
        assert_eq!(format_text(tidy), tidy);
    }
}
