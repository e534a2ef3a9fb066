//! Models on disk: a GGUF file, or the folder of a Hugging Face checkpoint.

use std::path::Path;
use std::rc::Rc;

use pagelm::gguf::{Gguf, Source};
use pagelm::hf::{self, Checkpoint};
use pagelm::text::{self, TokenizerFiles};
use pagelm::{Error, ErrorKind, Result};

use crate::mmap::{Mapped, MappedModel, read_text};

/// A header, and where its tensors are.
pub struct Opened {
    pub gguf: Rc<Gguf>,
    pub source: Box<dyn Source>,
    /// Bytes of the files with the tensors.
    pub bytes: u64,
}

pub fn open(path: &Path) -> Result<Opened> {
    let opened = if path.is_dir() { folder(path) } else { file(path) };
    // What cannot be read has its own path already.
    opened.map_err(|e| if e.kind() == ErrorKind::Io && !e.place().is_empty() { e } else { e.at(path.display()) })
}

fn file(path: &Path) -> Result<Opened> {
    let file = Mapped::open(path)?;
    let gguf = Gguf::parse(&file)?;
    Ok(Opened { gguf: Rc::new(gguf), bytes: file.len() as u64, source: Box::new(MappedModel(file)) })
}

fn folder(path: &Path) -> Result<Opened> {
    let Some(config) = optional(path, "config.json")? else {
        let detail = "the folder has no `config.json`; give a GGUF file, or the folder of a Hugging Face checkpoint";
        return Err(Error::new(ErrorKind::Io, detail));
    };
    let mut shards = Vec::new();
    for name in shard_names(path)? {
        let file = Mapped::open(&path.join(&name))?;
        shards.push((name, file));
    }
    let bytes = shards.iter().map(|(_, file)| file.len() as u64).sum();
    let mut checkpoint = Checkpoint::new(&config, shards)?;
    add_tokenizer(path, &config, &mut checkpoint.gguf)?;
    Ok(Opened { gguf: Rc::new(checkpoint.gguf.clone()), source: Box::new(checkpoint), bytes })
}

fn shard_names(path: &Path) -> Result<Vec<String>> {
    if let Some(index) = optional(path, "model.safetensors.index.json")? {
        return hf::shards(&index);
    }
    let whole = "model.safetensors";
    if path.join(whole).exists() {
        return Ok(vec![whole.to_string()]);
    }
    let detail =
        format!("the folder has neither `{whole}` nor `{whole}.index.json`; other weight files are not supported");
    Err(Error::new(ErrorKind::Io, detail))
}

/// A checkpoint without a tokenizer that is known here still runs, on ids.
fn add_tokenizer(path: &Path, config: &str, gguf: &mut Gguf) -> Result<()> {
    let (tokenizer, settings, generation, template) = (
        optional(path, "tokenizer.json")?,
        optional(path, "tokenizer_config.json")?,
        optional(path, "generation_config.json")?,
        optional(path, "chat_template.jinja")?,
    );
    let files = TokenizerFiles {
        tokenizer: tokenizer.as_deref(),
        settings: settings.as_deref(),
        config,
        generation: generation.as_deref(),
        template: template.as_deref(),
    };
    let n_vocab = gguf.tensor("token_embd.weight").map_or(0, |t| t.rows());
    if let Err(e) = text::tokenizer_from_hf(&files, n_vocab, &mut gguf.meta) {
        tracing::warn!("{e}; the model runs on token ids only");
    }
    Ok(())
}

fn optional(folder: &Path, name: &str) -> Result<Option<String>> {
    let path = folder.join(name);
    if path.exists() { read_text(&path).map(Some) } else { Ok(None) }
}
