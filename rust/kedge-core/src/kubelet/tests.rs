// SPDX-License-Identifier: Apache-2.0
//! The kubelet server over a pipe in memory, with real log files and a small streaming server.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::logs::{Ended, LogReader, LogRequest};
use super::server::KubeletServer;
use crate::runtime::Runtime;

fn append(path: &Path, lines: &[&str]) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for line in lines {
        writeln!(file, "2026-01-01T00:00:01.000000000Z stdout F {line}").unwrap();
    }
}

fn request(path: PathBuf) -> LogRequest {
    LogRequest { path, ..LogRequest::default() }
}

async fn whole(request: LogRequest) -> String {
    let ended = Arc::new(Ended::default());
    ended.tell();
    let mut reader = LogReader::open(request, ended).await.unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.next().await.unwrap() {
        all.extend_from_slice(&block);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_log_is_read_whole_or_its_last_lines_or_its_first_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    let many: Vec<String> = (0..5000).map(|at| format!("line {at}")).collect();
    append(&path, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let all = whole(request(path.clone())).await;
    assert_eq!(all.lines().count(), 5000);
    assert!(all.ends_with("line 4999\n"));
    for (tail, count) in [(0, 0), (1, 1), (3000, 3000), (9000, 5000)] {
        let found = whole(LogRequest { tail: Some(tail), ..request(path.clone()) }).await;
        assert_eq!(found.lines().count(), count, "{tail}");
        assert!(all.ends_with(&found));
    }
    let found = whole(LogRequest { limit_bytes: Some(10), ..request(path) }).await;
    assert_eq!(found, "line 0\nlin");
}

#[tokio::test]
async fn following_sees_what_is_written_across_rotations_until_the_container_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    append(&path, &["one"]);
    let ended = Arc::new(Ended::default());
    let wanted = LogRequest { follow: true, is_running: true, ..request(path.clone()) };
    let mut reader = LogReader::open(wanted, Arc::clone(&ended)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "one\n");
    let writer = async {
        tokio::task::yield_now().await;
        append(&path, &["two"]);
    };
    let (next, ()) = tokio::join!(reader.next(), writer);
    assert_eq!(next.unwrap().unwrap(), "two\n");
    let rotated = directory.path().join("0.log.old");
    std::fs::rename(&path, &rotated).unwrap();
    append(&rotated, &["three"]);
    append(&path, &["four"]);
    let mut found = String::new();
    while found.len() < 11 {
        found += std::str::from_utf8(&reader.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(found, "three\nfour\n");
    append(&path, &["last"]);
    ended.tell();
    assert_eq!(reader.next().await.unwrap().unwrap(), "last\n");
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_follower_that_waits_is_told_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    append(&path, &[]);
    let ended = Arc::new(Ended::default());
    let wanted = LogRequest { follow: true, is_running: true, ..request(path) };
    let mut reader = LogReader::open(wanted, Arc::clone(&ended)).await.unwrap();
    let (next, ()) = tokio::join!(reader.next(), async {
        tokio::task::yield_now().await;
        ended.tell();
    });
    assert!(next.unwrap().is_none());
}

struct World {
    runtime: Runtime,
    server: KubeletServer,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new(2).unwrap();
        let server = KubeletServer::new(&runtime).unwrap();
        Self { runtime, server }
    }

    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(4096);
        self.server.serve_on(theirs);
        ours
    }

    fn ask(&self, request: &str, decide: impl FnOnce(u64, &super::Asked)) -> String {
        let mut client = self.connect();
        let sent = self.runtime.block_on(client.write_all(request.as_bytes()));
        sent.unwrap().unwrap();
        let (id, asked) = self.next();
        decide(id, &asked);
        let mut answer = Vec::new();
        self.runtime.block_on(client.read_to_end(&mut answer)).unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn next(&self) -> (u64, super::Asked) {
        for _ in 0..1000 {
            if let Some(found) = self.server.drain(1).pop() {
                return found;
            }
            #[allow(clippy::disallowed_methods, reason = "the test thread waits for others")]
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody asked");
    }
}

#[test]
fn python_answers_what_it_is_asked() {
    let world = World::new();
    let answer = world.ask(
        "POST /run/a%20b?x=1 HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        |id, asked| {
            assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/run/a%20b"));
            assert_eq!((asked.query.as_str(), asked.body.as_ref()), ("x=1", &b"hi"[..]));
            assert!(!asked.is_upgrade);
            world.server.answer(id, 404, "text/plain".into(), "no such thing".into());
        },
    );
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with("no such thing"), "{answer}");
}

#[test]
fn a_body_over_its_limit_is_refused_without_asking() {
    let world = World::new();
    let mut client = world.connect();
    let head = "POST /x HTTP/1.1\r\nconnection: close\r\ncontent-length: 70000\r\n\r\n";
    let answer = world.runtime.block_on(async {
        client.write_all(head.as_bytes()).await.unwrap();
        // The rest is not taken.
        let _ = client.write_all(&vec![b'x'; 70_000]).await;
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(answer.unwrap(), b"HTTP/1.1 413");
    assert!(world.server.drain(1).is_empty());
}

#[test]
fn a_followed_log_ends_with_its_container() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    append(&path, &["one"]);
    let answer = world.ask("GET /x HTTP/1.1\r\nconnection: close\r\n\r\n", |id, _| {
        let wanted = LogRequest {
            follow: true,
            is_running: true,
            container: "c1".into(),
            ..request(path.clone())
        };
        world.server.answer_log(id, wanted);
        world.server.log_ended("c2");
        world.server.log_ended("c1");
    });
    assert!(answer.contains("one\n"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn a_log_that_is_not_there_is_not_found() {
    let world = World::new();
    let answer = world.ask("GET /x HTTP/1.1\r\nconnection: close\r\n\r\n", |id, _| {
        world.server.answer_log(id, request("/nonexistent/0.log".into()));
    });
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn an_upgrade_is_passed_on_to_the_runtime_and_back() {
    let world = World::new();
    let listener = world.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = world.runtime.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: SPDY/3.1\r\nconnection: Upgrade\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(b"world").await.unwrap();
        (String::from_utf8(head).unwrap(), said)
    });
    let answer = {
        let mut client = world.connect();
        let request =
            "POST /exec/x HTTP/1.1\r\nhost: n\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
        world.runtime.block_on(client.write_all(request.as_bytes())).unwrap().unwrap();
        let (id, asked) = world.next();
        assert!(asked.is_upgrade);
        world.server.answer_stream(id, format!("http://{address}/exec/token"));
        world.runtime.block_on(async {
            client.write_all(b"hello").await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        })
    };
    let (head, said) = world.runtime.block_on(upstream).unwrap().unwrap();
    assert!(head.starts_with("POST /exec/token HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: spdy/3.1"), "{head}");
    assert_eq!(&said, b"hello");
    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_lowercase().contains("x-stream-protocol-version: v4.channel.k8s.io"));
    assert!(answer.ends_with("world"), "{answer}");
}

#[test]
fn a_stream_that_is_not_on_plain_http_is_refused_without_its_token() {
    let world = World::new();
    let request =
        "POST /x HTTP/1.1\r\nhost: n\r\nconnection: Upgrade, close\r\nupgrade: SPDY/3.1\r\n\r\n";
    let mut client = world.connect();
    world.runtime.block_on(client.write_all(request.as_bytes())).unwrap().unwrap();
    let (id, _) = world.next();
    world.server.answer_stream(id, "https://127.0.0.1:1/exec/abcdefghijklmnop".into());
    let mut answer = vec![0; 300];
    let count = world.runtime.block_on(client.read(&mut answer)).unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(!answer.contains("klmnop"), "{answer}");
}
