//! How much must come next. llguidance follows what has no choice to its end, however far that is: rules that lead into each
//! other say gigabytes in a line. So this looks first.

use std::sync::Mutex;

use llguidance::TokenParser;
use llguidance::earley::{BiasComputer, Parser, ParserRecognizer};
use llguidance::toktrie::{Recognizer, SimpleVob, TokEnv, TokTrie};

/// The most bytes that may have to come next.
const MOST: usize = 1 << 16;

/// Bytes that are looked at together.
const CHUNK: usize = 1 << 10;

/// The most items of the parser for it: then it has an error that says so.
pub(super) const MOST_ITEMS: usize = 50_000;

/// The bytes that can come next without a choice, up to some number. It does not see where an answer could end.
struct Ahead<'t> {
    tokens: &'t TokEnv,
    bytes: Mutex<Vec<u8>>,
}

impl BiasComputer for Ahead<'_> {
    fn compute_bias(&self, at: &mut ParserRecognizer<'_>, _: &[u8]) -> SimpleVob {
        at.trie_started("forced");
        let mut bytes = self.bytes.lock().unwrap_or_else(|e| e.into_inner());
        while bytes.len() < CHUNK {
            let next = match only_byte(at) {
                Some(TokTrie::SPECIAL_TOKEN_MARKER) => only_token(at, self.trie()),
                byte => byte.map(|byte| vec![byte]),
            };
            let Some(next) = next.filter(|next| next.iter().all(|byte| at.try_push_byte(*byte))) else { break };
            bytes.extend(next);
        }
        at.trie_finished();
        self.trie().alloc_token_set()
    }

    fn trie(&self) -> &TokTrie {
        self.tokens.tok_trie()
    }
}

/// The byte that must come next.
fn only_byte(at: &mut ParserRecognizer<'_>) -> Option<u8> {
    let state = at.lexer_state();
    let next = at.lexer_mut().next_byte(state);
    let first = next.some_bytes().first().copied().unwrap_or(b' ');
    if next == llguidance::derivre::NextByte::ForcedByte(first) {
        return Some(first);
    }
    let mut fits = |byte: u8| {
        let fits = at.try_push_byte(byte);
        at.pop_bytes(usize::from(fits));
        fits
    };
    let mut fitting = (0..=u8::MAX).map(|i| first.wrapping_add(i)).filter(|byte| fits(*byte));
    let byte = fitting.next()?;
    fitting.next().is_none().then_some(byte)
}

/// The control token that must come next, as the parser spells it.
fn only_token(at: &mut ParserRecognizer<'_>, trie: &TokTrie) -> Option<Vec<u8>> {
    let lexer = at.lexer();
    let specs = lexer.lexer_spec().token_range_lexemes(lexer.possible_lexemes(at.lexer_state()));
    let mut ids = (0..trie.vocab_size() as u32).filter(|id| specs.iter().any(|spec| spec.contains_token(*id)));
    let id = ids.next()?;
    let spelled = [&[TokTrie::SPECIAL_TOKEN_MARKER], format!("[{id}]").as_bytes()].concat();
    ids.next().is_none().then_some(spelled)
}

/// Refuses to go on where too much must come next. This also gives the lexer its caps, before anything is followed.
pub(super) fn check(parser: &mut TokenParser) -> anyhow::Result<()> {
    let (parser, tokens) = (&mut parser.parser, &parser.token_env);
    let is_forced = tokens.tokenize_is_canonical() && !parser.grammar().lexer_spec().no_forcing;
    // What is left of the last look was followed to its end.
    if !is_forced || !parser.currently_forced_bytes().is_empty() {
        return Ok(());
    }
    let ahead = |parser: &mut Parser| {
        let ahead = Ahead { tokens, bytes: Mutex::new(Vec::new()) };
        // A mask that starts with something is not kept.
        parser.compute_bias(&ahead, &[0]);
        ahead.bytes.into_inner().unwrap_or_else(|e| e.into_inner())
    };
    let mut chunk = ahead(parser);
    if chunk.len() < CHUNK {
        return Ok(());
    }
    let mut follower = parser.clone();
    let (mut count, items) = (0, parser.stats().all_items);
    while chunk.len() >= CHUNK {
        // To look ahead, to follow and to ask for an end takes some times the items.
        let is_fine = count < MOST && follower.stats().all_items - items < 4 * MOST_ITEMS;
        anyhow::ensure!(is_fine, "more than {count} bytes of text must come next, without any choice");
        for byte in &chunk {
            if follower.is_accepting() || follower.apply_token(&[*byte], 0).is_err() {
                return Ok(());
            }
        }
        count += chunk.len();
        chunk = ahead(&mut follower);
    }
    Ok(())
}
