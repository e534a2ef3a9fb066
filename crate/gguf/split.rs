//! Models that are split into several files, each with its own header.

use super::Gguf;
use crate::bail;
use crate::error::Result;

impl Gguf {
    /// Refuses one part of several, and counts that contradict each other. A model that was joined again says that it has
    /// no parts, and keeps the count of all its tensors.
    pub fn check_whole(&self) -> Result<()> {
        let count = self.meta.opt_u32("split.count")?.unwrap_or(1);
        let no = self.meta.opt_u32("split.no")?.unwrap_or(0);
        let all = self.meta.opt_u32("split.tensors.count")?.filter(|n| *n > 0);
        let have = self.tensors.len() as u64;
        if no >= count.max(1) {
            bail!(GgufInvalid, "`split.no` is {no}, counted from 0, but `split.count` is {count}");
        }
        if count <= 1 {
            return match all {
                Some(all) if u64::from(all) != have => {
                    bail!(GgufInvalid, "the file has {have} tensors, `split.tensors.count` is {all}; is it complete?")
                }
                _ => Ok(()),
            };
        }
        if let Some(all) = all
            && u64::from(all) < have
        {
            bail!(GgufInvalid, "this part alone has {have} tensors, `split.tensors.count` is {all} for all {count}");
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
