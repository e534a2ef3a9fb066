//! Several rows of a step at once.

use pagelm::backend::{Draw, MAX_SEGMENTS};

use super::*;

/// A token after each row of a step.
fn choose_rows(b: &mut WebGpu, segments: &[Segment<'_>], draws: &[Draw]) -> Result<Vec<Result<u32>>> {
    b.submit_rows(&Step::trunk(segments), draws, 0)?;
    let mut tokens = vec![Ok(0); draws.len()];
    block_on(poll_fn(|cx| b.poll_rows(cx, &mut tokens)))?;
    Ok(tokens)
}

#[test]
fn each_row_of_a_step_is_chosen_by_its_own_rules_and_eight_bytes_of_it_are_read() {
    let mut rng = Rng::named("rows");
    let cols = 1201;
    let mut rows: Vec<Vec<f32>> =
        (0..MAX_SEGMENTS + 5).map(|_| (0..cols).map(|_| bell(&mut rng, 1.5)).collect()).collect();
    rows[3] = vec![0.5; cols];
    let case = table("rows", &[MAX_SEGMENTS], cols, &rows);
    let known = |p: &SamplerParams| p.repeat_penalty == 1.0;
    let settings: Vec<_> = settings().into_iter().filter(known).collect();
    on_all(&case, |what, b| {
        for start in 0..settings.len() {
            let mut cpus: Vec<Sampler> = (0..MAX_SEGMENTS)
                .map(|i| Sampler::new(settings[(start + i) % settings.len()].clone()).unwrap())
                .collect();
            let draws: Vec<_> = cpus
                .iter()
                .map(|s| Draw { rules: s.rules().expect("no bias"), key: s.key(0), masked: false })
                .collect();
            assert!(draws.iter().all(|d| b.prepare_rows(&d.rules).unwrap()), "{what}");
            // All rows of one segment, and the last of each of two.
            let ids: Vec<u32> = (0..MAX_SEGMENTS as u32).collect();
            let before = b.counters();
            let all = choose_rows(b, &[Segment::alone(&ids, 0, MAX_SEGMENTS)], &draws).unwrap();
            let c = b.counters();
            assert_eq!((c.bytes_read - before.bytes_read, c.submits - before.submits), (8 * MAX_SEGMENTS as u64, 1));
            for (i, (got, cpu)) in all.into_iter().zip(&mut cpus).enumerate() {
                let want = cpu.sample(&mut rows[i].clone(), &[]);
                match (got, want) {
                    (Ok(got), Ok(want)) => assert_eq!(got, want, "{what}: row {i} of {start}"),
                    (got, want) => {
                        assert!(i == 3 && got.is_err() && want.is_err(), "{what}: row {i}, {got:?}, {want:?}")
                    }
                }
            }
        }
        // What it does not know, and what does not fit.
        let rules = |p: SamplerParams| Sampler::new(p).unwrap().rules().expect("no bias");
        let penalised = rules(SamplerParams { repeat_penalty: 1.2, ..SamplerParams::default() });
        let reported = SamplingRules { logprobs: Some(2), ..rules(SamplerParams::default()) };
        assert!(!b.prepare_rows(&penalised).unwrap() && !b.prepare_rows(&reported).unwrap(), "{what}");
        let draw = |rules| Draw { rules, key: 1, masked: false };
        let greedy = rules(SamplerParams::greedy());
        for draws in [&[draw(penalised)][..], &[draw(greedy); 2], &[]] {
            let e = choose_rows(b, &[Segment::alone(&[1, 2], 0, 1)], draws).expect_err("is refused");
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{what}");
        }
        let got = choose_rows(b, &[Segment::alone(&[1, 2], 0, 1)], &[draw(greedy)]).unwrap();
        let best = |row: &[f32]| (0..).zip(row).max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
        assert_eq!(got[0].as_ref().ok().copied(), best(&rows[2]), "{what}: it goes on");
    });
}

#[test]
fn rows_are_chosen_under_masks_of_their_own() {
    let mut rng = Rng::named("masks of rows");
    let (cols, n) = (1201, 5);
    let rows: Vec<Vec<f32>> = (0..n + 5).map(|_| (0..cols).map(|_| bell(&mut rng, 1.5)).collect()).collect();
    on_all(&table("masked rows", &[n], cols, &rows), |what, b| {
        for params in [SamplerParams::greedy(), SamplerParams { seed: 3, top_k: 0, ..SamplerParams::default() }] {
            let mut rng = Rng::named("masks");
            let mut cpu = Sampler::new(params).unwrap();
            let rules = cpu.rules().expect("no bias");
            assert!(b.prepare_rows(&rules).unwrap(), "{what}");
            // One row without a mask, the last lets nothing through; the words end before the vocabulary does.
            let masked = |row| row != 1;
            let draws: Vec<_> = (0..n).map(|row| Draw { rules, key: cpu.key(row), masked: masked(row) }).collect();
            let words = 32;
            let masks: Vec<u32> =
                (0..n * words).map(|i| if i / words == n - 1 { 0 } else { rng.next() as u32 }).collect();
            let ids: Vec<u32> = (0..n as u32).collect();
            b.submit_rows(&Step::trunk(&[Segment::alone(&ids, 0, n)]), &draws, 0).unwrap();
            b.submit_masks(&masks).unwrap();
            let mut tokens = vec![Ok(0); n];
            block_on(poll_fn(|cx| b.poll_rows(cx, &mut tokens))).unwrap();
            for (row, got) in tokens.into_iter().enumerate() {
                let mask = &masks[row * words..][..words];
                let lets = |id: usize| !masked(row) || mask.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
                let mut logits = rows[row].clone();
                (0..cols).filter(|id| !lets(*id)).for_each(|id| logits[id] = -1e30);
                match cpu.sample(&mut logits, &[]) {
                    Ok(want) if row != n - 1 => assert_eq!(got, Ok(want), "{what}: row {row}"),
                    _ => assert_eq!(got.unwrap_err().kind(), ErrorKind::DegenerateLogits, "{what}: row {row}"),
                }
            }
            assert!(b.submit_masks(&masks).is_err(), "{what}: no step waits for them");
        }
    });
}
