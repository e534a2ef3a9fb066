//! Encoding of an image: how long it takes, and how long the parts are between which others have their turn.

use std::time::Instant;

use pagelm::Result;
use pagelm::engine::Seeing;
use pagelm::image::Pixels;
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::image::EncoderArgs;
use crate::model::{DeviceArgs, Purpose};

/// Pixels along a side of the image that is encoded: Gemma 3 makes it 896, and Qwen3-VL has 1024 patches of it.
const SIDE: usize = 512;

pub fn run(args: &EncoderArgs, device: &DeviceArgs, reps: usize, json: bool) -> Result<Report> {
    let mut encoder = args.open(device.device(Purpose::Run)?, false)?.expect("the caller has one");
    let mut rgba = vec![255; 4 * SIDE * SIDE];
    for (i, v) in rgba.iter_mut().enumerate().filter(|(i, _)| i % 4 != 3) {
        *v = (i.wrapping_mul(2_654_435_761) >> 7) as u8;
    }
    let image = encoder.processor().process(&Pixels::new(SIDE, SIDE, rgba)?, None)?;
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    // The first one warms up.
    for rep in 0..=reps {
        let began = Instant::now();
        loop {
            let part = Instant::now();
            let seen = block_on(encoder.encode_part(&image))?;
            if rep > 0 {
                parts.push(part.elapsed().as_secs_f64() * 1e3);
            }
            if matches!(seen, Seeing::Whole(_)) {
                break;
            }
        }
        if rep > 0 {
            whole.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let n = parts.len() / reps;
    let [whole, parts] = [whole, parts].map(|mut all| {
        all.sort_by(f64::total_cmp);
        [all[0], all[all.len() / 2], all[all.len() - 1]]
    });
    if !json {
        let line = |[min, median, max]: [f64; 3]| format!("{median:.1} ms ({min:.1} to {max:.1})");
        println!("an image of {} rows: {}, in {n} parts of {}", image.rows(), line(whole), line(parts));
    }
    let of = |[min, median, max]: [f64; 3]| json!({ "min": min, "median": median, "max": max });
    let json = json!({ "rows": image.rows(), "image_ms": of(whole), "parts": n, "part_ms": of(parts) });
    Ok(Report { json, ok: true })
}
