//! The command `pagelm`: models on Metal, Vulkan and the CPU, and the harness that compares those with the reference.

mod commands;
mod device;
mod grammar;
mod image;
mod machine;
mod mmap;
mod model;
mod source;
mod spec;
mod store;
mod tuning;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pagelm::Error;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use commands::{bench, check, embed, golden, inspect, models, ppl, run, serve, shaders, synth};

/// Runs language models from GGUF files and Hugging Face checkpoints.
#[derive(Parser)]
#[command(name = "pagelm", version, arg_required_else_help = true)]
struct Cli {
    /// Print one JSON object as the last line, and nothing else, on stdout.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Continue a prompt.
    Run(Box<run::Args>),
    /// Answer requests of OpenAI's API over HTTP.
    Serve(serve::Args),
    /// Turn texts into vectors.
    Embed(embed::Args),
    /// Show what is in a file, and whether it can run here.
    Inspect(inspect::Args),
    /// Compare with reference numbers: logits and greedy tokens.
    Golden(golden::Args),
    /// Compare every op of a model with the reference's, each on the same inputs.
    Check(check::Args),
    /// Measure speed.
    Bench(bench::Args),
    /// Compare the perplexity on a text with the reference's.
    Ppl(ppl::Args),
    /// Download a model, or complete a download that was interrupted.
    Pull(models::PullArgs),
    /// List downloaded models.
    List,
    /// Remove a downloaded model.
    Rm(models::RmArgs),
    /// Write a file with the shape of a real model and made-up weights, to measure with.
    Synth(synth::Args),
    /// List the kernels of the WebGPU backend, or print one as it is compiled.
    Shaders(shaders::Args),
}

/// What a command has to say in the end.
struct Report {
    json: Value,
    /// Whether what was compared agreed.
    ok: bool,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).with_target(false).without_time().init();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(&args, cli.json),
        Command::Serve(args) => serve::run(&args),
        Command::Embed(args) => embed::run(&args, cli.json),
        Command::Inspect(args) => inspect::run(&args, cli.json),
        Command::Golden(args) => golden::run(&args, cli.json),
        Command::Check(args) => check::run(&args, cli.json),
        Command::Bench(args) => bench::run(&args, cli.json),
        Command::Ppl(args) => ppl::run(&args, cli.json),
        Command::Pull(args) => models::pull(&args, cli.json),
        Command::List => models::list(cli.json),
        Command::Rm(args) => models::rm(&args, cli.json),
        Command::Synth(args) => synth::run(&args, cli.json),
        Command::Shaders(args) => shaders::run(&args, cli.json),
    };
    let report = result.unwrap_or_else(|e| {
        tracing::error!("{e}");
        Report { json: json!({ "error": error_json(&e) }), ok: false }
    });
    if cli.json {
        println!("{}", report.json);
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn error_json(e: &Error) -> Value {
    json!({ "code": e.code(), "place": e.place(), "message": e.detail() })
}
