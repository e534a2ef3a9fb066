//! `pagelm run`: continues a prompt.

mod state;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use pagelm::Result;
use pagelm::backend::Logprobs;
use pagelm::engine::{
    Draft, Event, FileSampling, GenerateParams, Generation, Options, SamplerParams, Speculated, StopReason, Usage,
};
use pagelm::gguf::Meta;
use pagelm::text::template::parse_json;
use pagelm::text::{ChatTemplate, EncodeOptions, RenderOptions, Tokenizer, chat_prompt, chat_variables};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::grammar::GrammarArgs;
use crate::image::ImageArgs;
use crate::machine;
use crate::model::{self, ModelArgs, Opened, Purpose};
use crate::spec::SpecArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    images: ImageArgs,
    /// Format the prompt as a user message with the model's chat template.
    #[arg(long, conflicts_with = "ids")]
    chat: bool,
    /// The most tokens to generate. Default: as many as the context holds.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Variables of the chat template, as a JSON object: {"enable_thinking": false}
    #[arg(long, value_name = "JSON", requires = "chat")]
    chat_template_kwargs: Option<String>,
    /// 0 always takes the most likely token. Default of this and the next five: what the file recommends, else off.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Sample from the N most likely tokens; 0 is off.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Sample from the most likely tokens whose probabilities add up to F; 1 is off.
    #[arg(long, value_name = "F")]
    top_p: Option<f32>,
    /// Sample from tokens at least F times as likely as the most likely one; 0 is off.
    #[arg(long, value_name = "F")]
    min_p: Option<f32>,
    /// Divide the logits of recent tokens by this; 1 is off.
    #[arg(long, value_name = "F")]
    repeat_penalty: Option<f32>,
    /// How many tokens back the penalties look. Default: what the file recommends, else 64.
    #[arg(long, value_name = "N")]
    penalty_last_n: Option<usize>,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Stop before this text, or at the control token of this name; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Continue after the model has ended its text.
    #[arg(long, conflicts_with_all = ["json_schema", "regex", "grammar"])]
    ignore_eos: bool,
    /// Say of each token how likely it was, and which ones were the N likeliest (at most 20), in the JSON.
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    #[command(flatten)]
    grammar: GrammarArgs,
    #[command(flatten)]
    spec: SpecArgs,
    /// Write what is in the cache at the end to a file: a later run that loads it need not read the prompt again.
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
    /// Start from such a file. It must be of the same model, backend and cache type.
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Text of the prompt; names of special tokens in it are those tokens.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids of the prompt, used as they are.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
}

/// What was generated.
struct Output {
    tokens: Vec<u32>,
    logprobs: Vec<Logprobs>,
    text: String,
    reason: StopReason,
    usage: Usage,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let options = args.spec.options(args.model.device.options());
    let options = Options { images: args.images.count() > 0, ..options };
    let mut opened = model::open(&args.model.model, &args.model.device, options, Purpose::Run)?;
    if let Some(path) = &args.load_state {
        state::load(&mut opened.session, path)?;
    }
    let tokenizer = Tokenizer::from_gguf(&opened.gguf.meta)?;
    let draft = args.spec.draft(&mut opened.session, &tokenizer, &args.model.device)?;
    let prompt = prompt_ids(args, &opened.gguf.meta, &tokenizer)?;
    let (prompt, _kept) = args.images.place(
        &mut opened.session,
        &tokenizer,
        (&opened.beside, args.model.device.allow_unknown),
        prompt,
    )?;
    let params = args.params(&opened.gguf.meta)?;
    let out = generate(&mut opened, &tokenizer, &prompt, (params, draft), |text| {
        if !json {
            print!("{text}");
            // A closed pipe shows at the next line that is printed.
            let _ = std::io::stdout().flush();
        }
    })?;
    if let Some(path) = &args.save_state {
        state::save(&mut opened.session, path)?;
    }
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
        if args.spec.spec.is_some() {
            let Speculated { drafted, accepted, steps } = u.speculated;
            tracing::info!("{accepted} of {drafted} proposed tokens were right, in {steps} steps");
        }
    }
    let json = json!({
        "prompt_ids": prompt,
        "tokens": out.tokens,
        "logprobs": args.logprobs.map(|_| &out.logprobs),
        "text": out.text,
        "stop_reason": out.reason,
        "usage": {
            "prompt_tokens": u.prompt_tokens,
            "cached_tokens": u.cached_tokens,
            "completion_tokens": u.completion_tokens,
            "time_to_first_token_ms": u.time_to_first_token_ms,
            "prefill_tokens_per_s": u.prefill_tokens_per_s,
            "decode_tokens_per_s": u.decode_tokens_per_s,
            "drafted_tokens": u.speculated.drafted,
            "accepted_tokens": u.speculated.accepted,
            "steps": u.speculated.steps,
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
        let speculate = self.spec.params();
        Ok(GenerateParams {
            max_tokens: self.max_tokens,
            sampler,
            stop,
            show: Vec::new(),
            ignore_eos: self.ignore_eos,
            speculate,
            logprobs: self.logprobs,
            grammar: self.grammar.source()?,
            reasoning: None,
        })
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
    let images = vec![json!({ "type": "image" }); args.images.count()];
    let parts = || [images.clone(), vec![json!({ "type": "text", "text": text })]].concat();
    let content = if images.is_empty() { json!(text) } else { json!(parts()) };
    let messages = parse_json(&json!([{ "role": "user", "content": content }]).to_string())?;
    let options =
        RenderOptions { add_generation_prompt: true, now: Some(machine::now()), variables, ..RenderOptions::default() };
    chat_prompt(&template, tokenizer, &messages, options)
}

fn generate(
    opened: &mut Opened,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    (params, draft): (GenerateParams, Option<Draft>),
    mut show: impl FnMut(&str),
) -> Result<Output> {
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    let session = &mut opened.session;
    let mut generation = Generation::with_draft(session, tokenizer, prompt, params, draft, now())?;
    let (mut all, mut likely) = (String::new(), Vec::new());
    loop {
        let event = block_on(generation.next(session, tokenizer, &now))?;
        match event.expect("the loop ends at `Done`") {
            Event::Prefill { .. } => {}
            Event::Token { text, logprobs, .. } => {
                likely.extend(logprobs);
                show(&text);
                all += &text;
            }
            Event::Done { text, reason, usage } => {
                show(&text);
                let tokens = generation.generated().to_vec();
                return Ok(Output { tokens, logprobs: likely, text: all + &text, reason, usage });
            }
        }
    }
}
