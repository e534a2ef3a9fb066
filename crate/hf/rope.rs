//! Rotation: bases and scalings, in the form of transformers 5 (`rope_parameters`) and of those before
//! (`rope_theta`, `rope_scaling`).

use std::f32::consts::PI;

use super::json::Object;
use crate::error::Result;

#[derive(Debug, Default)]
pub(super) struct Rope {
    base: Option<f64>,
    /// Positions are divided by this.
    pub linear: Option<f64>,
    /// Divisors of the angles.
    pub freqs: Option<Vec<f32>>,
    /// The base of layers with a window, where it is another one.
    pub local_base: Option<f64>,
}

impl Rope {
    pub(super) fn base(&self, arch: &str) -> f64 {
        self.base.unwrap_or(if arch == "gemma3" { 1e6 } else { 1e4 })
    }
}

pub(super) fn read(c: Object<'_>, d_head: u32) -> Result<Rope> {
    let params = c.object("rope_parameters")?;
    let by_layer = match params {
        Some(p) => p.object("full_attention")?.zip(p.object("sliding_attention")?),
        None => None,
    };
    for o in [Some(c), params].into_iter().flatten() {
        if o.opt_f64("partial_rotary_factor")?.is_some_and(|f| f != 1.0) {
            return Err(o.bad("partial_rotary_factor", "partial rotation is not supported for this architecture"));
        }
    }
    let mut rope = Rope { base: c.opt_f64("rope_theta")?, ..Rope::default() };
    rope.local_base = c.opt_f64("rope_local_base_freq")?;
    if let Some((full, local)) = by_layer {
        let mut windowed = Rope::default();
        windowed.scale(local, d_head)?;
        if windowed.linear.is_some() || windowed.freqs.is_some() {
            return Err(c.bad("rope_parameters", "scaling on layers with a window is not supported"));
        }
        rope.local_base = windowed.base;
        rope.scale(full, d_head)?;
    } else if let Some(p) = params {
        rope.scale(p, d_head)?;
    } else if let Some(p) = c.object("rope_scaling")? {
        rope.scale(p, d_head)?;
    }
    Ok(rope)
}

impl Rope {
    fn scale(&mut self, p: Object<'_>, d_head: u32) -> Result<()> {
        self.base = p.opt_f64("rope_theta")?.or(self.base);
        let key = if p.get("rope_type").is_some() { "rope_type" } else { "type" };
        match p.opt_str(key)?.unwrap_or("default") {
            "default" => Ok(()),
            "linear" => {
                self.linear = Some(p.f64("factor")?);
                Ok(())
            }
            "llama3" => {
                self.freqs = Some(self.llama3(p, d_head)?);
                Ok(())
            }
            other => Err(p.bad(key, format!("unsupported scaling `{other}`; expected `linear` or `llama3`"))),
        }
    }

    /// 1 for fast angles, `factor` for slow ones, and a blend of their inverses between. In f32, as in training.
    fn llama3(&self, p: Object<'_>, d_head: u32) -> Result<Vec<f32>> {
        let number = |key: &str, default: f64| -> Result<f32> {
            match p.opt_f64(key)?.unwrap_or(default) {
                v if v.is_finite() && v > 0.0 => Ok(v as f32),
                v => Err(p.bad(key, format!("must be above zero, is {v}"))),
            }
        };
        p.f64("factor")?;
        let (factor, low, high) =
            (number("factor", 8.0)?, number("low_freq_factor", 1.0)?, number("high_freq_factor", 4.0)?);
        let trained = number("original_max_position_embeddings", 8192.0)?;
        if high <= low || d_head > 1 << 16 {
            return Err(p.bad("high_freq_factor", format!("must be above low_freq_factor {low}, is {high}")));
        }
        let base = self.base("llama") as f32;
        let divisor = |i: u32| {
            let wavelength = 2.0 * PI * base.powf((2 * i) as f32 / d_head as f32);
            let turns = trained / wavelength;
            if turns > high {
                1.0
            } else if turns < low {
                factor
            } else {
                let fast = (turns - low) / (high - low);
                1.0 / ((1.0 - fast) / factor + fast)
            }
        };
        Ok((0..d_head / 2).map(divisor).collect())
    }
}
