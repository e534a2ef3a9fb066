//! Models that were downloaded: complete files in a folder for downloads, and those that are not complete yet, each with a
//! log of what it has.

mod download;
mod log;

use std::cell::Cell;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use pagelm::gguf::Gguf;
use pagelm::hub::{self, HubFile, HubModel, Wanted};
use pagelm::{Error, ErrorKind, Result};

use crate::mmap::Mapped;

use download::{Client, Show, Wish, io};

/// What the name of a file ends with that is not complete.
const PART: &str = "part";

/// Where models come from.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct HubArgs {
    /// Where models named hf:OWNER/REPO… are. Default: $HF_ENDPOINT, else https://huggingface.co. With $HF_TOKEN, which only
    /// this hub is told, models that are not public too.
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
}

impl HubArgs {
    fn url(&self) -> String {
        let given = self.hub.clone().or_else(|| std::env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty()));
        given.unwrap_or_else(|| hub::HUB.to_string())
    }
}

/// Whether a model is named by an address and not by a path.
pub fn is_remote(model: &Path) -> bool {
    let text = model.to_string_lossy();
    ["hf:", "https://", "http://"].iter().any(|scheme| text.starts_with(scheme))
}

/// The folder of downloads.
pub struct Store {
    folder: PathBuf,
}

/// A file of the store.
pub struct Stored {
    /// Its path below the folder, with `/`.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub complete: bool,
}

impl Store {
    /// Below the cache folder of the system.
    pub fn open() -> Result<Self> {
        let cache = crate::machine::cache_folder().ok_or_else(|| {
            let detail = "there is no folder for downloads; set HOME or XDG_CACHE_HOME to an absolute path";
            Error::new(ErrorKind::Io, detail)
        })?;
        Ok(Self { folder: cache.join("downloads") })
    }

    /// The files of a model.
    fn wishes(&self, model: &str, hub: &str) -> Result<Vec<Wish>> {
        if model.starts_with("hf:") {
            return self.of_hub(&model.parse()?, hub);
        }
        Ok(hub::siblings(model).into_iter().map(|url| Wish { url, sha256: None }).collect())
    }

    /// The header of a model, and the bytes of its files: of what is not stored, no more than the headers are fetched.
    pub fn header(&self, model: &str, hub: &HubArgs) -> Result<(Gguf, u64)> {
        let hub = hub.url();
        let client = Client::new(&hub);
        let (mut parts, mut start) = (Vec::new(), 0);
        for wish in self.wishes(model, &hub)? {
            let path = self.path(&wish.url)?;
            let (gguf, len) = if path.exists() {
                let file = Mapped::open(&path)?;
                (Gguf::parse(&file).map_err(|e| e.at(path.display()))?, file.len() as u64)
            } else {
                client.header(&wish.url)?
            };
            parts.push((gguf, start, wish.url));
            start += len;
        }
        match <[_; 1]>::try_from(parts) {
            Ok([(whole, ..)]) => Ok((whole, start)),
            Err(parts) => Ok((Gguf::join(parts)?, start)),
        }
    }

