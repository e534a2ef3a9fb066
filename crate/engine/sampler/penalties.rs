//! Penalties on recent tokens.

/// How much less likely a recent token becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// How many tokens at the end of the history count.
    pub last_n: usize,
    /// Logits above 0 are divided by it, others multiplied; 1 is off.
    pub repeat: f32,
    /// Subtracted per occurrence.
    pub frequency: f32,
    /// Subtracted once.
    pub presence: f32,
}

impl Penalties {
    /// Whether they have no effect.
    pub fn are_off(&self) -> bool {
        self.repeat == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    /// Changes the logits of tokens at the end of `history`. Ids outside the vocabulary are ignored; `scratch` is for
    /// reuse.
    pub fn apply(&self, logits: &mut [f32], history: &[u32], scratch: &mut Vec<u32>) {
        if self.are_off() {
            return;
        }
        scratch.clear();
        scratch.extend_from_slice(&history[history.len().saturating_sub(self.last_n)..]);
        scratch.sort_unstable();
        for run in scratch.chunk_by(|a, b| a == b) {
            let Some(l) = logits.get_mut(run[0] as usize) else { continue };
            *l = if *l <= 0.0 { *l * self.repeat } else { *l / self.repeat };
            *l -= run.len() as f32 * self.frequency + self.presence;
        }
    }
}
