//! The tokens that are still candidates, and the stages that drop some of them.

use std::cmp::Ordering;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Index into the row of logits.
    pub id: u32,
    /// Finite.
    pub logit: f32,
}

impl Candidate {
    /// Likelier first; among equals the lower id first.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// How many of the likeliest tokens top-p looks at first: enough for nearly every row.
const TOP_P_FIRST: usize = 128;

/// Candidates, of which the first `sorted` are the likeliest in order.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    list: Vec<Candidate>,
    sorted: usize,
}

impl Candidates {
    /// Starts over with every token whose logit is finite.
    pub fn fill(&mut self, logits: &[f32]) {
        self.list.clear();
        let all = logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit: logit + 0.0 }); // merges -0 and +0
        self.list.extend(all.filter(|c| c.logit.is_finite()));
        self.sorted = 0;
    }

    /// The remaining candidates; only the first ones may be sorted.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.list
    }

    /// Keeps the k largest logits; 0 keeps all.
    pub fn top_k(&mut self, k: usize) {
        if k == 0 || k >= self.list.len() {
            return;
        }
        self.sort_front(k);
        self.list.truncate(k);
    }

    /// Keeps the likeliest until their probabilities add up to p, at least `min_keep`.
    pub fn top_p(&mut self, p: f32, min_keep: usize) {
        if p >= 1.0 || self.list.is_empty() {
            return;
        }
        let max = self.max();
        let weight = |c: &Candidate| f64::from(c.logit - max).exp();
        let enough = f64::from(p) * self.list.iter().map(weight).sum::<f64>();
        let (mut sum, mut seen, mut front) = (0.0, 0, TOP_P_FIRST.max(min_keep));
        while seen < self.list.len() {
            self.sort_front(front);
            while seen < self.sorted {
                sum += weight(&self.list[seen]);
                seen += 1;
                if sum >= enough && seen >= min_keep {
                    self.truncate(seen);
                    return;
                }
            }
            front *= 8;
        }
    }

    /// Keeps those at least `p` times as likely as the likeliest, at least `min_keep`.
    pub fn min_p(&mut self, p: f32, min_keep: usize) {
        if p <= 0.0 || self.list.is_empty() {
            return;
        }
        let least = self.max() + p.ln();
        if min_keep > 1 {
            self.sort_front(min_keep);
        }
        let kept_anyway = min_keep.min(self.sorted);
        let mut i = 0;
        self.list.retain(|c| {
            i += 1;
            i <= kept_anyway || c.logit >= least
        });
        self.sorted = self.sorted.min(self.list.len());
    }

    /// Divides the logits by t; for t <= 0 only the likeliest token is kept.
    pub fn temperature(&mut self, t: f32) {
        if t <= 0.0 {
            self.top_k(1);
        } else if t != 1.0 {
            // The largest becomes 0, so that a tiny t does not make several infinities.
            let max = self.max();
            self.list.iter_mut().for_each(|c| c.logit = (c.logit - max) / t);
        }
    }

    fn truncate(&mut self, n: usize) {
        self.list.truncate(n);
        self.sorted = self.sorted.min(n);
    }

    fn max(&self) -> f32 {
        match self.sorted {
            0 => self.list.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max),
            _ => self.list[0].logit,
        }
    }

    /// Sorts the n likeliest to the front, without sorting the rest.
    fn sort_front(&mut self, n: usize) {
        let n = n.min(self.list.len());
        if n <= self.sorted {
            return;
        }
        let rest = &mut self.list[self.sorted..];
        let wanted = n - self.sorted;
        if wanted < rest.len() {
            rest.select_nth_unstable_by(wanted - 1, Candidate::order);
        }
        rest[..wanted].sort_unstable_by(Candidate::order);
        self.sorted = n;
    }
}
