//! Models that are split into several files, each with its own header.

use super::Gguf;
use super::layout::check_names;
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

const COUNT: &str = "split.count";
const NO: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// A part of a split model, as `split.no` and `split.count` of its header say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPart {
    /// From 0 up.
    pub no: u32,
    /// How many there are.
    pub count: u32,
}

impl Gguf {
    /// Which part of a split model this is; `None` for a whole one.
    pub fn split(&self) -> Result<Option<SplitPart>> {
        let count = self.meta.opt_u32(COUNT)?.unwrap_or(1);
        let no = self.meta.opt_u32(NO)?.unwrap_or(0);
        if no >= count.max(1) {
            bail!(GgufInvalid, "`{NO}` is {no}, counted from 0, but `{COUNT}` is {count}");
        }
        Ok((count > 1).then_some(SplitPart { no, count }))
    }

    /// The model of all parts, in their order, as if they lay one after another in one file: each with the byte at which
    /// it starts there, and the name that errors give it.
    pub fn join(parts: Vec<(Gguf, u64, String)>) -> Result<Gguf> {
        let named = |name: &str, detail: String| Err(Error::new(ErrorKind::SplitFile, detail).at(name));
        let total = parts.len();
        let mut parts = parts.into_iter().enumerate();
        let Some((_, (mut whole, start, first))) = parts.next() else {
            bail!(InvalidArgument, "a model has at least one part");
        };
        check_part(&whole, 0, total).map_err(|e| e.at(&first))?;
        whole.tensors.iter_mut().for_each(|t| t.offset += start);
        for (i, (mut part, start, name)) in parts {
            check_part(&part, i, total).map_err(|e| e.at(&name))?;
            for key in ["general.architecture", "general.name", TENSORS] {
                if let (Some(here), Some(there)) = (part.meta.get(key), whole.meta.get(key))
                    && here != there
                {
                    return named(&name, format!("is a part of another model than {first}: its `{key}` differs"));
                }
            }
            part.tensors.iter_mut().for_each(|t| t.offset += start);
            whole.tensors.append(&mut part.tensors);
        }
        let have = whole.tensors.len();
        if let Some(all) = whole.meta.opt_u32(TENSORS)?
            && all as usize != have
        {
            return named(
                &first,
                format!("`{TENSORS}` is {all}, its {total} parts have {have}; is each of them of this model?"),
            );
        }
        check_names(&whole.tensors).map_err(|e| e.at(&first))?;
        [COUNT, NO].iter().for_each(|key| whole.meta.remove(key));
        Ok(whole)
    }

    /// Refuses one part of several, and counts that contradict each other. A model that was joined again says that it has
    /// no parts, and keeps the count of all its tensors.
    pub fn check_whole(&self) -> Result<()> {
        let split = self.split()?;
        let all = self.meta.opt_u32(TENSORS)?.filter(|n| *n > 0);
        let have = self.tensors.len() as u64;
        let Some(SplitPart { no, count }) = split else {
            return match all {
                Some(all) if u64::from(all) != have => {
                    bail!(GgufInvalid, "the file has {have} tensors, `{TENSORS}` is {all}; is it complete?")
                }
                _ => Ok(()),
            };
        };
        if let Some(all) = all
            && u64::from(all) < have
        {
            bail!(GgufInvalid, "this part alone has {have} tensors, `{TENSORS}` is {all} for all {count}");
        }
        let tensors = all.map_or_else(String::new, |all| format!(" of {all}"));
        bail!(
            SplitFile,
            "this is part {} of {count} of a model that is split into several files, with {have}{tensors} tensors; join \
             the parts into one file (llama-gguf-split --merge)",
            no + 1
        );
    }
}

/// Refuses a file that is not part `i` of `count`.
fn check_part(part: &Gguf, i: usize, count: usize) -> Result<()> {
    match part.split()? {
        Some(SplitPart { no, count: of }) if no as usize == i && of as usize == count => Ok(()),
        Some(SplitPart { no, count: of }) => {
            bail!(SplitFile, "is part {} of {of}, where part {} of {count} belongs", no + 1, i + 1)
        }
        None => bail!(SplitFile, "is a whole file, where part {} of {count} belongs", i + 1),
    }
}
