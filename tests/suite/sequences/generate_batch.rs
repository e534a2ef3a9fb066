//! Prompts with parameters of their own, in one call.

use pagelm::ErrorKind;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Event, Options, StopReason};
use pollster::block_on;

use super::{greedy, open, tokenizer};
use crate::common::golden;

#[test]
fn prompts_have_limits_of_their_own_and_end_alone() {
    let (numbers, _) = golden::load("llama");
    let tokenizer = tokenizer("llama");
    // Room for two at once: the others follow.
    let options = Options { n_ctx: Some(64), cache: Some(128), sequences: 2, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let (prompt, want) = (&numbers.prompts[0].ids, &numbers.prompts[0].greedy.as_ref().unwrap().tokens);
    let rows = [(&prompt[..], 6), (&[1_000_000][..], 6), (prompt, 3), (prompt, 9), (&[40, 41, 42], 5)];
    let mut tokens = vec![Vec::new(); rows.len()];
    let mut ends = vec![None; rows.len()];
    let prompts = rows.map(|(prompt, n)| (prompt, greedy(n)));
    let run = engine.generate_batch(&tokenizer, prompts, &|| 0.0, |row, event| {
        match event {
            Ok(Event::Token { id, .. }) => tokens[row].push(id),
            Ok(Event::Done { reason, .. }) => ends[row] = Some(Ok(reason)),
            Ok(Event::Prefill { .. }) => {}
            Err(e) => ends[row] = Some(Err(e.kind())),
        }
        // The fourth is stopped by its reader.
        row != 3 || tokens[row].len() < 4
    });
    block_on(run).unwrap();
    let done = Some(Ok(StopReason::MaxTokens));
    assert_eq!(ends, [done, Some(Err(ErrorKind::TokenOutOfRange)), done, None, done]);
    assert_eq!([&tokens[0], &tokens[2], &tokens[3]], [&want[..6], &want[..3], &want[..4]]);
    assert_eq!((tokens[1].len(), tokens[4].len()), (0, 5));
    engine.forget_idle();
    assert_eq!(engine.held(), ([0, 0], 0), "nothing is left in the cache");
}
