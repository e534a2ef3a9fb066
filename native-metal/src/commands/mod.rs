//! One file per command.

pub mod bench;
pub mod check;
pub mod embed;
pub mod golden;
pub mod inspect;
pub mod models;
pub mod ppl;
pub mod run;
pub mod serve;
pub mod shaders;
pub mod synth;

/// `ln(sum(exp(row)))`.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + row.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

/// The largest logit, of equal ones the first.
fn argmax(row: &[f32]) -> u32 {
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    best.unwrap_or(0) as u32
}
