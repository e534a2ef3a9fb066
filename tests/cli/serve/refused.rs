//! Requests that are refused: their status, their bodies, keys and origins.

use super::*;

#[test]
fn what_is_wrong_has_a_status_and_the_shape_of_openai() {
    let server = Server::start(&golden("qwen2.gguf"), &["--name", "tiny", "--ctx", "64"]);
    let wrong = |(status, body): (u16, Value), want: u16| {
        assert_eq!(status, want, "{body}");
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        body["error"].clone()
    };
    wrong(server.get("/"), 404);
    wrong(server.post("/v1/nothing", &json!({})), 404);
    let error = wrong(server.post(COMPLETIONS, &json!({ "prompt": "a", "model": "gpt-9" })), 404);
    assert_eq!(error["code"], "model_not_found");
    let error = wrong(server.post(COMPLETIONS, &json!({ "prompt": [[1, "x"]] })), 400);
    assert_eq!(error["param"], "prompt[0][1]");
    let error = wrong(server.post(COMPLETIONS, &json!({ "prompt": "word ".repeat(200) })), 400);
    assert_eq!(error["code"], "context_length_exceeded");
    // Also where a stream was asked for: it has not started.
    let long = json!({ "prompt": "word ".repeat(200), "stream": true });
    wrong(server.post(COMPLETIONS, &long), 400);
    let error = wrong(server.post(COMPLETIONS, &json!({ "prompt": [9_999_999] })), 400);
    assert_eq!(error["code"], "token-out-of-range");
    wrong(server.post(CHAT, &json!({ "messages": [{ "role": "user", "content": "a" }] })), 400);
    wrong(server.post("/v1/embeddings", &json!({ "input": "a" })), 400);
    let response = agent().get(server.url(CHAT)).call().unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    wrong(read(response), 405);
    let head = |length: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{length}\r\nconnection: close\r\n\r\n");
    let large = server.raw(&head("content-length: 17000000"));
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    assert!(server.raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let cut = server.raw(&(head("content-length: 3") + "{\"m"));
    assert!(cut.starts_with("HTTP/1.1 400 "), "{cut}");
    // It still serves.
    assert_eq!(server.post(COMPLETIONS, &prompt("a", 3)).0, 200);
}

#[test]
fn a_body_in_chunks_is_measured_while_it_comes() {
    let server = Server::start(&golden("qwen2.gguf"), &[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    // The server stops reading at its limit; it need not take more than that.
    let sent = (0..17).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent >= 16, "{sent} MiB were taken");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 413 Payload Too Large\r\n");
}

#[test]
fn a_key_is_asked_for_and_pages_are_let_in_by_origin() {
    let flags = ["--api-key", "s3cret", "--cors", "https://a.example", "--cors", "http://localhost:5173"];
    let server = Server::start(&golden("qwen2.gguf"), &flags);
    let status = |headers: &[(&str, &str)]| {
        let mut request = agent().get(server.url("/v1/models"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.call().unwrap())
    };
    let (code, body) = status(&[]);
    assert_eq!((code, &body["error"]["code"]), (401, &"invalid_api_key".into()));
    for wrong in ["Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret1", "Bearer S3CRET", "Basic s3cret", "s3cret"] {
        assert_eq!(status(&[("authorization", wrong)]).0, 401, "{wrong}");
    }
    let key = ("authorization", "Bearer s3cret");
    assert_eq!(status(&[key]).0, 200);
    assert_eq!(status(&[("authorization", "bearer s3cret")]).0, 200);
    assert_eq!(status(&[key, ("origin", "https://a.example")]).0, 200);
    assert_eq!(status(&[key, ("origin", "https://b.example")]).1["error"]["code"], "origin_not_allowed");
    assert_eq!(status(&[key, ("origin", "null")]).0, 403);
    assert_eq!(server.get("/health").0, 200);
    let asks = |origin: &str| {
        server.raw(&format!(
            "OPTIONS {CHAT} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization, content-type\r\nconnection: close\r\n\r\n"
        ))
    };
    let yes = asks("http://localhost:5173");
    assert!(yes.starts_with("HTTP/1.1 204 "), "{yes}");
    for header in [
        "access-control-allow-origin: http://localhost:5173\r\n",
        "access-control-allow-headers: authorization, content-type\r\n",
        "access-control-allow-methods: GET, POST\r\n",
    ] {
        assert!(yes.contains(header), "{header} is not in {yes}");
    }
    let no = asks("https://b.example");
    assert!(no.starts_with("HTTP/1.1 403 ") && !no.contains("access-control"), "{no}");
}
