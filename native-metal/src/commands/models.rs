//! `pagelm pull`, `list` and `rm`: models that are downloaded once.

use pagelm::Result;
use serde_json::json;

use crate::Report;
use crate::store::{self, HubArgs, Store, mib};

#[derive(clap::Args)]
pub struct PullArgs {
    /// hf:OWNER/REPO/FILE.gguf, hf:OWNER/REPO:QUANTISATION, or the address of a file; of a split model any part.
    model: String,
    /// The SHA-256 that the file must have, if the hub does not say it.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(clap::Args)]
pub struct RmArgs {
    /// As it was pulled, or as `pagelm list` names it.
    model: String,
}

pub fn pull(args: &PullArgs, json: bool) -> Result<Report> {
    let path = store::get(&args.model, &args.hub, args.sha256.as_deref())?;
    if !json {
        println!("{}", path.display());
    }
    Ok(Report { json: json!({ "path": path }), ok: true })
}

pub fn list(json: bool) -> Result<Report> {
    let all = Store::open()?.list()?;
    if !json {
        for file in &all {
            let state = if file.complete { "" } else { "  (not complete)" };
            println!("{:>10.1} MiB  {}{state}", mib(file.bytes), file.name);
        }
    }
    let of = |f: &store::Stored| json!({ "name": f.name, "path": f.path, "bytes": f.bytes, "complete": f.complete });
    Ok(Report { json: json!({ "models": all.iter().map(of).collect::<Vec<_>>() }), ok: true })
}

pub fn rm(args: &RmArgs, json: bool) -> Result<Report> {
    let freed = Store::open()?.remove(&args.model)?;
    if !json {
        println!("{:.1} MiB are free again", mib(freed));
    }
    Ok(Report { json: json!({ "freed": freed }), ok: true })
}
