//! A plugin for the conformance tests, written with raw JSON over standard input and output, without a library.
//!
//! The environment variable `SIM_TEST_PLUGIN` selects misbehaviour: `disable-manifest`, `disable-init`, `die-manifest`,
//! `die-init`, `method-taken`.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

fn main() {
    let mode = std::env::var("SIM_TEST_PLUGIN").unwrap_or_default();
    let mut plugin = Plugin { mode, options: Value::Null, configuration: Value::Null, events: Vec::new() };
    let mut buffer = Vec::new();
    let mut stdin = std::io::stdin().lock();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stdin.read(&mut chunk) {
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = buffer.drain(..end + 2).collect();
            plugin.hear(&serde_json::from_slice(&frame).expect("the daemon sends JSON"));
        }
    }
}

struct Plugin {
    mode: String,
    options: Value,
    configuration: Value,
    events: Vec<Value>,
}

fn say(message: &Value) {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{message}\n\n").and_then(|()| stdout.flush()).expect("the daemon reads");
}

impl Plugin {
    fn hear(&mut self, message: &Value) {
        let method = message["method"].as_str().expect("every message has a method");
        let params = &message["params"];
        let Some(id) = message.get("id") else {
            self.events.push(json!({"topic": method, "params": params}));
            if method == "shutdown" {
                let dir = self.configuration["lightning-dir"].as_str().expect("in the configuration");
                std::fs::write(format!("{dir}/test-plugin-shutdown"), "told")
                    .expect("the directory is there");
                std::process::exit(0);
            }
            return;
        };
        let answer = match (method, self.mode.as_str()) {
            ("getmanifest", "die-manifest") | ("init", "die-init") | ("test-die", _) => std::process::exit(3),
            ("getmanifest", "disable-manifest") => Ok(json!({"disable": "not today"})),
            ("getmanifest", _) => Ok(self.manifest()),
            ("init", "disable-init") => Ok(json!({"disable": "not with these options"})),
            ("init", _) => {
                self.options = params["options"].clone();
                self.configuration = params["configuration"].clone();
                Ok(json!({}))
            }
            ("test-echo", _) => {
                Ok(json!({"params": params, "options": self.options, "configuration": self.configuration}))
            }
            ("test-events", _) => Ok(json!({"events": self.events})),
            ("test-fail", _) => Err(json!({"code": -123, "message": "as asked", "data": {"why": "test"}})),
            ("test-log", _) => {
                let params = json!({"level": params["level"], "message": params["message"]});
                say(&json!({"jsonrpc": "2.0", "method": "log", "params": params}));
                Ok(json!({}))
            }
            _ => Err(json!({"code": -32601, "message": "not a method of this plugin"})),
        };
        say(&match answer {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        });
    }

    fn manifest(&self) -> Value {
        let method = |name: &str| json!({"name": name, "usage": "[anything]", "description": "for tests"});
        let mut methods: Vec<_> = ["test-echo", "test-events", "test-fail", "test-log", "test-die"]
            .into_iter()
            .map(method)
            .collect();
        if self.mode == "method-taken" {
            // Not one of lightningd's methods: the real lightningd crashes on that.
            methods.push(method("pay"));
        }
        json!({
            "options": [
                {"name": "test-text", "type": "string", "default": "untouched", "description": "text"},
                {"name": "test-unset", "type": "string", "description": "text without a default"},
                {"name": "test-number", "type": "int", "default": 7, "description": "a number"},
                {"name": "test-switch", "type": "bool", "default": false, "description": "yes or no"},
                {"name": "test-flag", "type": "flag", "description": "given or not"},
                {"name": "test-many", "type": "string", "multi": true, "description": "several"},
            ],
            "rpcmethods": methods,
            "subscriptions": ["invoice_creation", "invoice_payment", "block_added", "shutdown"],
            "hooks": [],
            "dynamic": true,
            "nonnumericids": true,
        })
    }
}
