//! The real HTTP client against a server on loopback that writes its answers by hand: compressed, in odd pieces, too large,
//! broken off.

use super::{client, what};
use crabbox_vast_engine::Error;
use crabbox_vast_engine::lease::{InstanceId, OfferId};
use crabbox_vast_engine::vast::client::Created;
use crabbox_vast_engine::vast::{Client, Kind};
use crabbox_vast_engine::world::real::ReqwestHttp;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;
/// What two sockets may hold between them.
const SOCKETS: usize = 16 * MIB;

/// One answer: what is written, piece by piece, and how often the last piece is repeated.
#[derive(Clone, Default)]
struct Answer {
    pieces: Vec<Vec<u8>>,
    repeats: usize,
    /// Nothing comes after it on this connection.
    breaks_off: bool,
}

impl Answer {
    /// Headers (each with its line end) and a body whose length they tell.
    fn whole(headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Answer { pieces: vec![head.into_bytes(), body.to_vec()], ..Answer::default() }
    }

    /// In chunks of 1, 2, 3, 5, 8, … bytes, each written in two pieces that split its size, with extension and trailer.
    fn chunked(headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
        let mut pieces = vec![head.into_bytes()];
        let (mut rest, mut size, mut next) = (body, 1, 2);
        while !rest.is_empty() {
            let (chunk, left) = rest.split_at(size.min(rest.len()));
            let mut framed = format!("00{:X};odd=\"yes\"\r\n", chunk.len()).into_bytes();
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
            let tail = framed.split_off(3);
            pieces.extend([framed, tail]);
            (rest, size, next) = (left, next, size + next);
        }
        pieces.push(b"0\r\nX-Trailer: late\r\n\r\n".to_vec());
        Answer { pieces, ..Answer::default() }
    }
}

/// Half of what its length promises.
fn broken_off(headers: &str, body: &[u8]) -> Answer {
    let mut answer = Answer::whole(headers, body);
    answer.pieces[1].truncate(body.len() / 2);
    Answer { breaks_off: true, ..answer }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

struct Server {
    url: String,
    /// Heads of the requests.
    asked: Arc<Mutex<Vec<String>>>,
    /// Bytes that were written before the caller hung up.
    written: Arc<AtomicUsize>,
}

impl Server {
    /// Answers the nth request with the nth answer, and all further ones with the last.
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/v0", listener.local_addr().unwrap());
        let (asked, written) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (asking, writing) = (asked.clone(), written.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked, written) = (answers.clone(), asking.clone(), writing.clone());
                std::thread::spawn(move || serve(&stream, &answers, &asked, &written));
            }
        });
        Server { url, asked, written }
    }

    fn client(&self) -> (Client, tempfile::TempDir) {
        client(Arc::new(ReqwestHttp::new(None)), &self.url)
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn serve(stream: &TcpStream, answers: &[Answer], asked: &Mutex<Vec<String>>, written: &AtomicUsize) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            head += &std::mem::take(&mut line).to_ascii_lowercase();
        }
        if head.is_empty() {
            return;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let nth = {
            let mut asked = asked.lock().unwrap();
            asked.push(head);
            asked.len() - 1
        };
        let answer = &answers[nth.min(answers.len() - 1)];
        let last = answer.pieces.last().into_iter().cycle().take(answer.repeats);
        for piece in answer.pieces.iter().chain(last) {
            if (&mut &*stream).write_all(piece).is_err() {
                return;
            }
            written.fetch_add(piece.len(), Ordering::SeqCst);
        }
        if answer.breaks_off {
            return;
        }
    }
}

const ACCOUNT: &[u8] = r#"{"id": 4242, "username": "größer 日本", "credit": 5.5}"#.as_bytes();
const CREATED: &[u8] = br#"{"success": true, "new_contract": 99}"#;

/// More than 8 MiB, in each of the ways it may come.
fn too_large() -> Vec<(&'static str, Answer)> {
    let blanks = vec![b' '; MIB];
    let mut chunk = format!("{MIB:x}\r\n").into_bytes();
    chunk.extend_from_slice(&blanks);
    chunk.extend_from_slice(b"\r\n");
    let head = |header: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").into_bytes();
    let gigabyte = 1024;
    let bomb = gzip(&vec![b' '; 64 * MIB]);
    vec![
        (
            "declared",
            Answer {
                pieces: vec![head("Content-Length: 1073741824"), blanks.clone()],
                repeats: gigabyte,
                breaks_off: true,
            },
        ),
        (
            "chunked",
            Answer {
                pieces: vec![head("Transfer-Encoding: chunked"), chunk],
                repeats: gigabyte,
                breaks_off: true,
            },
        ),
        (
            "to the end",
            Answer { pieces: vec![head("Connection: close"), blanks], repeats: gigabyte, breaks_off: true },
        ),
        ("compressed", Answer::whole("Content-Encoding: gzip\r\n", &bomb)),
        ("compressed and chunked", Answer::chunked("Content-Encoding: gzip\r\n", &bomb)),
    ]
}

