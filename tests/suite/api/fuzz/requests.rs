//! Requests of all routes, with parameters of all kinds.

use super::*;

/// The parameters that requests have, with values that are often right.
fn body(rng: &mut Rng) -> Json {
    let names = [
        "messages",
        "input",
        "prompt",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "text",
        "grammar",
        "grammar_type",
        "reasoning_effort",
        "reasoning",
        "reasoning_budget",
        "n",
        "max_tokens",
        "stop",
        "stream",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "temperature",
        "seed",
        "suffix",
        "echo",
        "chat_template_kwargs",
        "continue_final_message",
        "include",
        "dimensions",
        "model",
    ];
    let parameters = |rng: &mut Rng| {
        let shape =
            json!({ "type": "object", "properties": { "a": schema(rng, 1), "b": schema(rng, 1) }, "required": ["a"] });
        if rng.below(5) == 0 { value(rng, 2) } else { shape }
    };
    let mut all = serde_json::Map::new();
    for name in ["messages", "input", "prompt"]
        .into_iter()
        .chain((0..rng.below(6)).map(|_| pick(rng, &names)).collect::<Vec<_>>())
    {
        let right = match name {
            "messages" if rng.below(3) == 0 => {
                let urls = ["data:image/png;base64,AAAA", "data:;base64,A", "data:,", "data:", "https://x/é", ""];
                let image = json!({ "type": "image_url", "image_url": { "url": pick(rng, &urls), "detail": "low" } });
                json!([{ "role": "user", "content": [image, { "type": "text", "text": "Hi" }, value(rng, 1)] }])
            }
            "messages" => json!([{ "role": "user", "content": "Hi" }]),
            "input" | "prompt" => "Hi".into(),
            "tools" => {
                let function = json!({ "name": pick(rng, &["a", "b", "get weather", "é"]), "parameters": parameters(rng), "strict": rng.below(2) == 0 });
                let mut flat = function.clone();
                flat["type"] = "function".into();
                json!([{ "type": "function", "function": function }, flat])
            }
            "tool_choice" => [
                json!("required"),
                json!("auto"),
                json!("none"),
                json!({ "type": "function", "function": { "name": "a" } }),
            ][rng.below(4)]
            .clone(),
            "response_format" => {
                json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema(rng, 1) } })
            }
            "text" => json!({ "format": { "type": "json_schema", "name": "n", "schema": schema(rng, 1) } }),
            "grammar" => "root ::= \"a\" root | \"b\"".into(),
            "grammar_type" => pick(rng, &["gbnf", "regex", "json_schema"]).into(),
            "reasoning_effort" => pick(rng, &["none", "low", "high"]).into(),
            "reasoning" => json!({ "effort": "low" }),
            "parallel_tool_calls" | "stream" | "logprobs" | "echo" => (rng.below(2) == 0).into(),
            "n" | "max_tokens" | "reasoning_budget" | "seed" => rng.below(5).into(),
            _ => value(rng, 2),
        };
        let given = if rng.below(12) == 0 { value(rng, 2) } else { right };
        all.insert(name.to_owned(), given);
    }
    all.into()
}

pub(super) fn requests(n: usize) {
    let tokenizer =
        Arc::new(Tokenizer::from_gguf(&byte_vocabulary::meta(&["<think>"], &["<|im_start|>", "<tool_call>"])).unwrap());
    let meta = byte_vocabulary::meta(&["<think>"], &["<|im_start|>", "<tool_call>"]);
    let mut vocabulary = Vocabulary::new(&tokenizer).unwrap();
    rounds("requests", n, |rng| {
        let mut template = "{{ messages | tojson }}{% if tools %}{% endif %}".to_owned();
        (0..rng.below(6)).for_each(|_| template.push_str(pick(rng, &MARKERS)));
        let Ok(template) = ChatTemplate::new(&template) else { return false };
        let api = Api::new(&meta, tokenizer.clone(), Names::Any("m".into()), 0).unwrap().with_template(template);
        let api = if rng.below(2) == 0 { api.with_images() } else { api };
        let mut bytes = body(rng).to_string().into_bytes();
        if rng.below(10) == 0 {
            let at = rng.below(bytes.len());
            bytes[at] = rng.bytes(1)[0];
        }
        match api.request("POST", pick(rng, &ROUTES), &bytes, &given()) {
            Err(e) => {
                assert!((400..500).contains(&e.status) && !e.message.is_empty(), "{}: {}", e.status, e.message);
                false
            }
            Ok(Accepted { job: Job::Generate(generate), .. }) => {
                let source = generate.prompts.first().and_then(|prompt| prompt.params.grammar.clone());
                source.is_none_or(|source| follow(rng, &mut vocabulary, &source))
            }
            Ok(_) => true,
        }
    });
}
