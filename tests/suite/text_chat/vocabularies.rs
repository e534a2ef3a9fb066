//! Prompts over the vocabularies of real models.

use super::*;

/// A vocabulary that published templates are tried with, and its markers by name.
struct Vocabulary {
    name: String,
    tokenizer: Tokenizer,
    markers: BTreeMap<String, u32>,
}

fn vocabularies() -> Vec<Vocabulary> {
    let built = [("all signs", all_signs()), ("chatml", chatml())];
    let mut out: Vec<Vocabulary> = built
        .into_iter()
        .map(|(name, tokenizer)| {
            let markers = markers(&tokenizer, |id| id > 255);
            Vocabulary { name: name.into(), tokenizer, markers }
        })
        .collect();
    let files = ["default", "gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm", "spm", "spm-prefix"]
        .map(|name| fixtures::fixture(&format!("reference/vocab-{name}.gguf")));
    let models =
        ["SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "gemma-3-270m-q4_k_m.gguf"]
            .map(fixtures::model);
    for path in files.into_iter().chain(models.into_iter().flatten()) {
        let meta = header(&path);
        let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
        let kinds: Vec<i64> = match meta.opt_array("tokenizer.ggml.token_type").unwrap() {
            Some(Array::Int(kinds)) => kinds.clone(),
            other => panic!("{other:?}"),
        };
        let markers = markers(&tokenizer, |id| matches!(kinds[id as usize], 2..=4));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        out.push(Vocabulary { name, tokenizer, markers });
    }
    out
}

/// Names of special tokens that have a sign in them.
fn markers(tokenizer: &Tokenizer, special: impl Fn(u32) -> bool) -> BTreeMap<String, u32> {
    let sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace() && c != '\u{2581}';
    (0..tokenizer.vocab_size() as u32)
        .filter(|&id| special(id))
        .filter_map(|id| Some((std::str::from_utf8(tokenizer.piece(id, true)?).ok()?.to_owned(), id)))
        .filter(|(name, _)| name.contains(sign))
        .collect()
}

#[test]
fn prompts_without_names_of_markers_keep_their_ids() {
    let data = fixtures::json("reference/templates.json");
    let mut same = 0;
    for Vocabulary { name: vocabulary, tokenizer, markers } in vocabularies() {
        for (name, template) in data["templates"].as_object().unwrap() {
            let compiled = ChatTemplate::new(template["template"].as_str().unwrap()).unwrap();
            for (conversation, case) in template["cases"].as_object().unwrap() {
                let chat = &data["conversations"][conversation];
                let messages = value(&chat["messages"]);
                let token = |id: Option<u32>| {
                    let piece = id.and_then(|id| tokenizer.piece(id, true)).unwrap_or_default();
                    String::from_utf8(piece.to_vec()).unwrap()
                };
                let (bos_token, eos_token) = (token(tokenizer.bos()), token(tokenizer.eos()));
                let plain =
                    compiled.render(&messages, &RenderOptions { bos_token, eos_token, ..options(chat, &Json::Null) });
                let got = chat_prompt(&compiled, &tokenizer, &messages, options(chat, &Json::Null));
                let place = format!("{vocabulary}, {name}, {conversation}");
                let text = match plain {
                    Ok(text) => text,
                    Err(e) => {
                        assert_eq!(got, Err(e), "{place}");
                        continue;
                    }
                };
                let text_of_chat = chat_text(&compiled, &tokenizer, &messages, options(chat, &Json::Null));
                assert_eq!(text_of_chat.as_ref(), Ok(&text), "{place}");
                let given = chat.to_string();
                if markers.keys().any(|marker| given.contains(marker.as_str())) || vocabulary == "all signs" {
                    continue;
                }
                let mut want = tokenizer.encode(&text, PARSE).unwrap();
                if tokenizer.adds_bos() && want.first() != tokenizer.bos().as_ref() {
                    want.insert(0, tokenizer.bos().unwrap());
                }
                assert_eq!(got.unwrap(), want, "{place}");
                same += usize::from(case["rendered"].is_string());
            }
        }
    }
    eprintln!("{same} prompts");
    assert!(same > 1000, "only {same} prompts were compared");
}

#[test]
fn no_content_brings_markers_into_a_prompt() {
    let data = fixtures::json("reference/templates.json");
    let mut rng = Rng::new(17);
    let mut tried = 0;
    for Vocabulary { name: vocabulary, tokenizer, markers } in vocabularies() {
        let names: Vec<&str> = markers.keys().map(String::as_str).collect();
        for (name, template) in data["templates"].as_object().unwrap() {
            let source = template["template"].as_str().unwrap();
            let compiled = ChatTemplate::new(source).unwrap();
            // Where a template looks for a name in content, what it writes depends on it.
            let names: Vec<&str> = names.iter().copied().filter(|n| !source.contains(n)).collect();
            if names.is_empty() {
                continue;
            }
            for _ in 0..12 {
                let mut content = |hostile: bool| {
                    let mut text = String::new();
                    for _ in 0..1 + rng.below(4) {
                        let name = names[rng.below(names.len())];
                        let cut = (0..=name.len()).filter(|&i| name.is_char_boundary(i)).collect::<Vec<_>>();
                        let cut = cut[rng.below(cut.len())];
                        let piece = [name, &name[..cut], &name[cut..], " ", "a"][rng.below(5)];
                        text += piece;
                    }
                    if hostile { text } else { "harmless".into() }
                };
                let mut chat = |hostile: bool| {
                    json!([
                        { "role": "user", "content": format!("x{}", content(hostile)) },
                        { "role": "assistant", "content": format!("x{}", content(hostile)) },
                        { "role": "user", "content": format!("x{}", content(hostile)) },
                    ])
                };
                let count = |messages: &Json| {
                    let options = RenderOptions { add_generation_prompt: true, now: Some(NOW), ..Default::default() };
                    let ids = chat_prompt(&compiled, &tokenizer, &value(messages), options).unwrap();
                    ids.into_iter().filter(|id| markers.values().any(|m| m == id)).collect::<Vec<_>>()
                };
                let (hostile, harmless) = (chat(true), chat(false));
                assert_eq!(count(&hostile), count(&harmless), "{vocabulary}, {name}: {hostile}");
                tried += 1;
            }
        }
    }
    eprintln!("{tried} conversations");
    assert!(tried > 1000, "only {tried} conversations");
}

#[test]
fn there_is_one_start_of_text_and_no_end() {
    let special = |add: bool| {
        let more = vec![
            ("bos_token_id", Value::Uint(256)),
            ("eos_token_id", Value::Uint(257)),
            ("add_bos_token", Value::Bool(add)),
            ("add_eos_token", Value::Bool(true)),
        ];
        bytes_and(&["<s>", "</s>"], &[], more)
    };
    for (source, with, without) in [
        ("{{ bos_token }}a", "⟦<s>⟧a", "⟦<s>⟧a"),
        ("a", "⟦<s>⟧a", "a"),
        ("\n {{ bos_token }}a", "\n ⟦<s>⟧a", "\n ⟦<s>⟧a"),
        ("{{ bos_token }}{{ bos_token }}a", "⟦<s>⟧a", "⟦<s>⟧a"),
        ("{{ bos_token }}\n<s>a", "⟦<s>⟧\na", "⟦<s>⟧\na"),
        // Formats that start every turn with it.
        ("{{ bos_token }}a{{ bos_token }}b", "⟦<s>⟧a⟦<s>⟧b", "⟦<s>⟧a⟦<s>⟧b"),
        ("{{ messages[0].content }}", "⟦<s>⟧<s>", "<s>"),
        ("", "⟦<s>⟧", ""),
    ] {
        assert_eq!(shown(source, &special(true), &user("<s>")), with, "{source:?}");
        assert_eq!(shown(source, &special(false), &user("<s>")), without, "{source:?}");
    }
}

#[test]
fn messages_may_hold_private_characters() {
    let tokenizer = chatml();
    let content = "\u{F0000}<|im_end|>\u{F0001}\u{10FFFD}\u{100000}<";
    let want = format!("⟦<|im_start|>⟧user\n{content}⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\n");
    assert_eq!(shown(CHATML, &tokenizer, &user(content)), want);
    let all: String = (0xF_0000..=0x10_FFFD).filter_map(char::from_u32).collect();
    assert_eq!(prompt(CHATML, &tokenizer, &user(&all)).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
