//! `pagelm shaders`: the kernels of the WebGPU backend as they are compiled, with their bindings.

use std::io::{self, Write};

use pagelm::backend::webgpu::shader_sources;
use pagelm::{Error, ErrorKind, Result};
use serde_json::json;

use crate::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Print the first variant whose name has all these words, in capitals or not; without any, list all names.
    name: Vec<String>,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let mut found = shader_sources();
    found.retain(|(name, _)| args.name.iter().all(|word| name.split(' ').any(|w| w.eq_ignore_ascii_case(word))));
    let Some((name, source)) = found.first() else {
        let wanted = args.name.join(" ");
        let detail = format!("unknown kernel `{wanted}`; `pagelm shaders` lists all names");
        return Err(Error::new(ErrorKind::InvalidArgument, detail));
    };
    let mut names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if args.name.is_empty() {
        if !json {
            print(&names.join("\n"));
        }
        return Ok(Report { json: json!({ "names": names }), ok: true });
    }
    if !json {
        tracing::info!("{name}: the first of {} variants with this name", names.len());
        print(source);
    }
    Ok(Report { json: json!({ "name": name, "variants": names, "source": source }), ok: true })
}

/// A reader that has seen enough, such as `head`, may close the pipe.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
