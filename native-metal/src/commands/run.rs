//! `pagelm run`: continues a prompt.

use std::io::Write;
use std::time::Instant;

use pagelm::Result;
use pagelm::engine::{Event, FileSampling, GenerateParams, Generation, SamplerParams, StopReason, Usage};
use pagelm::gguf::Meta;
use pagelm::text::template::parse_json;
use pagelm::text::{ChatTemplate, EncodeOptions, RenderOptions, Tokenizer, chat_prompt, chat_variables};
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
    /// Variables of the chat template, as a JSON object: {"enable_thinking": false}
    #[arg(long, value_name = "JSON", requires = "chat")]
    chat_template_kwargs: Option<String>,
    /// 0 always takes the likeliest token. This and the next five are by default what the file says, else off.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Only the N likeliest tokens; 0 is off.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities add up to F; 1 is off.
    #[arg(long, value_name = "F")]
    top_p: Option<f32>,
    /// Only tokens at least F times as likely as the likeliest; 0 is off.
    #[arg(long, value_name = "F")]
    min_p: Option<f32>,
    /// Divides the logits of recent tokens; 1 is off.
    #[arg(long, value_name = "F")]
    repeat_penalty: Option<f32>,
    /// How many tokens back the penalties look; 64 where the file does not say.
    #[arg(long, value_name = "N")]
    penalty_last_n: Option<usize>,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End before this text, or at the control token of this name; may be given more than once.
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
    let mut opened = model::open(&args.model.model, &args.model.device, args.model.device.options(), Purpose::Run)?;
    let tokenizer = Tokenizer::from_gguf(&opened.gguf.meta)?;
    let prompt = prompt_ids(args, &opened.gguf.meta, &tokenizer)?;
    let params = args.params(&opened.gguf.meta)?;
    let out = generate(&mut opened, &tokenizer, &prompt, params, |text| {
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
        "usage": {
            "prompt_tokens": u.prompt_tokens,
            "cached_tokens": u.cached_tokens,
            "completion_tokens": u.completion_tokens,
            "time_to_first_token_ms": u.time_to_first_token_ms,
            "prefill_tokens_per_s": u.prefill_tokens_per_s,
            "decode_tokens_per_s": u.decode_tokens_per_s,
        },
        "backend": opened.session.backend().name(),
        "device": opened.device,
        "load_ms": opened.load_ms,
    });
    Ok(Report { json, ok: true })
}

impl Args {
    fn params(&self, meta: &Meta) -> Result<GenerateParams> {
        let base = FileSampling::from_gguf(meta)?.over(SamplerParams::greedy());
        let sampler = SamplerParams {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_last_n: self.penalty_last_n.unwrap_or(base.penalty_last_n),
            seed: self.seed,
            logit_bias: Vec::new(),
        };
        let stop = self.stop.clone();
        Ok(GenerateParams { max_tokens: self.max_tokens, sampler, stop, ignore_eos: self.ignore_eos })
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
    let template = ChatTemplate::from_gguf(meta)?;
    let variables = args.chat_template_kwargs.as_deref().map_or(Ok(Vec::new()), |v| chat_variables(&template, v))?;
    let messages = parse_json(&json!([{ "role": "user", "content": text }]).to_string())?;
    let options =
        RenderOptions { add_generation_prompt: true, now: Some(machine::now()), variables, ..RenderOptions::default() };
    chat_prompt(&template, tokenizer, &messages, options)
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
    let mut generation = Generation::new(session, tokenizer, prompt, params, now())?;
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
