//! Protobuf schemas: .proto files, descriptor sets and the texts of a registry into descriptors. Nobody needs `protoc`.

use std::collections::HashMap;
use std::path::Path;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use tidemill_features::problem::nearest;

use crate::source::message::SchemaProblem;

/// What a schema file defines.
pub(in crate::source::message) struct Descriptors {
    pool: DescriptorPool,
    /// the file itself among those that it imports; None: all count
    main: Option<String>,
}

fn problem(message: impl Into<String>) -> SchemaProblem {
    SchemaProblem { line: None, message: message.into() }
}

impl Descriptors {
    /// Reads a .proto file, with what it imports from the folders between it and the project's; anything else is a set of
    /// descriptors, as `protoc --descriptor_set_out --include_imports` and `buf build` write it.
    pub(in crate::source::message) fn of_file(project: &Path, file: &Path) -> Result<Descriptors, SchemaProblem> {
        if file.extension().is_none_or(|ending| ending != "proto") {
            let bytes = std::fs::read(file).map_err(|error| problem(error.to_string()))?;
            let pool = DescriptorPool::decode(&bytes[..]);
            let expected = "neither a .proto file nor a set of descriptors with what they import";
            let pool = pool.map_err(|error| problem(format!("{expected}: {error}")))?;
            return Ok(Descriptors { pool, main: None });
        }
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(project));
        let mut compiler = Compiler::new(folders).map_err(|error| compile_problem(&error))?;
        compiler.include_imports(true);
        compiler.open_file(file).map_err(|error| compile_problem(&error))?;
        let main = compiler.files().find(|file| !file.is_import()).map(|file| file.name().to_string());
        Ok(Descriptors { pool: compiler.descriptor_pool(), main })
    }

    /// Compiles a text; `others` are the texts that it imports, by the names of its imports.
    pub(in crate::source::message) fn of_text(
        text: &str,
        others: HashMap<String, String>,
    ) -> Result<Descriptors, SchemaProblem> {
        let mut main = "schema.proto".to_string();
        while others.contains_key(&main) {
            main.insert(0, '_');
        }
        let mut texts = Texts { texts: others };
        texts.texts.insert(main.clone(), text.to_string());
        let mut resolver = ChainFileResolver::new();
        resolver.add(texts);
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler.open_file(&main).map_err(|error| compile_problem(&error))?;
        Ok(Descriptors { pool: compiler.descriptor_pool(), main: Some(main) })
    }

    /// The message of a full name, or the only one of the file where none is named.
    pub(in crate::source::message) fn message(
        &self,
        name: Option<&str>,
    ) -> Result<MessageDescriptor, (String, Option<String>)> {
        if let Some(name) = name {
            return self.pool.get_message_by_name(name).ok_or_else(|| {
                let known: Vec<String> = self.pool.all_messages().map(|m| m.full_name().to_string()).collect();
                let last = |full: &str| full.rsplit('.').next().map(str::to_string);
                let same = known.iter().find(|full| last(full) == last(name)).cloned();
                let near = same.or_else(|| nearest(name, known.iter().map(String::as_str)));
                (format!("there is no message `{name}`"), near)
            });
        }
        let files = self.pool.files().filter(|file| self.main.as_ref().is_none_or(|main| file.name() == main));
        let own: Vec<MessageDescriptor> = files
            .filter(|file| !file.name().starts_with("google/protobuf/"))
            .flat_map(|file| file.messages().collect::<Vec<_>>())
            .collect();
        match &own[..] {
            [one] => Ok(one.clone()),
            [] => Err(("it defines no message".to_string(), None)),
            many => {
                let names: Vec<&str> = many.iter().take(20).map(MessageDescriptor::full_name).collect();
                Err((format!("name one of its messages with `message`: {}", names.join(", ")), None))
            }
        }
    }

    /// The message at a place of the file: the index of a message, then of one inside it, and so on.
    pub(in crate::source::message) fn at(&self, indexes: &[usize]) -> Option<MessageDescriptor> {
        let file = self.pool.get_file_by_name(self.main.as_deref()?)?;
        let (first, inner) = indexes.split_first()?;
        let mut found = file.messages().nth(*first)?;
        for index in inner {
            // Entries of maps are messages, too, but nobody declares them.
            let inner = found.child_messages().filter(|message| !message.is_map_entry()).nth(*index)?;
            found = inner;
        }
        Some(found)
    }
}

/// A message of the compiler begins with its place: `txn.proto:3:5: …`.
fn compile_problem(error: &protox::Error) -> SchemaProblem {
    let shown = format!("{error:?}");
    let mut parts = shown.splitn(4, ':');
    let (file, line, column) = (parts.next(), parts.next(), parts.next());
    match (file, line.and_then(|line| line.parse().ok()), column, parts.next()) {
        (Some(_), line @ Some(_), Some(_), Some(message)) => {
            let of = error.file().map(|file| format!(" ({file})")).unwrap_or_default();
            SchemaProblem { line, message: format!("{}{of}", message.trim()) }
        }
        _ => problem(shown),
    }
}

/// Texts by the names of imports.
struct Texts {
    texts: HashMap<String, String>,
}

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.texts.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
