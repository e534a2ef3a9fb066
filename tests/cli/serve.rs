//! `pagelm serve` as its clients meet it.

#[path = "serve/refused.rs"]
mod refused;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Folder, golden};

pub const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A server that ends with the test.
pub struct Server {
    child: Child,
    address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Server {
    pub fn start(model: &str, flags: &[&str]) -> Self {
        let common = ["serve", "--model", model, "--backend", "cpu", "--threads", "1", "--port", "0"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagelm"));
        command.args(common).args(flags).env_remove("PAGELM_API_KEY").env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the command starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut server = Self { child, address: String::new(), log };
        let line = server.logged("listening at http://");
        server.address = line.trim().rsplit('/').next().expect("the line ends with the address").to_string();
        server
    }

    /// The next line of the log that holds a text.
    fn logged(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the server ended before it logged `{text}`");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The status and the body of an answer.
    fn get(&self, path: &str) -> (u16, Value) {
        read(agent().get(self.url(path)).call().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        read(agent().post(self.url(path)).header("content-type", "application/json").send(body.to_string()).unwrap())
    }

    /// Starts a stream.
    fn stream(&self, path: &str, body: &Value) -> ureq::Body {
        let response = agent().post(self.url(path)).send(body.to_string()).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }

    /// What is written as it is, and what comes back until the connection closes.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    fn steps(&self) -> u64 {
        self.get("/health").1["steps"].as_u64().unwrap()
    }

    /// Waits until nothing runs any more.
    fn rests(&self) {
        let start = Instant::now();
        while self.get("/health").1["answers"] != 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "answers still run");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn read(response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}")))
}

/// The data of the events of a stream, checked for its framing, without `[DONE]`.
fn events(text: &str) -> Vec<Value> {
    let frames: Vec<&str> = text.split("\n\n").collect();
    let (end, frames) = frames.split_last().unwrap();
    let (done, frames) = frames.split_last().unwrap();
    assert_eq!((*end, *done), ("", "data: [DONE]"));
    let data = |frame: &&str| serde_json::from_str(frame.strip_prefix("data: ").expect("a line of data")).unwrap();
    frames.iter().map(data).collect()
}

fn text(events: &[Value]) -> String {
    events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect()
}

fn prompt(text: &str, max_tokens: u32) -> Value {
    json!({ "prompt": text, "max_tokens": max_tokens, "ignore_eos": true, "temperature": 0 })
}

/// A copy of a fixture with a chat template.
pub fn with_template(name: &str, template: &str) -> (Folder, String) {
    let mut file = std::fs::read(golden(name)).unwrap();
    let key = b"tokenizer.chat_template";
    // Bytes in front of the tensors stay a multiple of 32.
    let mut template = template.to_string();
    while !(8 + key.len() + 4 + 8 + template.len()).is_multiple_of(32) {
        template.push(' ');
    }
    let text = (template.len() as u64).to_le_bytes();
    let entry =
        [&(key.len() as u64).to_le_bytes()[..], key, &8u32.to_le_bytes(), &text[..], template.as_bytes()].concat();
    file[16] += 1;
    file.splice(24..24, entry);
    let folder = Folder::new(&format!("serve-{}", name.trim_end_matches(".gguf")));
    folder.write(name, file);
    let path = format!("{}/{name}", folder.path());
    (folder, path)
}

#[test]
fn streams_run_side_by_side_and_say_what_they_say_alone() {
    let server = Server::start(&golden("qwen2.gguf"), &["--sequences", "4", "--ctx", "256", "--cache-tokens", "2048"]);
    let prompts = ["One", "Two and", "Three or more", "Four"];
    let before = server.steps();
    let alone: Vec<String> = prompts
        .iter()
        .map(|p| {
            let (status, body) = server.post(COMPLETIONS, &prompt(p, 120));
            assert_eq!((status, &body["usage"]["completion_tokens"]), (200, &120.into()));
            body["choices"][0]["text"].as_str().unwrap().to_string()
        })
        .collect();
    let one_by_one = server.steps() - before;
    let before = server.steps();
    let at_once: Vec<String> = std::thread::scope(|scope| {
        let run = |p: &&str| {
            let body = json!({ "stream": true, "stream_options": { "include_usage": true } });
            let mut request = prompt(p, 120);
            request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            let events = events(&server.stream(COMPLETIONS, &request).read_to_string().unwrap());
            assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 120);
            text(&events)
        };
        let threads: Vec<_> = prompts.iter().map(|p| scope.spawn(move || run(p))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(at_once, alone);
    let together = server.steps() - before;
    assert!(one_by_one >= 4 * 119, "{one_by_one} steps");
    // They do not start in the same moment.
    assert!(together < one_by_one * 3 / 4, "{together} steps at once, {one_by_one} one by one");
}

#[test]
fn an_answer_of_a_client_that_leaves_is_ended_and_the_others_go_on() {
    // Answers that cannot end before the client looks.
    let server = Server::start(&golden("qwen2.gguf"), &["--ctx", "200000", "--sequences", "2", "--memory", "4000"]);
    let mut long = prompt("One", 190_000);
    long["stream"] = true.into();
    let mut leaves = server.stream(COMPLETIONS, &long);
    let mut some = [0; 64];
    leaves.as_reader().read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"data: {"));
    assert_eq!(server.get("/health").1["answers"], 1);
    // One beside it is served.
    assert_eq!(server.post(COMPLETIONS, &prompt("Two", 20)).0, 200);
    assert_eq!(server.get("/health").1["answers"], 1);
    drop(leaves);
    server.rests();
    // So is one that waits for a whole answer.
    let request = long.as_object_mut().unwrap();
    request.remove("stream");
    let body = long.to_string();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    while server.get("/health").1["answers"] != 1 {}
    drop(stream);
    server.rests();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let server = Server::start(&golden("qwen2.gguf"), &["--ctx", "200000", "--sequences", "2", "--memory", "4000"]);
    let mut long = prompt("One", 190_000);
    // Long events fill the buffers of the system sooner.
    long["logprobs"] = 20.into();
    long["stream"] = true.into();
    let stalls = server.stream(COMPLETIONS, &long);
    // It stops on its own, because nobody takes its events.
    let start = Instant::now();
    loop {
        let before = server.steps();
        std::thread::sleep(Duration::from_millis(300));
        if server.steps() == before && before > 0 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "the server goes on for a client that does not read");
    }
    assert_eq!(server.get("/health").1["answers"], 1);
    let (status, body) = server.post(COMPLETIONS, &prompt("Two", 30));
    assert_eq!((status, &body["usage"]["completion_tokens"]), (200, &30.into()));
    drop(stalls);
    server.rests();
}

#[test]
fn a_stream_with_nothing_to_send_says_that_it_is_alive() {
    let flags = ["--ctx", "200000", "--sequences", "1", "--memory", "4000", "--ping", "1"];
    let server = Server::start(&golden("qwen2.gguf"), &flags);
    let mut long = prompt("One", 190_000);
    long["stream"] = true.into();
    let mut runs = server.stream(COMPLETIONS, &long);
    let mut some = [0; 64];
    runs.as_reader().read_exact(&mut some).unwrap();
    // One that waits for its turn.
    let mut short = prompt("Two", 5);
    short["stream"] = true.into();
    let mut waits = server.stream(COMPLETIONS, &short);
    let mut pings = [0; 16];
    waits.as_reader().read_exact(&mut pings).unwrap();
    assert_eq!(pings, *b": ping\n\n: ping\n\n");
    drop(runs);
    let rest = waits.read_to_string().unwrap();
    let rest = rest.trim_start_matches(": ping\n\n");
    assert_eq!(events(rest).last().unwrap()["choices"][0]["finish_reason"], "length");
}

/// A model that thinks, and calls in tags.
const THINKS: &str = "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}<think>\n\
    {% if false %}</think><tool_call></tool_call>{% endif %}";

#[test]
fn calls_and_formats_are_enforced_after_as_much_reasoning_as_is_allowed() {
    let (_folder, path) = with_template("llama.gguf", THINKS);
    let server = Server::start(&path, &["--ctx", "600"]);
    let schema = json!({ "type": "object", "properties": { "city": { "enum": ["Rome", "Oslo"] } }, "required": ["city"],
        "additionalProperties": false });
    let tool =
        json!({ "type": "function", "function": { "name": "get_weather", "parameters": schema, "strict": true } });
    let base = json!({ "messages": [{ "role": "user", "content": "Hi" }], "reasoning_budget": 12, "max_tokens": 400,
        "reasoning_effort": "low" });
    let with = |more: Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for seed in 0..4 {
        let body =
            with(json!({ "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "seed": seed }));
        let (status, answer) = server.post(CHAT, &body);
        assert_eq!(status, 200, "{answer}");
        let message = &answer["choices"][0]["message"];
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &"get_weather".into()), "{answer}");
        let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        // The budget, what a character may need to end, and the marker.
        let counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        assert!((1..=24).contains(&counted), "{counted} tokens of reasoning");
        let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
        let (_, answer) = server.post(CHAT, &with(json!({ "response_format": format, "seed": seed })));
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert!(["Rome", "Oslo"].contains(&value["city"].as_str().unwrap()));
        let grammar = json!({ "grammar": "root ::= \"yes\" | \"no\"", "seed": seed });
        let (_, answer) = server.post(CHAT, &with(grammar));
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(["yes", "no"].contains(&content), "{answer}");
    }
    // What cannot be compiled is refused before anything runs, with its place.
    let unique = json!({ "type": "function", "function": { "name": "f", "strict": true,
        "parameters": { "type": "object", "properties": { "a": { "type": "array", "uniqueItems": true } } } } });
    let (status, answer) = server.post(CHAT, &with(json!({ "tools": [tool, unique] })));
    assert_eq!((status, &answer["error"]["code"]), (400, &"bad-grammar".into()));
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("tools[1].function.parameters: "), "{answer}");
}

#[test]
fn chats_responses_and_models_are_served_under_the_name_of_the_file() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let (_folder, model) = with_template("qwen2.gguf", template);
    let mut server = Server::start(&model, &[]);
    let (status, models) = server.get("/v1/models");
    assert_eq!((status, &models["data"][0]["id"]), (200, &"qwen2".into()));
    assert_eq!(server.get("/v1/models/qwen2").1, models["data"][0]);
    assert_eq!(server.get("/v1/models/%71wen2").0, 200);
    let chat =
        json!({ "model": "qwen2", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 4, "mood": 1 });
    let response = agent().post(server.url(CHAT)).send(chat.to_string()).unwrap();
    assert_eq!(response.headers()["x-unknown-parameters"], "mood");
    let (status, body) = read(response);
    assert_eq!((status, &body["object"]), (200, &"chat.completion".into()));
    assert!(server.logged(CHAT).contains("mood"));
    let (_, other) = server.post(CHAT, &chat);
    assert_ne!(other["id"], body["id"]);
    let (status, response) = server.post("/v1/responses", &json!({ "input": "Hi", "max_output_tokens": 4 }));
    assert_eq!((status, &response["object"]), (200, &"response".into()));
    let body = json!({ "input": "Hi", "max_output_tokens": 4, "stream": true });
    let events = server.stream("/v1/responses", &body).read_to_string().unwrap();
    assert!(events.starts_with("event: response.created\ndata: {") && events.ends_with("}\n\n"), "{events}");
    let line = server.logged("/v1/responses");
    assert!(line.contains("POST") && line.contains("200"), "{line}");
}

#[test]
fn embeddings_are_served_where_the_model_is_opened_for_them() {
    let server = Server::start(&golden("gemma-embedding.gguf"), &["--embeddings"]);
    let texts: Vec<String> = (0..20).map(|i| format!("text {i}")).collect();
    let (status, body) = server.post("/v1/embeddings", &json!({ "input": texts }));
    assert_eq!((status, body["data"].as_array().unwrap().len()), (200, 20));
    let (_, one) = server.post("/v1/embeddings", &json!({ "input": "text 17" }));
    let values =
        |v: &Value| -> Vec<f64> { v["embedding"].as_array().unwrap().iter().flat_map(Value::as_f64).collect() };
    assert_eq!(values(&one["data"][0]), values(&body["data"][17]));
    assert_eq!(server.post(COMPLETIONS, &prompt("a", 3)).0, 400);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_stop_finishes_what_runs() {
    let mut server = Server::start(&golden("qwen2.gguf"), &["--ctx", "2048"]);
    let mut body = prompt("One", 1500);
    body["stream"] = true.into();
    let mut runs = server.stream(COMPLETIONS, &body);
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    server.logged("stopping");
    assert!(TcpStream::connect(&server.address).is_err(), "nobody is let in any more");
    let events = events(&runs.read_to_string().unwrap());
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    drop(runs);
    assert!(server.child.wait().unwrap().success());
}
