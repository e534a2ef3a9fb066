//! The engine inside a host: weights come in pieces, as from a network, and the engine lives on a thread of its own that
//! answers requests, each of which can be stopped.
//!
//!     cargo run --release --example embed -- FILE

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Event, GenerateParams, Generation, Model, Options, Session};
use pagelm::gguf::{Progress, Reader};
use pagelm::text::{EncodeOptions, Tokenizer};
use pollster::block_on;

/// What the thread of the engine is asked.
struct Request {
    prompt: String,
    stop: Arc<AtomicBool>,
    pieces: mpsc::Sender<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: embed FILE")?;
    let (requests, inbox) = mpsc::channel::<Request>();
    let engine = std::thread::spawn(move || serve(&path, &inbox));

    for (prompt, most) in [("The capital of France is", 8), ("Once upon a time", usize::MAX)] {
        let (pieces, answer) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        requests.send(Request { prompt: prompt.into(), stop: stop.clone(), pieces })?;
        print!("{prompt}");
        for (n, piece) in answer.iter().enumerate() {
            print!("{piece}");
            // The reader may stop the answer whenever it likes; the engine stays usable.
            stop.store(n + 1 >= most, Ordering::Relaxed);
        }
        println!();
    }
    drop(requests);
    engine.join().expect("the engine does not panic").map_err(Into::into)
}

/// Answers requests until nobody can send any more.
fn serve(path: &str, inbox: &mpsc::Receiver<Request>) -> Result<(), String> {
    let (mut session, tokenizer) = open(path).map_err(|e| format!("{path}: {e}"))?;
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    for Request { prompt, stop, pieces } in inbox {
        let mut answer = || -> pagelm::Result<()> {
            let ids = tokenizer.encode(&prompt, EncodeOptions { add_special: true, parse_special: false })?;
            let params = GenerateParams { max_tokens: Some(32), ..GenerateParams::default() };
            let mut generation = Generation::new(&mut session, &tokenizer, &ids, params, now())?;
            while !stop.load(Ordering::Relaxed)
                && let Some(event) = block_on(generation.next(&mut session, &tokenizer, &now))?
            {
                if let Event::Token { text, .. } | Event::Done { text, .. } = event {
                    // Nobody listens any more where this fails; the next look at `stop` or the end ends it.
                    let _ = pieces.send(text);
                }
            }
            Ok(())
        };
        // One request that fails is not the end of the engine.
        answer().unwrap_or_else(|e| eprintln!("{prompt}: {e}"));
    }
    Ok(())
}

/// Reads a file once from its start, in pieces, and keeps none of them.
fn open(path: &str) -> Result<(Session, Tokenizer), Box<dyn std::error::Error>> {
    let mut backend = Cpu::new(std::thread::available_parallelism()?.get());
    let mut file = File::open(path)?;
    let mut reader = Reader::new(Some(file.metadata()?.len()));
    let mut model: Option<(Model, Tokenizer)> = None;
    let (mut piece, mut offset) = (vec![0; 1 << 20], 0);
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        if model.is_none()
            && let Progress::Done(gguf) = reader.push(&piece[..n])?
        {
            let opened = Model::new(&gguf, &|dtype| backend.supports(dtype), &Options::default())?;
            backend.prepare(opened.plan.clone(), opened.limits)?;
            model = Some((opened, Tokenizer::from_gguf(&gguf.meta)?));
        }
        if let Some((model, _)) = &mut model {
            for part in model.loader.place(offset, n) {
                backend.write_weight(part.weight, part.offset, &piece[part.bytes])?;
            }
        }
        offset += n as u64;
    }
    let (model, tokenizer) = model.ok_or("the file ends within its header")?;
    Ok((model.finish(Box::new(backend))?, tokenizer))
}
