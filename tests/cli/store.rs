//! Models that are downloaded: from a server that misbehaves on purpose, with every byte paid for once.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// What the server does with the next request for a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Sends so many bytes and closes the connection.
    Cut(usize),
    /// Answers with this status, and says to come back at once.
    Status(u16),
    /// Sends the whole file whatever range was asked for.
    Whole,
    /// Sends a page instead of the file.
    Page,
    /// Sends it slowly.
    Slow,
}

/// A server of files by path.
struct Server {
    address: String,
    files: Mutex<Vec<(String, Vec<u8>, String)>>,
    faults: Mutex<Vec<Fault>>,
    /// Bytes of files that were sent.
    sent: AtomicU64,
    requests: AtomicUsize,
    tokens: Mutex<Vec<String>>,
}

impl Server {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            files: Mutex::default(),
            faults: Mutex::default(),
            sent: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            tokens: Mutex::default(),
        });
        let this = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.answer(stream));
            }
        });
        server
    }

    fn put(&self, path: &str, bytes: &[u8], etag: &str) {
        let mut files = self.files.lock().unwrap();
        files.retain(|f| f.0 != path);
        files.push((path.to_string(), bytes.to_vec(), etag.to_string()));
    }

    /// The faults of the next requests, the first one first.
    fn faults(&self, list: &[Fault]) {
        *self.faults.lock().unwrap() = list.iter().rev().copied().collect();
    }

    fn sent(&self) -> u64 {
        self.sent.swap(0, SeqCst)
    }

    /// A connection that the client closes is no fault of the test.
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let path = lines.next()?.ok()?.split(' ').nth(1)?.to_string();
        let (mut start, mut same) = (None, None);
        for line in lines.map_while(|l| l.ok().filter(|l| !l.is_empty())) {
            let (name, value) = line.split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "range" => start = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok(),
                "if-range" => same = Some(value.to_string()),
                "authorization" => self.tokens.lock().unwrap().push(value.to_string()),
                _ => {}
            }
        }
        self.requests.fetch_add(1, SeqCst);
        let mut stream = stream;
        let found = self.files.lock().unwrap().iter().find(|f| f.0 == path.split('?').next().unwrap()).cloned();
        let Some((_, bytes, etag)) = found else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
        };
        let fault = self.faults.lock().unwrap().pop();
        match fault {
            Some(Fault::Status(status)) => {
                let answer = format!(
                    "HTTP/1.1 {status} Later\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                return stream.write_all(answer.as_bytes()).ok();
            }
            Some(Fault::Page) => {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>";
                return stream.write_all(answer.as_bytes()).ok();
            }
            _ => {}
        }
        let start = start.filter(|_| fault != Some(Fault::Whole) && same.is_none_or(|same| same == etag));
        let body = &bytes[start.unwrap_or(0).min(bytes.len())..];
        let status = start.map_or("200 OK\r\n".to_string(), |from| {
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len())
        });
        let head =
            format!("HTTP/1.1 {status}ETag: {etag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        let most = if let Some(Fault::Cut(n)) = fault { n.min(body.len()) } else { body.len() };
        for piece in body[..most].chunks(32 << 10) {
            stream.write_all(piece).ok()?;
            self.sent.fetch_add(piece.len() as u64, SeqCst);
            if fault == Some(Fault::Slow) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(())
    }
}

/// A cache folder of a test's own.
struct Cache(Folder);

impl Cache {
    fn command(&self, server: &Server, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagelm"));
        command.args(args).arg("--json").env("XDG_CACHE_HOME", self.0.path()).env("HF_ENDPOINT", &server.address);
        command.env_remove("HF_TOKEN").env_remove("http_proxy").env_remove("all_proxy").stdout(Stdio::piped());
        command
    }

    fn run(&self, server: &Server, args: &[&str], status: i32) -> Value {
        let out = self.command(server, args).output().expect("the command starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(status), "{args:?}: {said}");
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {said}"))
    }

    fn pull(&self, server: &Server, model: &str) -> Vec<u8> {
        let path = self.run(server, &["pull", model], 0)["path"].as_str().unwrap().to_string();
        std::fs::read(path).unwrap()
    }
}

/// Bytes that begin like a model, and never repeat.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    let noise = (0..len).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    });
    b"GGUF".iter().copied().chain(noise).take(len).collect()
}

const MIB: usize = 1 << 20;

