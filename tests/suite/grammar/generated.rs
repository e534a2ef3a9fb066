//! Answers of which every token is drawn among those that are let through, against another validator.

use std::time::Instant;

use pagelm::gguf::Gguf;
use pagelm::text::Tokenizer;

use super::*;
use crate::common::drawn::{draw, schema, ways_out};
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

/// The schemas of the tests.
fn schemas() -> Vec<Value> {
    let mut rng = Rng::named("schemas");
    let drawn = (0..190).map(|_| schema(&mut rng, 3));
    of_programs().into_iter().chain(drawn).collect()
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
