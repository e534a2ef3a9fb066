//! Going back to an earlier position in models whose states cannot: by a checkpoint, or by running the tokens again.

use pagelm::engine::{Options, Session};
use pollster::block_on;

use crate::common::backends;
use crate::common::golden;

const OPTIONS: Options = Options { n_ctx: Some(64), max_tokens: 8, max_outputs: 1, ..Options::DEFAULT };

/// Tokens that ran as one step may run again as several: other kernels on a GPU, whose curves are loose.
const TOL: f32 = 2e-3;

fn everywhere(check: impl Fn(&str, &[u32], &mut Session)) {
    for name in ["qwen35", "qwen35moe"] {
        let (numbers, file) = golden::load(name);
        for c in backends::all() {
            let mut session = golden::open(&file, (c.make)(), OPTIONS).unwrap();
            check(&format!("{name} on {}", c.name), &numbers.prompts[1].ids, &mut session);
        }
    }
}

fn steps(s: &Session) -> u64 {
    s.backend().counters().steps
}

#[test]
fn a_checkpoint_is_gone_back_to_without_running_a_token_again() {
    everywhere(|what, ids, s| {
        block_on(s.prefill(&ids[..13])).unwrap();
        s.checkpoint().unwrap();
        let want = block_on(s.prefill(&ids[13..18])).unwrap().to_vec();
        block_on(s.decode(ids[18])).unwrap();
        s.rollback(13).unwrap();
        let before = steps(s);
        assert_eq!(block_on(s.prefill(&ids[13..18])).unwrap(), want, "{what}");
        assert_eq!(steps(s) - before, 1, "{what}");
    });
}

#[test]
fn between_checkpoint_and_end_only_what_lies_between_runs_again() {
    everywhere(|what, ids, s| {
        block_on(s.prefill(&ids[..10])).unwrap();
        s.checkpoint().unwrap();
        block_on(s.prefill(&ids[10..14])).unwrap();
        let want = block_on(s.decode(ids[14])).unwrap().to_vec();
        s.rollback(14).unwrap();
        let before = steps(s);
        let again = block_on(s.decode(ids[14])).unwrap();
        // The four tokens may run as one step where they ran as others before.
        let off = golden::max_diff(again, &want);
        assert!(off <= TOL, "{what}: off by {off:e}");
        assert_eq!(steps(s) - before, 2, "{what}");
    });
}

#[test]
fn before_the_checkpoint_and_without_one_all_tokens_run_again() {
    everywhere(|what, ids, s| {
        let want = block_on(s.prefill(&ids[..6])).unwrap().to_vec();
        block_on(s.prefill(&ids[6..12])).unwrap();
        s.rollback(5).unwrap();
        let off = golden::max_diff(block_on(s.decode(ids[5])).unwrap(), &want);
        assert!(off <= TOL, "{what}: off by {off:e}");
        block_on(s.prefill(&ids[6..12])).unwrap();
        s.checkpoint().unwrap();
        s.rollback(5).unwrap();
        let off = golden::max_diff(block_on(s.decode(ids[5])).unwrap(), &want);
        assert!(off <= TOL, "{what}: off by {off:e}");
        // The checkpoint was of tokens that are gone.
        block_on(s.prefill(&ids[..8])).unwrap();
        let want = block_on(s.decode(ids[6])).unwrap().to_vec();
        s.rollback(14).unwrap();
        let off = golden::max_diff(block_on(s.decode(ids[6])).unwrap(), &want);
        assert!(off <= TOL, "{what}: off by {off:e}");
    });
}
