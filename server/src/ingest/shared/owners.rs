//! Who has owned partitions from this data directory: every start of a process on it has a number, with which the tokens of that
//! process begin.
//!
//! A store that went back in time shows tokens of long ago. Whoever knows them as its own feeds what is missing; any other
//! token is that of another process, which has taken over. Only one process at a time uses a data directory, so a number of this
//! directory is never one of somebody who is alive. (A copy of the directory has the numbers up to the copy alone.)

use std::io::Write;
use std::path::Path;

use crate::limits::OWNERS_KEPT;
use crate::online::Token;

/// 64 random bits.
type Start = [u8; 8];

/// The starts that are known, this one last.
#[derive(Debug)]
pub(super) struct Owners {
    starts: Vec<Start>,
}

impl Default for Owners {
    /// This start alone, which nobody remembers.
    fn default() -> Owners {
        Owners { starts: vec![rand::random()] }
    }
}

impl Owners {
    /// Those that a file names, and this one, which the file names when this returns.
    pub(super) fn at(file: &Path) -> std::io::Result<Owners> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        // A line that cannot be read is a start that is not known: what it left is taken for another process's, and said so.
        let start = |line: &str| u64::from_str_radix(line, 16).ok().map(u64::to_be_bytes);
        let mut starts: Vec<Start> = text.lines().filter_map(start).collect();
        starts.push(rand::random());
        starts.drain(..starts.len().saturating_sub(OWNERS_KEPT));
        let lines: String = starts.iter().map(|start| format!("{:016x}\n", u64::from_be_bytes(*start))).collect();
        let beside = file.with_extension("new");
        let mut new = std::fs::File::create(&beside)?;
        new.write_all(lines.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, file)?;
        Ok(Owners { starts })
    }

    /// A new token of this start.
    pub(super) fn token(&self) -> Token {
        let mut token: Token = rand::random();
        if let Some(start) = self.starts.last() {
            token[..8].copy_from_slice(start);
        }
        token
    }

    /// What tokens of this data directory begin with.
    pub(super) fn starts(&self) -> Vec<Vec<u8>> {
        self.starts.iter().map(|start| start.to_vec()).collect()
    }

    /// Whether a token is one of this data directory.
    pub(super) fn knows(&self, token: &Token) -> bool {
        self.starts.iter().any(|start| token.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_of_one_directory_know_each_other_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("owners");
        let tokens: Vec<Token> = (0..5).map(|_| Owners::at(&file).unwrap().token()).collect();
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "torn").unwrap();
        let owners = Owners::at(&file).unwrap();
        assert!(tokens.iter().all(|token| owners.knows(token)) && owners.knows(&owners.token()));
        assert!(!owners.knows(&rand::random()) && !owners.knows(&Owners::default().token()));
        for _ in 0..OWNERS_KEPT {
            Owners::at(&file).unwrap();
        }
        assert!(!Owners::at(&file).unwrap().knows(&tokens[0]));
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), OWNERS_KEPT);
    }
}
