//! Models on disk: a GGUF file, all parts of a split one, or the folder of a Hugging Face checkpoint.

use std::path::Path;
use std::rc::Rc;

use pagelm::gguf::{Gguf, Source, SplitPart};
use pagelm::hf::{self, Checkpoint};
use pagelm::text::{self, TokenizerFiles};
use pagelm::{Error, ErrorKind, Result};

use crate::mmap::{Mapped, MappedModel, read_text};
use crate::store::{self, HubArgs};

/// A header, and where its tensors are.
pub struct Opened {
    pub gguf: Rc<Gguf>,
    pub source: Box<dyn Source>,
    /// Bytes of the files with the tensors.
    pub bytes: u64,
}

pub fn open(path: &Path) -> Result<Opened> {
    if store::is_remote(path) {
        return open(&store::get(&path.to_string_lossy(), &HubArgs::default(), None)?);
    }
    let opened = if path.is_dir() { folder(path) } else { file(path) };
    // What cannot be read has its own path already.
    opened.map_err(|e| if e.kind() == ErrorKind::Io && !e.place().is_empty() { e } else { e.at(path.display()) })
}

fn file(path: &Path) -> Result<Opened> {
    let file = Mapped::open(path)?;
    let gguf = Gguf::parse(&file)?;
    if let Some(part) = gguf.split()? {
        return parts(path, part);
    }
    Ok(Opened { gguf: Rc::new(gguf), bytes: file.len() as u64, source: Box::new(MappedModel(vec![(0, file)])) })
}

/// A split model, of which `path` is any part: the others lie beside it.
fn parts(path: &Path, part: SplitPart) -> Result<Opened> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let own = format!("-{:05}-of-{:05}.gguf", part.no + 1, part.count);
    let Some(stem) = name.strip_suffix(&own) else {
        let detail = format!(
            "is part {} of {} of a split model, but its name does not end with {own}, as the others' names follow from it; \
             give it that name",
            part.no + 1,
            part.count
        );
        return Err(Error::new(ErrorKind::SplitFile, detail));
    };
    let (mut headers, mut files, mut bytes) = (Vec::new(), Vec::new(), 0);
    for no in 1..=part.count {
        let name = format!("{stem}-{no:05}-of-{:05}.gguf", part.count);
        let file = Mapped::open(&path.with_file_name(&name)).map_err(|e| {
            let detail =
                format!("part {no} of {} cannot be read: {}; all parts must lie in one folder", part.count, e.detail());
            Error::new(ErrorKind::SplitFile, detail).at(&name)
        })?;
        headers.push((Gguf::parse(&file).map_err(|e| e.at(&name))?, bytes, name));
        let len = file.len() as u64;
        files.push((bytes, file));
        bytes += len;
    }
    Ok(Opened { gguf: Rc::new(Gguf::join(headers)?), bytes, source: Box::new(MappedModel(files)) })
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
