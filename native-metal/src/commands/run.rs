//! `pagelm run`: continues a prompt.

use std::io::Write;
use std::time::Instant;

use pagelm::Result;
use pagelm::engine::{Event, GenerateParams, Generation, SamplerParams, StopReason, Usage};
use pagelm::gguf::Meta;
use pagelm::text::template::parse_json;
use pagelm::text::{ChatTemplate, EncodeOptions, RenderOptions, Tokenizer};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::machine;
use crate::model::{self, ModelArgs, Opened, Purpose};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    /// Put the prompt into the model's chat format, as a message of the user.
    #[arg(long, conflicts_with = "ids")]
    chat: bool,
    /// Tokens to make, at most; as many as the context holds where not given.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// 0 always takes the likeliest token.
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Only the N likeliest tokens; 0 is off.
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Only the likeliest tokens whose probabilities add up to F.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    top_p: f32,
    /// Only tokens at least F times as likely as the likeliest.
    #[arg(long, value_name = "F", default_value_t = 0.0)]
    min_p: f32,
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    repeat_penalty: f32,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// How many tokens back the penalties look.
    #[arg(long, value_name = "N", default_value_t = 64)]
    penalty_last_n: usize,
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End before this text; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on after the model has ended its text.
    #[arg(long)]
    ignore_eos: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Text; names of special tokens in it are those tokens.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids, taken as they are.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
}

/// What was generated.
struct Output {
    tokens: Vec<u32>,
    text: String,
    reason: StopReason,
    usage: Usage,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let mut opened =
        model::open(&args.model.model, &args.model.device, args.model.device.options(Purpose::Run), Purpose::Run)?;
    let tokenizer = Tokenizer::from_gguf(&opened.gguf.meta)?;
    let prompt = prompt_ids(args, &opened.gguf.meta, &tokenizer)?;
    let out = generate(&mut opened, &tokenizer, &prompt, args.params(), |text| {
        if !json {
            print!("{text}");
            // A closed pipe shows at the next line that is printed.
            let _ = std::io::stdout().flush();
        }
    })?;
    let u = out.usage;
    if !json {
        println!();
        tracing::info!(
            "{}: {} prompt tokens at {:.1}/s, {} tokens at {:.1}/s",
            out.reason.code(),
            u.prompt_tokens,
            u.prefill_tokens_per_s,
            u.completion_tokens,
            u.decode_tokens_per_s
        );
    }
    let json = json!({
        "prompt_ids": prompt,
        "tokens": out.tokens,
        "text": out.text,
        "stop_reason": out.reason,
        "usage": u,
        "backend": opened.session.backend().name(),
        "device": opened.device,
        "load_ms": opened.load_ms,
    });
    Ok(Report { json, ok: true })
}

impl Args {
    fn params(&self) -> GenerateParams {
        let sampler = SamplerParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_last_n: self.penalty_last_n,
            seed: self.seed,
            logit_bias: Vec::new(),
        };
        let stop = self.stop.clone();
        GenerateParams { max_tokens: self.max_tokens, sampler, stop, ignore_eos: self.ignore_eos }
    }
}

fn prompt_ids(args: &Args, meta: &Meta, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if let Some(ids) = &args.input.ids {
        return Ok(ids.clone());
    }
    let text = args.input.prompt.as_deref().unwrap_or_default();
    if !args.chat {
        return tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
    }
    let special = |id: Option<u32>| {
        let piece = id.and_then(|id| tokenizer.piece(id, true)).unwrap_or_default();
        String::from_utf8_lossy(piece).into_owned()
    };
    let options = RenderOptions {
        add_generation_prompt: true,
        bos_token: special(tokenizer.bos()),
        eos_token: special(tokenizer.eos()),
        now: Some(machine::now()),
        ..RenderOptions::default()
    };
    let messages = parse_json(&json!([{ "role": "user", "content": text }]).to_string())?;
    let rendered = ChatTemplate::from_gguf(meta)?.render(&messages, &options)?;
    // Many templates write BOS themselves.
    let add_special = options.bos_token.is_empty() || !rendered.starts_with(&options.bos_token);
    tokenizer.encode(&rendered, EncodeOptions { add_special, parse_special: true })
}

fn generate(
    opened: &mut Opened,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    params: GenerateParams,
    mut show: impl FnMut(&str),
) -> Result<Output> {
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    let session = &mut opened.session;
    let mut generation = Generation::new(session, prompt, params, now())?;
    let mut all = String::new();
    loop {
        let event = block_on(generation.next(session, tokenizer, &now))?;
        match event.expect("the loop ends at `Done`") {
            Event::Prefill { .. } => {}
            Event::Token { text, .. } => {
                show(&text);
                all += &text;
            }
            Event::Done { text, reason, usage } => {
                show(&text);
                return Ok(Output { tokens: generation.generated().to_vec(), text: all + &text, reason, usage });
            }
        }
    }
}