#[test]
fn a_broken_download_goes_on_where_it_was_and_pays_for_no_byte_twice() {
    let (server, cache) = (Server::start(), Cache(Folder::new("pull-broken")));
    let file = bytes(5 * MIB + 12345);
    let url = format!("{}/m.gguf?token=1", server.address);
    server.put("/m.gguf", &file, "\"a\"");
    server.faults(&[
        Fault::Cut(1),
        Fault::Cut(2 * MIB + 7),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Cut(MIB - 1),
    ]);
    assert!(cache.pull(&server, &url) == file);
    // At each break what is left of a block is lost.
    let sent = server.sent();
    assert!(sent <= (file.len() + 2 * MIB) as u64, "{sent} bytes of {}", file.len());
    // It is there: nobody is asked, whatever the query.
    let asked = server.requests.load(SeqCst);
    assert!(cache.pull(&server, &format!("{}/m.gguf?token=2", server.address)) == file);
    assert_eq!(server.requests.load(SeqCst), asked);
}

#[test]
fn a_program_that_was_killed_leaves_what_it_has_and_a_torn_end_is_found() {
    let (server, cache) = (Server::start(), Cache(Folder::new("pull-killed")));
    let file = bytes(8 * MIB + 99);
    let url = format!("{}/m.gguf", server.address);
    server.put("/m.gguf", &file, "\"a\"");
    for damage in [0, 1, 2] {
        server.faults(&[Fault::Slow]);
        let mut child: Child = cache.command(&server, &["pull", &url]).spawn().unwrap();
        while server.sent.load(SeqCst) < 4 * MIB as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Two at once do not write one file.
        if damage == 0 {
            let refused = cache.run(&server, &["pull", &url], 1);
            assert_eq!(refused["error"]["code"], "invalid-state");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Until the server has noticed.
        std::thread::sleep(Duration::from_millis(300));
        let listed = cache.run(&server, &["list"], 0);
        let part = &listed["models"][0];
        assert_eq!((&part["complete"], listed["models"].as_array().unwrap().len()), (&false.into(), 1));
        let path = PathBuf::from(part["path"].as_str().unwrap());
        assert!(std::fs::metadata(&path).unwrap().len() >= 2 * MIB as u64, "blocks were kept");
        let log = path.with_file_name("m.gguf.part.log");
        match damage {
            1 => {
                // A block that does not have its digest.
                let mut torn = std::fs::read(&path).unwrap();
                torn[MIB + 5] ^= 1;
                std::fs::write(&path, torn).unwrap();
            }
            2 => {
                let text = std::fs::read_to_string(&log).unwrap();
                std::fs::write(&log, &text[..text.len() - 10]).unwrap();
            }
            _ => {}
        }
        // What has its digest: the program may have been killed between a block and that.
        let digests = std::fs::read_to_string(&log).unwrap().lines().skip(1).filter(|line| line.len() == 64).count();
        let good = if damage == 1 { MIB as u64 } else { (digests * MIB) as u64 };
        server.sent();
        assert!(cache.pull(&server, &url) == file, "damage {damage}");
        let sent = server.sent();
        assert!(sent <= file.len() as u64 - good, "damage {damage}: {sent} bytes were fetched, {good} were there");
        assert_eq!(cache.run(&server, &["rm", &url], 0)["freed"], file.len());
        assert_eq!(cache.run(&server, &["list"], 0)["models"].as_array().unwrap().len(), 0);
    }
    assert_eq!(cache.run(&server, &["rm", &url], 1)["error"]["code"], "invalid-argument");
}

#[test]
fn a_file_that_changes_or_is_none_or_has_another_sum_is_not_kept() {
    let (server, cache) = (Server::start(), Cache(Folder::new("pull-changed")));
    let (old, new) = (bytes(3 * MIB), bytes(4 * MIB + 5));
    let url = format!("{}/m.gguf", server.address);
    server.put("/m.gguf", &old, "\"old\"");
    server.faults(&[Fault::Cut(2 * MIB), Fault::Status(404)]);
    assert_eq!(cache.run(&server, &["pull", &url], 1)["error"]["code"], "http-status");
    server.put("/m.gguf", &new, "\"new\"");
    assert!(cache.pull(&server, &url) == new, "nothing of the old file is in it");
    cache.run(&server, &["rm", &url], 0);
    // A server that sends everything again.
    server.faults(&[Fault::Cut(2 * MIB), Fault::Whole]);
    assert!(cache.pull(&server, &url) == new);
    cache.run(&server, &["rm", &url], 0);
    server.faults(&[Fault::Page]);
    let error = &cache.run(&server, &["pull", &url], 1)["error"];
    assert!(error["code"] == "not-gguf" && error["message"].as_str().unwrap().contains("<!doctype"), "{error}");
    let sum = "0".repeat(64);
    let error = &cache.run(&server, &["pull", &url, "--sha256", &sum], 1)["error"];
    assert_eq!(error["code"], "bad-checksum");
    assert!(cache.run(&server, &["list"], 0)["models"].as_array().unwrap().is_empty());
    server.faults(&[Fault::Status(500); 9]);
    assert_eq!(cache.run(&server, &["pull", &url], 1)["error"]["code"], "http-status", "some time it is enough");
}

#[test]
fn a_model_of_a_hub_is_chosen_by_its_quantisation_and_runs_by_its_name() {
    let (server, cache) = (Server::start(), Cache(Folder::new("pull-hub")));
    let whole = std::fs::read(golden("qwen3.gguf")).unwrap();
    let parts = gguf_writer::in_parts(&whole, 2);
    let names = ["m-F16-00001-of-00002.gguf", "m-F16-00002-of-00002.gguf"];
    let mut list = vec![serde_json::json!({ "path": "mmproj-F16.gguf" }), serde_json::json!({ "path": "m-Q4_0.gguf" })];
    for (name, part) in names.iter().zip(&parts) {
        server.put(&format!("/a/b/resolve/main/{name}"), part, "\"x\"");
        list.push(serde_json::json!({ "path": name, "lfs": { "oid": sha256(part) } }));
    }
    server.put("/api/models/a/b/tree/main", serde_json::json!(list).to_string().as_bytes(), "\"l\"");
    let flags = ["--ids", "5,6,7", "--max-tokens", "5", "--ignore-eos", "--temperature", "0", "--backend", "cpu"];
    let want = json(&[&["run", "--model", &golden("qwen3.gguf")], &flags[..]].concat(), 0);
    let mut command = cache.command(&server, &[&["run", "--model", "hf:a/b:f16"], &flags[..]].concat());
    let out = command.env("HF_TOKEN", "secret").output().unwrap();
    let got: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    assert_eq!(got["tokens"], want["tokens"]);
    assert_eq!(server.tokens.lock().unwrap().first().map(String::as_str), Some("Bearer secret"));
    // By its quantisation too, and another one of the repository stays when it is removed.
    let asked = server.requests.load(SeqCst);
    cache.pull(&server, "hf:a/b:F16");
    assert_eq!(server.requests.load(SeqCst), asked, "all is there");
    server.put("/a/b/resolve/main/m-Q4_0.gguf", &bytes(1000), "\"q\"");
    cache.pull(&server, "hf:a/b:Q4_0");
    assert_eq!(cache.run(&server, &["rm", "m-F16-00001-of-00002.gguf"], 1)["error"]["code"], "invalid-argument");
    assert_eq!(cache.run(&server, &["rm", "hf:a/b:Q4_0"], 0)["freed"], 1000);
    // Of a model that is not there, a look reads no more than the header.
    let big = [std::fs::read(golden("llama.gguf")).unwrap(), bytes(30 * MIB)].concat();
    server.put("/big.gguf", &big, "\"b\"");
    server.sent();
    let looked =
        cache.run(&server, &["inspect", "--model", &format!("{}/big.gguf", server.address), "--backend", "cpu"], 0);
    assert_eq!((&looked["runs"]["ok"], &looked["bytes"]), (&true.into(), &big.len().into()));
    let sent = server.sent();
    assert!(sent < 8 * MIB as u64, "{sent} bytes for a header of a few kilobytes: what sockets hold");
    // By the name of a file all is there, and the hub need not be.
    let asked = server.requests.load(SeqCst);
    let again = cache.run(&server, &[&["run", "--model", "hf:a/b/m-F16-00002-of-00002.gguf"], &flags[..]].concat(), 0);
    assert_eq!((&again["tokens"], server.requests.load(SeqCst)), (&want["tokens"], asked));
    let listed = cache.run(&server, &["list"], 0);
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
    let error = &cache.run(&server, &["pull", "hf:a/b:Q4_K_M"], 1)["error"];
    assert!(error["message"].as_str().unwrap().contains("Q4_0, F16"), "{error}");
    for wrong in ["hf:a", "http://h", "https://h/../x.gguf"] {
        assert_eq!(cache.run(&server, &["pull", wrong], 1)["error"]["code"], "invalid-argument", "{wrong}");
    }
    assert!(cache.run(&server, &["rm", "hf:a/b/m-F16-00001-of-00002.gguf"], 0)["freed"].as_u64().unwrap() > 400_000);
    assert!(cache.run(&server, &["list"], 0)["models"].as_array().unwrap().is_empty());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
