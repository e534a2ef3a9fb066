//! The flags that say what an answer must be.

use std::path::{Path, PathBuf};

use pagelm::grammar::GrammarSource;
use pagelm::{Error, ErrorKind, Result};

/// What the answer must be. One that is cut by --max-tokens or --stop is only the start of it.
#[derive(clap::Args, Clone, Debug)]
#[group(multiple = false)]
pub struct GrammarArgs {
    /// Answer with JSON that this JSON schema allows: a file, or the schema itself, which starts with {.
    #[arg(long, value_name = "FILE|JSON")]
    json_schema: Option<String>,
    /// Answer with text that this regular expression matches as a whole.
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// Answer with text that the grammar in this file derives: in llama.cpp's notation where its name ends in .gbnf, else in
    /// Lark's.
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
}

impl GrammarArgs {
    /// Reads the file, if one is named.
    pub fn source(&self) -> Result<Option<GrammarSource>> {
        let read = |path: &Path| {
            let unread = |e| Error::new(ErrorKind::Io, format!("cannot be read: {e}")).at(path.display());
            std::fs::read_to_string(path).map_err(unread)
        };
        if let Some(regex) = &self.regex {
            return Ok(Some(GrammarSource::Regex(regex.clone())));
        }
        if let Some(schema) = &self.json_schema {
            let inline = schema.trim_start().starts_with('{');
            let text = if inline { schema.clone() } else { read(Path::new(schema))? };
            return Ok(Some(GrammarSource::JsonSchema(text)));
        }
        let Some(path) = &self.grammar else { return Ok(None) };
        let is_gbnf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gbnf"));
        read(path).map(if is_gbnf { GrammarSource::Gbnf } else { GrammarSource::Lark }).map(Some)
    }
}
