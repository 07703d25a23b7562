//! The few lines of HTTP/1.1 that the vendor needs, broken answers included.

use super::fault::Fault;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::TcpStream;

/// A request as it came.
pub struct Request {
    pub method: String,
    pub path: String,
    /// The key that was sent.
    pub bearer: String,
    pub body: Value,
}

/// An answer to be written.
pub struct Reply {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
    pub broken: Option<Fault>,
}

impl Reply {
    pub fn json(body: &Value) -> Self {
        Reply { kind: "application/json", ..Reply::text(&body.to_string()) }
    }

    pub fn refusal(status: u16, body: &Value) -> Self {
        Reply { status, ..Reply::json(body) }
    }

    pub fn text(body: &str) -> Self {
        Reply { status: 200, kind: "text/plain", body: body.to_owned(), broken: None }
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
        bearer,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}

/// Writes an answer; `false` where the connection cannot be used any further.
pub fn write(stream: &mut TcpStream, reply: &Reply) -> Result<bool> {
    let Reply { status, kind, body, .. } = reply;
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    match reply.broken {
        None => stream.write_all(format!("{head}{body}").as_bytes()).map(|()| true),
        Some(Fault::Truncated) => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body.as_bytes()[..body.len() / 2])?;
            Ok(false)
        }
        Some(Fault::Stall) => {
            stream.write_all(head.as_bytes())?;
            wait_for_end(stream)
        }
        Some(Fault::Mute) => wait_for_end(stream),
        Some(_) => {
            // Closing without lingering sends a reset.
            rustix::net::sockopt::set_socket_linger(&*stream, Some(std::time::Duration::ZERO))?;
            Ok(false)
        }
    }
}

/// Says nothing until the caller gives up.
fn wait_for_end(stream: &mut TcpStream) -> Result<bool> {
    let _ = stream.read(&mut [0]);
    Ok(false)
}
