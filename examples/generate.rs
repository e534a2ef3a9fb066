//! Continues a text with a GGUF file on the CPU, and prints tokens as they come:
//!
//!     cargo run --release --example generate -- FILE "Once upon a time"

use std::io::Write;
use std::time::Instant;

use pagelm::backend::cpu::Cpu;
use pagelm::backend::{Activations, Backend};
use pagelm::engine::{Event, GenerateParams, Generation, Model, Options};
use pagelm::gguf::Gguf;
use pagelm::text::{EncodeOptions, Tokenizer};
use pollster::block_on;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(prompt)) = (args.next(), args.next()) else {
        return Err("usage: generate FILE TEXT".into());
    };
    let file = std::fs::read(path)?;

    // The header says what the model is. Everything that is wrong with it comes to light here.
    let gguf = Gguf::parse(&file)?;
    let tokenizer = Tokenizer::from_gguf(&gguf.meta)?;
    let threads = std::thread::available_parallelism()?.get();
    let backend = Cpu::new(threads).activations(Activations::Q8);
    let model = Model::new(&gguf, &|dtype| backend.supports(dtype), &Options::default())?;
    let mut session = model.load(&gguf, &file, Box::new(backend))?;

    let ids = tokenizer.encode(&prompt, EncodeOptions { add_special: true, parse_special: false })?;
    let params = GenerateParams { max_tokens: Some(64), ..GenerateParams::default() };
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    let mut generation = Generation::new(&mut session, &tokenizer, &ids, params, now())?;
    while let Some(event) = block_on(generation.next(&mut session, &tokenizer, &now))? {
        match event {
            Event::Prefill { .. } => {}
            Event::Token { text, .. } => print!("{text}"),
            Event::Done { text, reason, usage } => {
                println!("{text}\n[{}, {:.1} tokens/s]", reason.code(), usage.decode_tokens_per_s);
            }
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
