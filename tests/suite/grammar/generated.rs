//! Answers of which every token is drawn among those that are let through, against another validator.

use std::time::Instant;

use pagelm::gguf::Gguf;
use pagelm::text::{EncodeOptions, Tokenizer};

use super::*;
use crate::common::fixtures;
use crate::common::rng::Rng;

/// Schemas like those that programs use.
fn of_programs() -> Vec<Value> {
    let string = json!({"type": "string"});
    vec![
        json!({"type": "object", "properties": {"location": string, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["location"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"name": string, "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"anyOf": [{"type": "string", "pattern": "^[a-z0-9.]+@[a-z0-9]+\\.[a-z]{2,4}$"}, {"type": "null"}]},
            "tags": {"type": "array", "items": string, "maxItems": 5}}, "required": ["name", "age", "email"]}),
        json!({"type": "object", "properties": {"title": {"type": "string", "maxLength": 80}, "start": {"type": "string", "format": "date-time"},
            "days": {"type": "array", "items": {"enum": ["mon", "tue", "wed"]}, "minItems": 1, "maxItems": 3}, "all_day": {"type": "boolean"}},
            "required": ["title", "start", "days"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"type": {"const": "Point"}, "coordinates": {"type": "array",
            "prefixItems": [{"type": "number", "minimum": -180, "maximum": 180}, {"type": "number", "minimum": -90, "maximum": 90}],
            "items": false, "minItems": 2}}, "required": ["type", "coordinates"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"invoice": {"type": "string", "pattern": "^INV-\\d{6}$"}, "lines": {"type": "array", "minItems": 1,
            "maxItems": 4, "items": {"type": "object", "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}\\d{4}$"},
            "quantity": {"type": "integer", "minimum": 1}, "price": {"type": "number", "minimum": 0, "multipleOf": 0.01}},
            "required": ["sku", "quantity", "price"], "additionalProperties": false}}, "currency": {"enum": ["EUR", "USD", "JPY"]}},
            "required": ["invoice", "lines", "currency"], "additionalProperties": false}),
        json!({"$defs": {"step": {"type": "object", "properties": {"explanation": string, "output": string},
            "required": ["explanation", "output"], "additionalProperties": false}}, "type": "object",
            "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "maxItems": 3}, "final_answer": string},
            "required": ["steps", "final_answer"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"sentiment": {"enum": ["positive", "negative", "neutral"]}, "score": {"type": "number",
            "minimum": 0, "maximum": 1}, "reasons": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 40}, "maxItems": 3}},
            "required": ["sentiment", "score"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"dependencies": {"type": "object", "additionalProperties": {"type": "string",
            "pattern": "^[~^]?\\d+\\.\\d+\\.\\d+$"}}, "name": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$", "maxLength": 20},
            "private": {"type": "boolean"}}, "required": ["name"]}),
        json!({"anyOf": [{"type": "object", "properties": {"tool": {"const": "search"}, "query": string}, "required": ["tool", "query"],
            "additionalProperties": false}, {"type": "object", "properties": {"tool": {"const": "answer"}, "text": string,
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100}}, "required": ["tool", "text"], "additionalProperties": false}]}),
        json!({"$ref": "#/$defs/ui", "$defs": {"ui": {"type": "object", "properties": {"type": {"enum": ["div", "button"]}, "label": string,
            "children": {"type": "array", "items": {"$ref": "#/$defs/ui"}, "maxItems": 2}}, "required": ["type", "label", "children"],
            "additionalProperties": false}}}),
    ]
}

fn one_of<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len())].clone()
}

/// A schema that something meets.
fn schema(rng: &mut Rng, depth: usize) -> Value {
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

/// The schemas of the tests.
fn schemas() -> Vec<Value> {
    let mut rng = Rng::named("schemas");
    let drawn = (0..190).map(|_| schema(&mut rng, 3));
    of_programs().into_iter().chain(drawn).collect()
}

/// Tokens that lead out of an answer, the farthest first.
fn ways_out(tokenizer: &Tokenizer) -> Vec<u32> {
    let one = |text| tokenizer.encode(text, EncodeOptions::default()).unwrap()[0];
    tokenizer.end_of_generation().iter().copied().chain(["\"", "}", "]", "@", "."].map(one)).collect()
}

/// An answer whose tokens are drawn. A long one takes the next way out. Adds the microseconds of each mask to `times`.
fn draw(rng: &mut Rng, m: &mut Matcher, tokenizer: &Tokenizer, out: &[u32], times: &mut Vec<u128>) -> String {
    let mut tokens = Vec::new();
    while !m.is_over() {
        assert!(
            tokens.len() < 5_000,
            "an answer goes on: {}",
            String::from_utf8_lossy(&tokenizer.decode(&tokens, false))
        );
        let began = Instant::now();
        let mask = m.mask().unwrap();
        times.push(began.elapsed().as_micros());
        let is_allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(is_allowed).collect();
        let out = out.iter().copied().find(|id| tokens.len() > 300 && rng.below(3) > 0 && is_allowed(id));
        let id = out.unwrap_or_else(|| one_of(rng, &allowed));
        m.accept(id).unwrap();
        tokens.push(id);
    }
    String::from_utf8(tokenizer.decode(&tokens, false)).expect("UTF-8")
}

/// The middle one, and that which one of twenty exceeds.
fn middle_and_most(times: &mut [u128]) -> [u128; 2] {
    times.sort_unstable();
    [times.len() / 2, times.len() * 19 / 20].map(|i| times[i])
}

/// Draws answers to each schema and checks them by another validator.
fn answer_all(tokenizer: &Tokenizer, schemas: &[Value], answers: usize) {
    let (mut v, mut rng) = (Vocabulary::new(tokenizer).unwrap(), Rng::named("answers"));
    let (mut compiled, mut masks) = (Vec::new(), Vec::new());
    let (out, mut huge) = (ways_out(tokenizer), 0);
    for schema in schemas {
        let began = Instant::now();
        let grammar =
            v.grammar(&GrammarSource::JsonSchema(schema.to_string())).unwrap_or_else(|e| panic!("{schema}: {e}"));
        compiled.push(began.elapsed().as_micros());
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        for _ in 0..answers {
            let text = draw(&mut rng, &mut grammar.matcher(), tokenizer, &out, &mut masks);
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                // JSON that no f64 holds: where a schema sets no bound, none is set.
                Err(e) if e.to_string().starts_with("number out of range") => {
                    huge += 1;
                    continue;
                }
                Err(e) => panic!("{schema}: {e}: {text}"),
            };
            let found: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(found.is_empty(), "{schema}: {text}: {found:?}");
        }
    }
    assert!(huge * 20 < answers * schemas.len(), "{huge} answers have numbers that no f64 holds");
    let n = masks.len();
    println!("microseconds, middle and most: compiling {:?}", middle_and_most(&mut compiled));
    println!("microseconds, middle and most of {n}: a mask {:?}", middle_and_most(&mut masks));
}

#[test]
fn a_thousand_drawn_answers_are_what_their_schemas_allow() {
    answer_all(&byte_vocabulary::with(&[]), &schemas(), 5);
}

#[test]
fn answers_in_words_of_a_model_are_what_their_schemas_allow() {
    let Some(path) = fixtures::model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let file = std::fs::read(path).unwrap();
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    assert_eq!(tokenizer.vocab_size(), 49_152);
    answer_all(&tokenizer, &schemas()[..50], 2);
}
