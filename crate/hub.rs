//! Models by name on a hub, Hugging Face's or a mirror of it, and the names of files that belong together.
//!
//! Which file of a repository is meant is decided by the exact quantisation that its name ends with, never by a part of it,
//! and never falls on a file beside a model. The file for images is the one of the quantisation `mmproj`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// The hub that names are of unless a caller gives another one.
pub const HUB: &str = "https://huggingface.co";

/// `hf:OWNER/REPO[@REVISION]`, then `/FILE` or `:QUANTISATION`, or nothing where there is one model only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `OWNER/REPO`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// Which of its files.
    pub wanted: Wanted,
}

/// Which file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one model.
    Only,
    /// By its path.
    File(String),
    /// By the end of its name.
    Quantisation(String),
}

/// A file of a model on a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HubFile {
    /// Where it is.
    pub url: String,
    /// Its SHA-256 in hexadecimal digits, if the hub says it.
    pub sha256: Option<String>,
}

/// An entry of a hub's list.
#[derive(Deserialize)]
struct Listed {
    path: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: Option<String>,
}

impl FromStr for HubModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let rest = text.strip_prefix("hf:")?;
            let (owner, rest) = rest.split_once('/')?;
            let end = rest.find(['/', ':', '@']).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let (revision, rest) = match rest.strip_prefix('@') {
                Some(rest) => rest.split_at(rest.find(['/', ':']).unwrap_or(rest.len())),
                None => ("main", rest),
            };
            let wanted = match rest.split_at_checked(1) {
                None => Wanted::Only,
                Some(("/", path)) if !path.contains(':') => Wanted::File(path.to_string()),
                Some((":", tag)) if !tag.contains(['/', ':']) => Wanted::Quantisation(tag.to_string()),
                Some(_) => return None,
            };
            let plain = |s: &str| !s.is_empty() && !s.contains([':', '@']);
            let named = match &wanted {
                Wanted::File(s) | Wanted::Quantisation(s) => !s.is_empty(),
                Wanted::Only => true,
            };
            let good = plain(owner) && plain(name) && plain(revision) && named;
            good.then(|| Self { repo: format!("{owner}/{name}"), revision: revision.to_string(), wanted })
        };
        let want = "hf:OWNER/REPO/FILE.gguf or hf:OWNER/REPO:QUANTISATION";
        parse().ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("`{text}` must be {want}")))
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

impl HubModel {
    /// Where a hub lists the files: JSON, a list of objects with a `path` and, for large files, `lfs.oid`, their SHA-256.
    pub fn list_url(&self, hub: &str) -> String {
        let (hub, repo, revision) = (hub.trim_end_matches('/'), &self.repo, encoded(&self.revision));
        format!("{hub}/api/models/{repo}/tree/{revision}?recursive=true")
    }

    /// Where a hub has a file.
    pub fn file_url(&self, hub: &str, path: &str) -> String {
        let path: Vec<_> = path.split('/').map(encoded).collect();
        let (hub, revision) = (hub.trim_end_matches('/'), encoded(&self.revision));
        format!("{hub}/{}/resolve/{revision}/{}", self.repo, path.join("/"))
    }

    /// The files of the model, all its parts in their order, by the list that the hub gave.
    pub fn files(&self, hub: &str, list: &str) -> Result<Vec<HubFile>> {
        let listed: Vec<Listed> = serde_json::from_str(list).map_err(|e| {
            let detail = format!("the hub's list of files is not one: {e}");
            Error::new(ErrorKind::HttpStatus, detail).at(self.list_url(hub))
        })?;
        let paths: Vec<_> = listed.iter().map(|f| f.path.clone()).collect();
        let sum = |path: &String| listed.iter().find(|f| f.path == *path)?.lfs.as_ref()?.oid.clone();
        let files = self.choose(&paths)?;
        Ok(files.iter().map(|path| HubFile { url: self.file_url(hub, path), sha256: sum(path) }).collect())
    }

    /// The same without a list, which not every mirror has: only where the model is named by its path.
    pub fn files_unlisted(&self, hub: &str) -> Option<Vec<HubFile>> {
        let Wanted::File(path) = &self.wanted else { return None };
        Some(siblings(path).iter().map(|path| HubFile { url: self.file_url(hub, path), sha256: None }).collect())
    }