    /// The first file of a model, which is downloaded with all its parts if it is not there.
    pub fn get(&self, model: &str, hub: &HubArgs, sha256: Option<&str>, show: Show<'_>) -> Result<PathBuf> {
        let hub = hub.url();
        let mut wishes = self.wishes(model, &hub)?;
        match (&mut wishes[..], sha256) {
            ([one], Some(sum)) => one.sha256 = Some(sum.to_ascii_lowercase()),
            (_, None) => {}
            (many, Some(_)) => {
                let detail = format!("the model has {} files: a sum is that of one", many.len());
                return Err(Error::new(ErrorKind::InvalidArgument, detail).at(model));
            }
        }
        let client = Client::new(&hub);
        let mut first = None;
        for wish in &wishes {
            let path = self.path(&wish.url)?;
            client.fetch(wish, &path, &path_of_part(&path), show)?;
            first.get_or_insert(path);
        }
        first.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "the model has no files").at(model))
    }

    /// The files of a model of a hub. If all are stored, nobody is asked.
    fn of_hub(&self, model: &HubModel, hub: &str) -> Result<Vec<Wish>> {
        let (root, files) = (model.file_url(hub, ""), self.list()?);
        let below = self.name(&self.path(&root)?);
        let complete = files.iter().filter(|f| f.complete).map(|f| f.name.as_str());
        if let Ok(stored) = chosen(model, complete, &format!("{below}/")) {
            return Ok(stored.iter().map(|path| Wish { url: format!("{root}{path}"), sha256: None }).collect());
        }
        let text = Client::new(hub).text(&model.list_url(hub))?;
        Ok(model.files(hub, &text)?.into_iter().map(|HubFile { url, sha256 }| Wish { url, sha256 }).collect())
    }

    /// Where the file of an address is kept: below its host, by its path, whatever its query.
    fn path(&self, url: &str) -> Result<PathBuf> {
        let bad = || Error::new(ErrorKind::InvalidArgument, "must be the http or https address of a file").at(url);
        let (_, rest) = url.split_once("://").ok_or_else(bad)?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let parts: Vec<_> = rest.split('/').filter(|p| !p.is_empty()).map(|p| p.replace(['\\', ':'], "_")).collect();
        let plain = |p: &String| matches!(Path::new(p).components().next(), Some(Component::Normal(_)));
        if parts.len() < 2 || !parts.iter().all(plain) {
            return Err(bad());
        }
        Ok(self.folder.join(parts.iter().collect::<PathBuf>()))
    }

    /// The name of a file of the store.
    fn name(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        below.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// All files, complete or not, by name.
    pub fn list(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let entry = entry.map_err(|e| io(&folder, &e))?;
                let path = entry.path();
                let meta = entry.metadata().map_err(|e| io(&path, &e))?;
                if meta.is_dir() {
                    folders.push(path);
                    continue;
                }
                let complete = match path.extension().and_then(|e| e.to_str()) {
                    Some(log::LOG) => continue,
                    extension => extension != Some(PART),
                };
                let named = if complete { path.clone() } else { path.with_extension("") };
                let name = self.name(&named);
                all.push(Stored { name, path, bytes: meta.len(), complete });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Removes the files of a model: by its address, or by a name as `list` gives it. Returns how many bytes that frees.
    pub fn remove(&self, model: &str) -> Result<u64> {
        let files = self.list()?;
        let ends = match model.parse::<HubModel>() {
            // Of whatever hub it came from.
            Ok(m) => {
                let root = m.file_url("", "");
                let of_it = files.iter().filter_map(|f| f.name.get(f.name.find(&root)?..));
                match &m.wanted {
                    // Parts that are not there yet are none to look for.
                    Wanted::File(path) => hub::siblings(path).iter().map(|p| m.file_url("", p)).collect(),
                    _ => chosen(&m, of_it, &root)?.iter().map(|p| format!("{root}{p}")).collect(),
                }
            }
            Err(_) if model.contains("://") => hub::siblings(&self.name(&self.path(model)?)),
            Err(_) => hub::siblings(model),
        };
        let (mut freed, mut found) = (0, false);
        let is =
            |name: &str| ends.iter().any(|end| name == end || (end.starts_with('/') && name.ends_with(end.as_str())));
        for file in files.iter().filter(|f| is(&f.name)) {
            fs::remove_file(&file.path).map_err(|e| io(&file.path, &e))?;
            let _ = fs::remove_file(log::path_of(&file.path));
            (freed, found) = (freed + file.bytes, true);
        }
        if !found {
            let detail = "no such model is stored; `pagelm list` names those that are";
            return Err(Error::new(ErrorKind::InvalidArgument, detail).at(model));
        }
        Ok(freed)
    }
}

/// The paths that a name of a hub means among stored files, of which those of its repository start with `root`. They are
/// encoded as in addresses.
fn chosen<'a>(model: &HubModel, names: impl Iterator<Item = &'a str>, root: &str) -> Result<Vec<String>> {
    let paths: Vec<_> = names.filter_map(|name| name.strip_prefix(root)).map(str::to_string).collect();
    let wanted = match &model.wanted {
        Wanted::File(path) => Wanted::File(model.file_url("", path)[model.file_url("", "").len()..].to_string()),
        other => other.clone(),
    };
    HubModel { wanted, ..model.clone() }.choose(&paths)
}

/// The first file of a model, which is downloaded if it is not stored, with progress on a terminal.
pub fn get(model: &str, hub: &HubArgs, sha256: Option<&str>) -> Result<PathBuf> {
    let (began, shown) = (Instant::now(), Cell::new(0.0));
    let terminal = std::io::stderr().is_terminal();
    let show = |url: &str, have: u64, size: Option<u64>| {
        let seconds = began.elapsed().as_secs_f64();
        let done = size == Some(have);
        if !terminal || (seconds - shown.get() < 0.2 && !done) {
            return;
        }
        shown.set(seconds);
        let name = url.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let of = size.map_or(String::new(), |size| format!(" of {:.1}", mib(size)));
        let end = if done { "\n" } else { "" };
        eprint!("\r{name}: {:.1}{of} MiB{end}", mib(have));
        let _ = std::io::stderr().flush();
    };
    Store::open()?.get(model, hub, sha256, &show)
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn path_of_part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PART);
    name.into()
}
