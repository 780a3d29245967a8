//! Parameters of RPC methods, by name or by position, with the real daemon's error messages.

use std::collections::HashMap;

use bitcoin::secp256k1::PublicKey;
use serde_json::{Value, json};

/// An RPC error.
#[derive(Clone, Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Code -32602.
    pub(super) fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    /// Code -1, for errors without a code of their own.
    pub(super) fn general(message: impl Into<String>) -> Self {
        Self::new(-1, message)
    }

    pub(super) fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    pub(super) fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

/// The result of a method.
pub(super) type RpcResult = Result<Value, RpcError>;

/// The parameters of a call. Null means absent.
pub(super) struct Params {
    values: HashMap<&'static str, Value>,
    developer: bool,
}

impl Params {
    /// Assigns `given` to `names`; names that end in `!` are required.
    pub(super) fn parse(names: &[&'static str], given: &Value, developer: bool) -> Result<Self, RpcError> {
        let plain = |name: &'static str| name.trim_end_matches('!');
        let mut values = HashMap::new();
        match given {
            Value::Array(list) => {
                if list.len() > names.len() {
                    let (got, expected) = (list.len(), names.len());
                    return Err(RpcError::params(format!(
                        "too many parameters: got {got}, expected {expected}"
                    )));
                }
                values.extend(names.iter().map(|name| plain(name)).zip(list.iter().cloned()));
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let Some(name) = names.iter().map(|name| plain(name)).find(|name| name == key) else {
                        return Err(RpcError::params(format!(
                            "unknown parameter: {key}, this may be caused by a failure to autodetect key=value-style \
                             parameters. Please try using the -k flag and explicit key=value pairs of parameters."
                        )));
                    };
                    values.insert(name, value.clone());
                }
            }
            _ => return Err(RpcError::params("Expected array or object for params")),
        }
        // By position null means absent; by name it is a value that no type accepts.
        if given.is_array() {
            values.retain(|_, value| !value.is_null());
        }
        for name in names.iter().filter(|name| name.ends_with('!')) {
            if !values.contains_key(plain(name)) {
                return Err(RpcError::params(format!("missing required parameter: {}", plain(name))));
            }
        }
        Ok(Self { values, developer })
    }

    /// The error for an invalid value.
    pub(super) fn bad(&self, name: &str, problem: &str) -> RpcError {
        let shown = self.values.get(name).filter(|_| self.developer);
        RpcError::params(match shown {
            Some(token) => format!("{name}: {problem}: invalid token '{token}'"),
            None => format!("{name}: {problem}: invalid token (see logs for details)"),
        })
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The text of a string, or of a number or boolean as written.
    pub(super) fn token(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// A string. A required parameter is never absent, but may be empty.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>, RpcError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.bad(name, "should be a string (without \\u)")),
        }
    }

    /// A label: a string or a number.
    pub(super) fn label(&self, name: &str) -> Result<Option<String>, RpcError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.bad(name, "should be a string or number")),
        }
    }

    pub(super) fn u64(&self, name: &str) -> Result<Option<u64>, RpcError> {
        let parse =
            |text: String| text.parse().map_err(|_| self.bad(name, "should be an unsigned 64 bit integer"));
        self.token(name).map(parse).transpose()
    }

    pub(super) fn u32(&self, name: &str) -> Result<Option<u32>, RpcError> {
        let parse =
            |text: String| text.parse().map_err(|_| self.bad(name, "should be an unsigned 32 bit integer"));
        self.token(name).map(parse).transpose()
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, RpcError> {
        let parse = |text: String| text.parse().map_err(|_| self.bad(name, "should be 'true' or 'false'"));
        self.token(name).map(parse).transpose()
    }

    pub(super) fn msat(&self, name: &str) -> Result<Option<u64>, RpcError> {
        let parse =
            |text: String| parse_msat(&text).ok_or_else(|| self.bad(name, "should be a millisatoshi amount"));
        self.token(name).map(parse).transpose()
    }

    pub(super) fn node_id(&self, name: &str) -> Result<Option<PublicKey>, RpcError> {
        let parse = |text: String| text.parse().map_err(|_| self.bad(name, "should be a node id"));
        self.token(name).map(parse).transpose()
    }

    /// 32 bytes, kept as lower-case hex.
    pub(super) fn hash(&self, name: &str) -> Result<Option<String>, RpcError> {
        let parse = |text: String| {
            let good = hex::decode(&text).is_ok_and(|bytes| bytes.len() == 32);
            good.then(|| text.to_lowercase()).ok_or_else(|| self.bad(name, "should be a 32 byte hex value"))
        };
        self.token(name).map(parse).transpose()
    }

    /// A datastore key: a string, or a list of strings.
    pub(super) fn key(&self, name: &str) -> Result<Option<Vec<String>>, RpcError> {
        let part = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Array(_) | Value::Object(_) => Err(self.bad(name, "should be string")),
            other => Ok(other.to_string()),
        };
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(parts)) if parts.is_empty() => Err(self.bad(name, "should not be empty")),
            Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, _>>().map(Some),
            Some(Value::Object(_)) => Err(self.bad(name, "should be string or array")),
            Some(value) => Ok(Some(vec![part(value)?])),
        }
    }
}

/// Parses an amount as Core Lightning does: millisatoshi, or with a unit (`msat`, `sat`, `btc`).
pub(super) fn parse_msat(text: &str) -> Option<u64> {
    let scaled = |number: &str, unit: u64, decimals: usize| {
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.len() > decimals || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let fraction: u64 = format!("{part:0<decimals$}").parse().ok().or((decimals == 0).then_some(0))?;
        let fraction = fraction.checked_mul(unit / 10u64.pow(u32::try_from(decimals).ok()?))?;
        whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(fraction)
    };
    if let Some(number) = text.strip_suffix("msat") {
        number.parse().ok()
    } else if let Some(number) = text.strip_suffix("sat") {
        scaled(number, 1000, 3)
    } else if let Some(number) = text.strip_suffix("btc") {
        scaled(number, 100_000_000_000, 11)
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_amounts_with_units() {
        for (text, msat) in [
            ("5", Some(5)),
            ("5msat", Some(5)),
            ("5sat", Some(5000)),
            ("0.001btc", Some(100_000_000)),
            ("1.5btc", Some(150_000_000_000)),
            ("1.5", None),
            ("-1", None),
            ("", None),
            ("btc", None),
            ("1.123456789012btc", None),
        ] {
            assert_eq!(parse_msat(text), msat, "{text}");
        }
    }

    #[test]
    fn sorts_names_and_positions() {
        let names = &["label!", "status!", "desconly"];
        let by_place = Params::parse(names, &json!(["a", "paid", null]), false).expect("fine");
        assert_eq!(by_place.label("label").expect("a string"), Some("a".into()));
        assert_eq!(by_place.bool("desconly").expect("absent"), None);
        let message = |given| Params::parse(names, &given, false).err().expect("refused").message;
        assert_eq!(message(json!(["a"])), "missing required parameter: status");
        assert_eq!(message(json!([1, 2, 3, 4])), "too many parameters: got 4, expected 3");
        assert!(message(json!({"nonsense": 1})).starts_with("unknown parameter: nonsense, this may be"));
    }
}
