//! Schemas that are drawn, and answers whose tokens are drawn among those that a grammar lets through.

use std::time::Instant;

use pagelm::grammar::Matcher;
use pagelm::text::{EncodeOptions, Tokenizer};
use serde_json::{Value, json};

use super::rng::Rng;

pub fn one_of<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len())].clone()
}

/// A schema that something meets.
pub fn schema(rng: &mut Rng, depth: usize) -> Value {
    let kinds = if depth == 0 { 8 } else { 13 };
    let (low, more) = (rng.below(200) as i64 - 100, rng.below(300) as i64 + 12);
    match rng.below(kinds) {
        0 => one_of(rng, &[json!({"type": "null"}), json!({"type": "boolean"}), json!({"const": {"a": [1, "b"]}})]),
        1 => json!({"type": "integer", "minimum": low, "maximum": low + more}),
        2 => json!({"type": "integer", "multipleOf": rng.below(9) + 2, "minimum": low, "exclusiveMaximum": low + more}),
        3 => json!({"type": "number", "minimum": low as f64 / 8.0, "maximum": (low + more) as f64 / 8.0}),
        4 => {
            let n = rng.below(6);
            json!({"type": "string", "minLength": n, "maxLength": n + rng.below(20)})
        }
        5 => {
            let patterns = [
                "^[a-z]+$",
                r"\S",
                r"^\d{3}-\d{4}$",
                "^[A-Z][a-z]{2,8}$",
                "^(foo|bar)",
                "^(a|b)*c$",
                "^-?[0-9]{2}$",
                "^[^\"\\\\]{1,5}$",
            ];
            json!({"type": "string", "pattern": one_of(rng, &patterns)})
        }
        6 => json!({"type": "string", "format": one_of(rng, &["uuid", "ipv4", "date", "time"])}),
        7 => json!({"enum": [rng.below(9), "a b", "é\"\\", null, [true], {"k": -1.5}]}),
        8 | 9 => {
            let n = rng.below(3);
            json!({"type": "array", "items": schema(rng, depth - 1), "minItems": n, "maxItems": n + rng.below(3)})
        }
        10 => json!({"anyOf": [schema(rng, depth - 1), schema(rng, depth - 1)]}),
        _ => {
            let names = ["id", "name", "value", "über", "a\"b", "list", "x-y"];
            let n = 1 + rng.below(names.len());
            let properties: serde_json::Map<_, _> =
                names[..n].iter().map(|name| ((*name).to_owned(), schema(rng, depth - 1))).collect();
            let required: Vec<_> = names[..n].iter().filter(|_| rng.below(2) == 0).collect();
            let rest = one_of(rng, &[json!(false), json!(true), json!({"type": "integer"})]);
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": rest})
        }
    }
}

/// Tokens that lead out of an answer.
pub fn ways_out(tokenizer: &Tokenizer) -> Vec<u32> {
    let one = |text| tokenizer.encode(text, EncodeOptions::default()).unwrap()[0];
    tokenizer.end_of_generation().iter().copied().chain(["\"", "}", "]", "@", "."].map(one)).collect()
}

/// An answer whose tokens are drawn. A long one takes ways out. Adds the microseconds of each mask to `times`.
pub fn draw(rng: &mut Rng, m: &mut Matcher, tokenizer: &Tokenizer, out: &[u32], times: &mut Vec<u128>) -> String {
    let mut tokens = Vec::new();
    while !m.is_over() {
        assert!(
            tokens.len() < 5_000,
            "an answer goes on: {}",
            String::from_utf8_lossy(&tokenizer.decode(&tokens, true))
        );
        let began = Instant::now();
        let mask = m.mask().unwrap();
        times.push(began.elapsed().as_micros());
        let is_allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(is_allowed).collect();
        let leaves = tokens.len() > 300 && rng.below(3) > 0;
        let ways: Vec<u32> = out.iter().copied().filter(|id| leaves && is_allowed(id)).collect();
        let end = ways.iter().copied().find(|id| tokenizer.is_end_of_generation(*id));
        let id = end.unwrap_or_else(|| one_of(rng, if ways.is_empty() { &allowed } else { &ways }));
        m.accept(id).unwrap();
        if !tokenizer.is_end_of_generation(id) {
            tokens.push(id);
        }
    }
    String::from_utf8(tokenizer.decode(&tokens, true)).expect("UTF-8")
}
