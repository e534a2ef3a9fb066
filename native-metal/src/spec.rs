//! The flags of speculative decoding.

use std::path::PathBuf;
use std::str::FromStr;

use pagelm::engine::{Draft, Options, ProposerName, Session, SpeculateParams};
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};

use crate::model::{self, DeviceArgs, Purpose};

/// Who proposes tokens.
#[derive(Clone, Debug)]
pub enum Spec {
    Lookup,
    Mtp,
    Draft(PathBuf),
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "lookup" => Ok(Spec::Lookup),
            None if text == "mtp" => Ok(Spec::Mtp),
            Some(("draft", path)) if !path.is_empty() => Ok(Spec::Draft(path.into())),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("unknown proposer `{text}`; expected lookup, mtp or draft:FILE"),
            )),
        }
    }
}

#[derive(clap::Args, Clone, Debug)]
pub struct SpecArgs {
    /// Speculative decoding, which changes how fast tokens come and never which: lookup (what followed the last tokens
    /// where they came before), mtp (the model's block for multi-token prediction) or draft:FILE (a smaller model with the
    /// same vocabulary).
    #[arg(long, value_name = "PROPOSER")]
    pub spec: Option<Spec>,
    /// The most tokens that are proposed at once.
    #[arg(long, value_name = "N", default_value_t = 4, requires = "spec", value_parser = clap::value_parser!(u16).range(1..))]
    max_draft: u16,
    /// Lets the block for multi-token prediction choose only among the first N tokens of the vocabulary, mostly the most
    /// frequent ones: it reads less.
    #[arg(long, value_name = "N", requires = "spec", value_parser = clap::value_parser!(u32).range(1..))]
    draft_vocab: Option<u32>,
}

impl SpecArgs {
    /// Options to open the model with.
    pub fn options(&self, options: Options) -> Options {
        let drafts = self.spec.as_ref().map_or(0, |_| usize::from(self.max_draft));
        let draft_vocab = self.draft_vocab.map(|n| n as usize);
        Options { drafts, draft_vocab, mtp: matches!(self.spec, Some(Spec::Mtp)), ..options }
    }

    /// What a generation is told.
    pub fn params(&self) -> Option<SpeculateParams> {
        let proposer = match self.spec.as_ref()? {
            Spec::Lookup => ProposerName::Lookup,
            Spec::Mtp => ProposerName::Mtp,
            Spec::Draft(_) => ProposerName::Draft,
        };
        Some(SpeculateParams { proposer, max_draft: Some(usize::from(self.max_draft)) })
    }

    /// Opens the draft model, if one is asked for, on a device of its own of the same kind.
    pub fn draft(&self, target: &mut Session, tokenizer: &Tokenizer, device: &DeviceArgs) -> Result<Option<Draft>> {
        let Some(Spec::Draft(path)) = &self.spec else { return Ok(None) };
        let options = Options { n_ctx: Some(target.limits().n_ctx), ..device.options() };
        let draft = model::open(path, device, options, Purpose::Run)?;
        let own = Tokenizer::from_gguf(&draft.gguf.meta)?;
        Draft::new((draft.session, &own), (target.engine(), tokenizer)).map(Some).map_err(|e| e.at(path.display()))
    }
}
