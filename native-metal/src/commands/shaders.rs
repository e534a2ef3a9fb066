//! `pagelm shaders`: the kernels of the WebGPU backend as they are compiled, with their bindings.

use pagelm::backend::webgpu::shader_sources;
use pagelm::{Error, ErrorKind, Result};
use serde_json::json;

use crate::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Print the first variant whose name has all these words; without any, list the names of all variants.
    name: Vec<String>,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let mut found = shader_sources();
    found.retain(|(name, _)| args.name.iter().all(|word| name.split(' ').any(|w| w == word)));
    let Some((name, source)) = found.first() else {
        let wanted = args.name.join(" ");
        let detail = format!("no kernel variant has the name `{wanted}`; `pagelm shaders` lists all names");
        return Err(Error::new(ErrorKind::InvalidArgument, detail));
    };
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    if args.name.is_empty() {
        if !json {
            println!("{}", names.join("\n"));
        }
        return Ok(Report { json: json!({ "names": names }), ok: true });
    }
    if !json {
        tracing::info!("{name}: the first of {} variants with this name", names.len());
        println!("{source}");
    }
    Ok(Report { json: json!({ "name": name, "variants": names, "source": source }), ok: true })
}
