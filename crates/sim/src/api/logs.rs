//! Container logs and the few remote commands: both answer with the address of an object that appears later.

use super::World;
use super::message::{Reply, Request};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Where the object store lives on the same server.
pub(crate) const OBJECTS: &str = "/s3/";

/// The longest remote command (Vast API, documented).
const LONGEST_COMMAND: usize = 512;

/// An uploaded, or soon to be uploaded, object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    ready_at: Duration,
    content: Content,
}

/// Logs are written when they are fetched first, so that they hold what the container printed meanwhile.
#[derive(Clone, Debug)]
enum Content {
    Log { instance: u64, tail: usize, daemon: bool },
    Text(String),
}

impl World {
    /// `PUT /instances/request_logs/{id}/`.
    pub(super) fn request_logs(&mut self, id: u64, request: &Request) -> Reply {
        if self.visible(id).is_none() {
            return Reply::json(404, &json!({"error": "invalid_id", "msg": "Invalid instance id."}));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let tail = match &body["tail"] {
            Value::String(tail) => tail.parse().unwrap_or(1000),
            Value::Number(tail) => tail.as_u64().unwrap_or(1000) as usize,
            _ => 1000,
        };
        let daemon = matches!(&body["daemon_logs"], Value::String(flag) if flag == "true");
        let url = self.store(Content::Log { instance: id, tail, daemon });
        Reply::json(200, &json!({"success": true, "result_url": url}))
    }

    /// `PUT /instances/command/{id}/`: `ls`, `rm` and `du` only, and only while stopped.
    pub(super) fn command(&mut self, id: u64, request: &Request) -> Reply {
        let Some(instance) = self.visible(id) else {
            return Reply::error(
                400,
                "invalid_args",
                &format!("error 400/3467: Invalid args: instance {id}"),
            );
        };
        let running = instance.actual.as_deref() == Some("running");
        // This one endpoint answers 483 to a body that is no JSON (Vast API, documented).
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Reply::error(483, "invalid_args", "error 400/1782: Invalid args: invalid json: {}");
        };
        let command = body["command"].as_str().unwrap_or_default();
        let known = matches!(command.split_whitespace().next(), Some("ls" | "rm" | "du"));
        if !known || command.len() > LONGEST_COMMAND {
            return Reply::error(400, "invalid_args", "Invalid command given.");
        }
        if running {
            return Reply::error(
                400,
                "invalid_args",
                "Command not available on a running instance; use ssh.",
            );
        }
        let url = self.store(Content::Text(format!("$ {command}\n")));
        Reply::json(
            200,
            &json!({"success": true, "result_url": url, "writeable_path": format!("/var/lib/docker/overlay2/{id}")}),
        )
    }

    fn store(&mut self, content: Content) -> String {
        let name = format!("{}.log", self.random.token());
        let url = format!("{}{OBJECTS}{name}", self.settings.origin);
        self.objects.insert(name, Object { ready_at: self.now + self.settings.log_lag, content });
        url
    }

    /// The object store: no authentication, and XML until the object is there, now 403 and now 404.
    pub(super) fn object(&mut self, name: &str) -> Reply {
        let Some(object) = self.objects.get(name) else { return missing(404, "NoSuchKey") };
        if self.now < object.ready_at {
            self.object_misses += 1;
            let forbidden = self.object_misses % 2 == 1;
            return if forbidden { missing(403, "AccessDenied") } else { missing(404, "NoSuchKey") };
        }
        let text = match &object.content {
            Content::Text(text) => text.clone(),
            Content::Log { instance, tail, daemon } => self.log(*instance, *tail, *daemon),
        };
        Reply::typed(200, "text/plain", text)
    }

    fn log(&self, id: u64, tail: usize, daemon: bool) -> String {
        let Some(instance) = self.instances.get(&id) else { return String::new() };
        let mut log =
            format!("{}\n", instance.message.as_deref().unwrap_or("waiting for the machine").trim());
        if daemon {
            // The host's own log: what it did with the image, not what the container printed.
            return format!("host: pulling {}\nhost: {log}", instance.image);
        }
        if instance.ssh_ready_at.is_some_and(|ready| self.now >= ready) {
            let _ = writeln!(log, "Server listening on 0.0.0.0 port 22.");
        }
        log.push_str(&self.host.output(id));
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(tail);
        lines[from..].iter().map(|line| format!("{line}\n")).collect()
    }
}

fn missing(status: u16, code: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    );
    Reply::typed(status, "application/xml", body)
}
