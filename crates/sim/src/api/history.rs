//! Every request that came in, with its secrets taken out.

use super::World;
use super::message::{Reply, Request};
use super::users::Caller;
use serde_json::{Value, json};

const REDACTED: &str = "[redacted]";
/// Body fields whose values are secret, or may be.
const SECRET_FIELDS: [&str; 4] = ["image_login", "env", "api_key", "password"];

impl World {
    pub(super) fn record(&mut self, request: &Request, caller: &Caller, reply: &Reply, fault: bool) {
        if self.settings.history == 0 {
            return;
        }
        let body = match serde_json::from_slice::<Value>(&request.body) {
            Ok(mut body) => {
                self.redact(&mut body);
                body
            }
            Err(_) if request.body.is_empty() => Value::Null,
            Err(_) => json!(self.redact_text(&String::from_utf8_lossy(&request.body))),
        };
        let query: Vec<Value> = request
            .query
            .iter()
            .map(|(key, value)| {
                let secret = key == "api_key";
                json!([key, if secret { REDACTED.to_owned() } else { self.redact_text(value) }])
            })
            .collect();
        let caller = match caller {
            Caller::Owner => "owner".to_owned(),
            Caller::Container(id) => format!("container {id}"),
            Caller::Anonymous => "none".to_owned(),
            Caller::Unknown => "unknown key".to_owned(),
        };
        if self.history.len() >= self.settings.history {
            self.history.pop_front();
        }
        self.history.push_back(json!({
            "at": self.now.as_secs_f64(), "method": request.method, "path": self.redact_text(&request.path),
            "query": query, "caller": caller, "key_in_url": request.query_value("api_key").is_some(),
            "body": body, "status": reply.status, "fault": fault,
        }));
    }

    fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::Object(inner) if SECRET_FIELDS.contains(&name.as_str()) => {
                            inner.values_mut().for_each(|value| *value = json!(REDACTED));
                        }
                        Value::Null => {}
                        _ if SECRET_FIELDS.contains(&name.as_str()) => *field = json!(REDACTED),
                        _ => self.redact(field),
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes every key this world has given out from a text.
    fn redact_text(&self, text: &str) -> String {
        let keys = self.instances.values().map(|instance| instance.api_key.as_str());
        keys.chain([self.settings.api_key.as_str()])
            .filter(|key| !key.is_empty() && text.contains(key))
            .fold(text.to_owned(), |text, key| text.replace(key, REDACTED))
    }

    /// The recorded requests, oldest first, in the form the control plane shows.
    pub fn requests(&self) -> Vec<Value> {
        self.history.iter().cloned().collect()
    }
}
