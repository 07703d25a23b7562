//! Another host, to which a redirect may lead: nobody is to come.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::Duration;

/// Takes no connection until it is asked who came.
pub struct Elsewhere {
    listener: TcpListener,
    pub address: String,
}

impl Elsewhere {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Elsewhere { listener, address }
    }

    /// The beginning of what each caller sent.
    pub fn visits(&self) -> Vec<String> {
        let mut visits = Vec::new();
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            visits.push(String::from_utf8_lossy(&head[..length]).into_owned());
        }
        visits
    }
}