    /// The paths of the model's parts, in their order, among all paths of the repository.
    pub fn choose(&self, paths: &[String]) -> Result<Vec<String>> {
        let (tag, parts) = match &self.wanted {
            Wanted::File(path) => (None, Some(siblings(path))),
            Wanted::Quantisation(tag) => (Some(tag.as_str()), None),
            Wanted::Only => (None, None),
        };
        let parts = parts.map_or_else(|| choose(paths, &self.to_string(), tag), Ok)?;
        if let Some(missing) = parts.iter().find(|p| !paths.contains(p)) {
            let has: Vec<_> = paths.iter().filter(|p| is_gguf(p)).map(String::as_str).collect();
            bail!(InvalidArgument, "{self} has no {missing}; it has {}", listed(&has));
        }
        Ok(parts)
    }
}

/// As a part of a path of a URL.
fn encoded(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b);
    part.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn is_gguf(path: &str) -> bool {
    path.len() >= 5 && path.as_bytes()[path.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

/// A name without `.gguf`, and, if it is that of a part of a split model, without its number: then that, and how many
/// there are.
fn stem(path: &str) -> (&str, Option<(u32, u32)>) {
    let name = if is_gguf(path) { &path[..path.len() - 5] } else { path };
    // -00001-of-00003
    let part = name.len().checked_sub(15).filter(|at| name.is_char_boundary(*at)).and_then(|at| {
        let (before, number) = name.split_at(at);
        let (no, of) = number.strip_prefix('-')?.split_once("-of-")?;
        let count = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten();
        Some((before, (count(no)?, count(of).filter(|n| *n > 0)?)))
    });
    part.map_or((name, None), |(before, part)| (before, Some(part)))
}

/// The names or URLs of all parts of a split model, whichever of them this is; just this one if it is whole.
pub fn siblings(path: &str) -> Vec<String> {
    // Of a URL, what follows the path stays as it is.
    let query = if path.contains("://") { path.find(['?', '#']) } else { None };
    let (name, query) = path.split_at(query.unwrap_or(path.len()));
    match stem(name) {
        (before, Some((_, count))) if is_gguf(name) => {
            let end = &name[name.len() - 5..];
            (1..=count).map(|no| format!("{before}-{no:05}-of-{count:05}{end}{query}")).collect()
        }
        _ => vec![path.to_string()],
    }
}

/// In the names of files for images.
const MMPROJ: &str = "mmproj";

/// Whether a file belongs beside a model: for images, for drafts, or statistics of quantisation.
fn is_beside(path: &str) -> bool {
    has_word(path, &[MMPROJ, "draft", "imatrix"])
}

fn has_word(path: &str, wanted: &[&str]) -> bool {
    path.split(['-', '_', '.', '/']).any(|word| wanted.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

/// The quantisation that a name ends with, in capitals.
fn quantisation(path: &str) -> Option<String> {
    let stem = stem(path).0.to_ascii_uppercase();
    let starts = |(i, _): &(usize, char)| *i == 0 || b"-._/".contains(&stem.as_bytes()[i - 1]);
    let found = stem.char_indices().filter(starts).map(|(i, _)| &stem[i..]).find(|end| is_quantisation(end));
    found.map(str::to_string)
}

fn is_quantisation(tag: &str) -> bool {
    let word = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let digit = |s: &str| s.bytes().next().is_some_and(|b| b.is_ascii_digit());
    let tag = tag.strip_prefix("UD-").unwrap_or(tag);
    let grid = tag.strip_prefix('I').unwrap_or(tag).strip_prefix('Q').is_some_and(digit);
    let ternary =
        tag.strip_prefix("TQ").is_some_and(|s| s.len() == 3 && digit(s) && s.as_bytes()[1] == b'_' && digit(&s[2..]));
    let four = tag.starts_with("MXFP4") || tag.starts_with("NVFP4");
    word(tag) && (grid || ternary || four || ["BF16", "F16", "F32"].contains(&tag))
}

/// The one model among files, all its parts; with a tag the one that has exactly this quantisation. `place` names where the
/// files are.
pub fn choose(paths: &[String], place: &str, tag: Option<&str>) -> Result<Vec<String>> {
    let mut models: Vec<Vec<String>> = Vec::new();
    for path in paths.iter().filter(|p| is_gguf(p) && !is_beside(p)) {
        let parts = siblings(path);
        if !models.contains(&parts) {
            models.push(parts);
        }
    }
    if tag.is_some_and(|tag| tag.eq_ignore_ascii_case(MMPROJ)) {
        return choose_encoder(paths, place);
    }
    let is_wanted =
        |m: &&Vec<String>| tag.is_none_or(|tag| quantisation(&m[0]).is_some_and(|q| q.eq_ignore_ascii_case(tag)));
    let found: Vec<_> = models.iter().filter(is_wanted).collect();
    if let [one] = found[..] {
        return Ok(one.clone());
    }
    let what = tag.map_or("models".to_string(), |tag| format!("files of {tag}"));
    let mut has: Vec<_> = (models.iter())
        .map(|m| quantisation(&m[0]).filter(|_| tag.is_some() && found.is_empty()).unwrap_or_else(|| m[0].clone()))
        .collect();
    has.dedup();
    let has: Vec<_> = has.iter().map(String::as_str).collect();
    bail!(InvalidArgument, "{place} has {} {what}; name one of {}", found.len(), listed(&has))
}

/// The file for images: of several the first of the types below, which encoders lose nothing by.
fn choose_encoder(paths: &[String], place: &str) -> Result<Vec<String>> {
    let all: Vec<_> = paths.iter().filter(|p| is_gguf(p) && has_word(p, &[MMPROJ])).map(String::as_str).collect();
    let of = |tag| all.iter().find(|p| quantisation(p).as_deref() == Some(tag));
    match all.first().filter(|_| all.len() == 1).or_else(|| ["F16", "BF16", "F32", "Q8_0"].into_iter().find_map(of)) {
        Some(one) => Ok(vec![one.to_string()]),
        None => bail!(InvalidArgument, "{place} has no one file for images; name one of {}", listed(&all)),
    }
}

/// The first of a list, and how many there are beside.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 40;
    let first = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        0 => "none".to_string(),
        n if n > SHOWN => format!("{first} and {} more", n - SHOWN),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_shorthand_names_a_repository_a_revision_and_a_file() {
        let parsed = |text: &str| text.parse::<HubModel>().map(|m| (m.repo, m.revision, m.wanted));
        let of = |revision: &str, wanted| Ok(("a/b".to_string(), revision.to_string(), wanted));
        assert_eq!(parsed("hf:a/b"), of("main", Wanted::Only));
        assert_eq!(parsed("hf:a/b/c.gguf"), of("main", Wanted::File("c.gguf".into())));
        assert_eq!(parsed("hf:a/b@v1/d/c.gguf"), of("v1", Wanted::File("d/c.gguf".into())));
        assert_eq!(parsed("hf:a/b:Q4_K_M"), of("main", Wanted::Quantisation("Q4_K_M".into())));
        assert_eq!(parsed("hf:a/b@v1:Q4_0"), of("v1", Wanted::Quantisation("Q4_0".into())));
        for wrong in
            ["", "hf:", "hf:a", "hf:/b", "hf:a/", "hf:a/b:", "hf:a/b/", "hf:a/b@/c", "hf:a/b:c/d", "hf:a:b/c", "a/b"]
        {
            assert_eq!(parsed(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn urls_have_every_part_of_a_path_encoded() {
        let m: HubModel = "hf:a/b@x y/c".parse().unwrap();
        assert_eq!(m.file_url("https://h/", "d/e f#.gguf"), "https://h/a/b/resolve/x%20y/d/e%20f%23.gguf");
        assert_eq!(m.list_url("https://h"), "https://h/api/models/a/b/tree/x%20y?recursive=true");
    }

    #[test]
    fn any_part_of_a_split_model_names_all_of_them() {
        let all = |query: &str| [1, 2].map(|i| format!("https://x/q/m-Q4_K_M-0000{i}-of-00002.gguf{query}"));
        for query in ["", "?download=true", "#x", "?a=b.gguf#c"] {
            for one in all(query) {
                assert_eq!(siblings(&one), all(query));
            }
        }
        assert_eq!(siblings("m#1-00001-of-00001.GGUF"), ["m#1-00001-of-00001.GGUF"]);
        assert_eq!(siblings("https://x/a.gguf?b-00001-of-00002.gguf"), ["https://x/a.gguf?b-00001-of-00002.gguf"]);
    }

    #[test]
    fn a_list_of_a_hub_gives_addresses_and_sums() {
        let list = r#"[{"type": "directory", "path": "d"}, {"path": "d/m-Q4_0.gguf", "size": 5, "lfs": {"oid": "5a"}},
            {"path": "d/m-F16-00001-of-00002.gguf"}, {"path": "d/m-F16-00002-of-00002.gguf", "lfs": {}}]"#;
        let file = |name: &str, sha256: Option<&str>| HubFile {
            url: format!("https://h/a/b/resolve/main/d/{name}.gguf"),
            sha256: sha256.map(str::to_string),
        };
        let m: HubModel = "hf:a/b:Q4_0".parse().unwrap();
        assert_eq!(m.files("https://h/", list).unwrap(), [file("m-Q4_0", Some("5a"))]);
        assert_eq!(m.files_unlisted("https://h"), None);
        let m: HubModel = "hf:a/b/d/m-F16-00002-of-00002.gguf".parse().unwrap();
        let both = ["m-F16-00001-of-00002", "m-F16-00002-of-00002"].map(|name| file(name, None));
        assert_eq!(m.files("https://h", list).unwrap(), both);
        assert_eq!(m.files_unlisted("https://h").unwrap(), both);
        for wrong in ["", "{}", "[1]", "[{}]", "<html>"] {
            let e = m.files("https://h", wrong).unwrap_err();
            assert_eq!(
                (e.kind(), e.place()),
                (ErrorKind::HttpStatus, "https://h/api/models/a/b/tree/main?recursive=true")
            );
        }
    }

    #[test]
    fn a_quantisation_is_exact_and_falls_on_models_alone() {
        let all = paths(&[
            "README.md",
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m-IQ4_XS.gguf",
            "m-UD-Q4_K_XL.gguf",
            "m.Q8_0.gguf",
            "m-Q6_K_L.gguf",
            "m-MXFP4.gguf",
            "m-MXFP4_MOE.gguf",
            "m-Q5_0_4_4.gguf",
            "m-f16.gguf",
            "mmproj-m-F16.gguf",
            "draft/m-Q4_0.gguf",
            "m-imatrix.gguf",
            "big/m-BF16-00001-of-00002.gguf",
            "big/m-BF16-00002-of-00002.gguf",
        ]);
        let by = |tag: &str| format!("hf:a/b:{tag}").parse::<HubModel>().unwrap().choose(&all);
        for (tag, want) in [
            ("Q4_K_M", "m-Q4_K_M.gguf"),
            ("q4_k_s", "m-Q4_K_S.gguf"),
            ("IQ4_XS", "m-IQ4_XS.gguf"),
            ("UD-Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
            ("Q6_K_L", "m-Q6_K_L.gguf"),
            ("MXFP4", "m-MXFP4.gguf"),
            ("MXFP4_MOE", "m-MXFP4_MOE.gguf"),
        ] {
            assert_eq!(by(tag).unwrap(), [want]);
        }
        assert_eq!((by("Q8_0").unwrap(), by("F16").unwrap()), (paths(&["m.Q8_0.gguf"]), paths(&["m-f16.gguf"])));
        assert_eq!(by("BF16").unwrap(), all[14..], "all its parts");
        for tag in ["Q4", "Q4_K", "Q4_0", "K_M", "Q6_K", "XS", "Q4_K_XL", "Q5_0"] {
            let e = by(tag).unwrap_err();
            assert!(e.detail().contains("Q4_K_M") && e.detail().contains("0 files"), "{e}");
        }
        let only: HubModel = "hf:a/b".parse().unwrap();
        assert_eq!(only.choose(&all[..2]).unwrap(), ["m-Q4_K_M.gguf"]);
        assert!(only.choose(&all).unwrap_err().detail().contains("11 models"));
        assert!(only.choose(&[]).unwrap_err().detail().contains("none"));
    }

    #[test]
    fn the_file_for_images_is_found_beside_the_models() {
        let by = |names: &[&str]| "hf:a/b:mmproj".parse::<HubModel>().unwrap().choose(&paths(names));
        assert_eq!(by(&["m-F16.gguf", "mmproj-m-Q4_0.gguf"]).unwrap(), ["mmproj-m-Q4_0.gguf"]);
        let all = ["mmproj-BF16.gguf", "m-Q4_0.gguf", "m.mmproj-f16.gguf", "mmproj-Q8_0.gguf", "mmproj.txt"];
        assert_eq!(by(&all).unwrap(), ["m.mmproj-f16.gguf"]);
        assert_eq!(by(&all[..2]).unwrap(), ["mmproj-BF16.gguf"]);
        for none in [&["m-F16.gguf"][..], &["a-mmproj.gguf", "b-mmproj.gguf"]] {
            assert!(by(none).unwrap_err().detail().contains("no one file for images"), "{none:?}");
        }
    }

    #[test]
    fn a_file_is_taken_with_all_its_parts_and_must_be_there() {
        let all = paths(&["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "y.gguf"]);
        let by = |path: &str| format!("hf:a/b/{path}").parse::<HubModel>().unwrap().choose(&all);
        assert_eq!(by("x-00002-of-00002.gguf").unwrap(), all[..2]);
        assert_eq!(by("y.gguf").unwrap(), ["y.gguf"]);
        assert!(by("z.gguf").unwrap_err().detail().contains("y.gguf"));
        assert!(by("x-00001-of-00003.gguf").is_err());
        for whole in ["a-00001-of-00000.gguf", "a-1-of-3.gguf", "-00001-of-00002.bin", "é.gguf", "", ".gguf"] {
            assert_eq!(siblings(whole), [whole]);
        }
    }
}