#[tokio::test]
async fn compressed_answers_and_odd_pieces_simply_work() {
    let compressed = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n";
    for answer in [
        Answer::whole("", ACCOUNT),
        Answer::whole(compressed, &gzip(ACCOUNT)),
        Answer::chunked("", ACCOUNT),
        Answer::chunked(compressed, &gzip(ACCOUNT)),
    ] {
        let server = Server::start(vec![answer]);
        let (client, _home) = server.client();
        for _ in 0..2 {
            let account = client.account().await.unwrap();
            assert_eq!((account.id.0, account.credit), (4242, Some(5.5)));
        }
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "nothing was repeated");
        assert!(asked.iter().all(|head| head.contains("accept-encoding: gzip")), "{asked:?}");
    }
    // An answer of almost 8 MiB is one.
    let body = [ACCOUNT, &vec![b' '; 8 * MIB - ACCOUNT.len()]].concat();
    for answer in [Answer::whole("", &body), Answer::whole(compressed, &gzip(&body))] {
        let server = Server::start(vec![answer]);
        let (client, _home) = server.client();
        assert_eq!(client.account().await.unwrap().id.0, 4242);
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused_while_it_comes() {
    for (way, answer) in too_large() {
        let server = Server::start(vec![answer, Answer::whole("", ACCOUNT)]);
        let (client, _home) = server.client();
        let began = Instant::now();
        // What cannot be read says nothing about the create; it was sent once.
        let Created::Unknown(failure) = client.create(OfferId(5), &what()).await else { panic!("{way}") };
        let took = began.elapsed();
        assert_eq!((failure.kind, server.requests()), (Kind::Malformed, 1), "{way}");
        assert_eq!(failure.message, "the answer is larger than 8 MiB", "{way}");
        assert_eq!(Error::from(failure).code().as_str(), "api_malformed", "{way}");
        assert!(took < Duration::from_secs(10), "{way}: {took:?}");
        let written = server.written.load(Ordering::SeqCst);
        assert!(written < 8 * MIB + SOCKETS, "{way}: {written} bytes");
        // The next answer is an answer again.
        assert_eq!(client.account().await.unwrap().id.0, 4242, "{way}");
    }
}

#[tokio::test]
async fn a_call_that_may_be_repeated_gets_over_one_that_is_too_large() {
    for (way, answer) in too_large() {
        let server = Server::start(vec![answer, Answer::chunked("", ACCOUNT)]);
        let (client, _home) = server.client();
        assert_eq!(client.account().await.unwrap().id.0, 4242, "{way}");
        assert_eq!(server.requests(), 2, "{way}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_cannot_be_unpacked_is_no_answer() {
    let packed = gzip(CREATED);
    let compressed = "Content-Encoding: gzip\r\n";
    let mut half = Answer::chunked("", CREATED);
    half.pieces.truncate(half.pieces.len() / 2);
    half.pieces.push(b"nothing like a size\r\n".to_vec());
    for (way, answer, kind) in [
        ("half a pack", Answer::whole(compressed, &packed[..packed.len() / 2]), Kind::Malformed),
        ("no pack at all", Answer::whole(compressed, CREATED), Kind::Malformed),
        ("half a pack that breaks off", broken_off(compressed, &packed), Kind::Broken),
        ("half an answer", broken_off("", CREATED), Kind::Broken),
        ("chunks that end in nonsense", half, Kind::Broken),
    ] {
        let server = Server::start(vec![answer, Answer::whole("", ACCOUNT)]);
        let (client, _home) = server.client();
        let Created::Unknown(failure) = client.create(OfferId(5), &what()).await else { panic!("{way}") };
        assert_eq!((failure.kind, server.requests()), (kind, 1), "{way}: {}", failure.message);
    }
    let server = Server::start(vec![Answer::chunked(compressed, &packed)]);
    let (client, _home) = server.client();
    let created = client.create(OfferId(5), &what()).await;
    assert!(matches!(created, Created::Instance(InstanceId(99))), "{created:?}");
}
