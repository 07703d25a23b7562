//! The few lines of HTTP/1.1 that the vendor needs, broken answers included.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A request as it came.
pub struct Request {
    pub method: String,
    pub path: String,
    /// Path and query.
    pub target: String,
    /// The key that was sent.
    pub bearer: String,
    pub body: Value,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// After three seconds.
    Late,
    /// In chunks of 1, 2, 3, … bytes.
    Chunked,
    /// Half of the body that was promised.
    Truncated,
    /// The headers, then nothing.
    Stall,
    /// Nothing.
    Mute,
    /// A connection that is torn down.
    Reset,
    /// Followed by blanks up to 9 MiB, as its length tells.
    Huge,
    /// Followed by blanks, in chunks, until the caller hangs up.
    HugeChunked,
}

/// An answer to be written.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delivery: Delivery,
}

impl Reply {
    pub fn json(body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { headers, ..Reply::text(&body.to_string()) }
    }

    pub fn refusal(status: u16, body: &Value) -> Self {
        Reply { status, ..Reply::json(body) }
    }

    pub fn text(body: &str) -> Self {
        let headers = vec![("content-type", "text/plain".to_owned())];
        Reply { status: 200, headers, body: body.as_bytes().to_vec(), delivery: Delivery::Whole }
    }
}

/// The next request of a connection; `None` at its end.
pub fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut length, mut bearer) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => {
                bearer = value.trim().strip_prefix("Bearer ").unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Request {
        method: method.to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        target: target.to_owned(),
        bearer,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}

const MIB: usize = 1024 * 1024;

/// Writes an answer; `false` where the connection cannot be used any further.
pub fn write(stream: &mut TcpStream, reply: &Reply) -> Result<bool> {
    let Reply { status, headers, body, delivery } = reply;
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let framed = |framing: &str| format!("{head}{framing}\r\n\r\n").into_bytes();
    let whole = || framed(&format!("content-length: {}", body.len()));
    match delivery {
        Delivery::Whole => stream.write_all(&[whole(), body.clone()].concat()).map(|()| true),
        Delivery::Late => {
            std::thread::sleep(Duration::from_secs(3));
            stream.write_all(&[whole(), body.clone()].concat()).map(|()| true)
        }
        Delivery::Chunked => {
            stream.write_all(&framed("transfer-encoding: chunked"))?;
            let (mut rest, mut size) = (body.as_slice(), 1);
            while !rest.is_empty() {
                let (chunk, left) = rest.split_at(size.min(rest.len()));
                write_chunk(stream, chunk)?;
                (rest, size) = (left, size + 1);
            }
            stream.write_all(b"0\r\n\r\n").map(|()| true)
        }
        Delivery::Truncated => {
            stream.write_all(&whole())?;
            stream.write_all(&body[..body.len() / 2])?;
            Ok(false)
        }
        Delivery::Stall => {
            stream.write_all(&whole())?;
            wait_for_end(stream)
        }
        Delivery::Mute => wait_for_end(stream),
        Delivery::Reset => {
            // Closing without lingering sends a reset.
            rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
            Ok(false)
        }
        Delivery::Huge => {
            stream.write_all(&framed(&format!("content-length: {}", 9 * MIB)))?;
            stream.write_all(body)?;
            stream.write_all(&vec![b' '; 9 * MIB - body.len()]).map(|()| true)
        }
        Delivery::HugeChunked => {
            stream.write_all(&framed("transfer-encoding: chunked"))?;
            write_chunk(stream, body)?;
            let blanks = vec![b' '; MIB];
            // A caller that reads on and on is told so by the time it takes.
            for _ in 0..1024 {
                write_chunk(stream, &blanks)?;
            }
            Ok(false)
        }
    }
}

fn write_chunk(stream: &mut TcpStream, chunk: &[u8]) -> Result<()> {
    if chunk.is_empty() {
        return Ok(());
    }
    let mut framed = format!("{:x}\r\n", chunk.len()).into_bytes();
    framed.extend_from_slice(chunk);
    framed.extend_from_slice(b"\r\n");
    stream.write_all(&framed)
}

/// Says nothing until the caller gives up.
fn wait_for_end(stream: &mut TcpStream) -> Result<bool> {
    let _ = stream.read(&mut [0]);
    Ok(false)
}
