//! The canonical layout of definition files, line by line: comments and order stay as they are.

/// Lays a file out: no spaces at line ends, one around `=`, one blank line before a table, none doubled, one line break at the
/// end. Lines inside multi-line texts are left alone.
pub fn format_text(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut open: Option<&str> = None;
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
        let continues = |last: &String| last.is_empty() || last.starts_with('#');
        if line.starts_with('[') && !out.last().is_none_or(continues) {
            out.push(String::new());
        }
        if line.is_empty() && out.last().is_none_or(String::is_empty) {
            continue;
        }
        out.push(spaced(line));
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.join("\n") + "\n"
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
}
