//! Parameters of our methods, by name or by position.

use lnplaylive_core::OrderId;
use serde_json::{Map, Value};

use super::error::Failure;
use crate::core::ShopError;

/// Most bytes of JSON that the parameters of one call may have: several times what 64 names in any script take.
const MAX_BYTES: usize = 64 * 1024;

/// The parameters of one call.
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// Reads the parameters of a method that takes those named in `allowed`, in that order.
    pub(super) fn read(params: Value, allowed: &[&str]) -> Result<Self, Failure> {
        let listed = || match allowed {
            [] => "this method takes no parameters".to_owned(),
            _ => format!("the parameters are {}", allowed.join(", ")),
        };
        if params.to_string().len() > MAX_BYTES {
            return Err(Failure::invalid_call(format!("the parameters are more than {MAX_BYTES} bytes")));
        }
        let given = match params {
            Value::Null => Map::new(),
            Value::Array(values) if values.len() > allowed.len() => {
                let count = values.len();
                return Err(Failure::invalid_call(format!("{count} parameters are too many; {}", listed())));
            }
            Value::Array(values) => allowed.iter().map(|&name| name.to_owned()).zip(values).collect(),
            Value::Object(map) => map,
            _ => return Err(Failure::invalid_call("params must be an object or an array")),
        };
        if let Some(name) = given.keys().find(|name| !allowed.contains(&name.as_str())) {
            let name = format!("{name:.40}");
            let message = format!("unknown parameter `{name}`; {}", listed());
            return Err(Failure::invalid_param(&name, message).allowing(allowed));
        }
        // `lightning-cli` and pages send null for what they leave out.
        Ok(Self(given.into_iter().filter(|(_, value)| !value.is_null()).collect()))
    }

    fn required(&self, name: &str) -> Result<&Value, Failure> {
        self.0.get(name).ok_or_else(|| Failure::invalid_param(name, format!("missing parameter `{name}`")))
    }

    /// A whole number, or its decimal digits in a string. `None` for anything else.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.required(name).map(as_integer)
    }

    /// A whole number that is not negative, if it is given.
    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = as_integer(value).filter(|n| *n >= 0);
        let wrong = || Failure::invalid_param(name, format!("{name} must be a whole number, 0 or more"));
        number.ok_or_else(wrong).map(Some)
    }

    /// A whole number that is not negative, or the default if none is given.
    pub(super) fn integer_or(&self, name: &str, default: i64) -> Result<i64, Failure> {
        Ok(self.optional_integer(name)?.unwrap_or(default))
    }

    /// `true` or `false`, also as a string; false if it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => {
                Err(Failure::invalid_param(name, format!("{name} must be true or false"))
                    .allowing([true, false]))
            }
        }
    }

    /// A string, if it is given.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let text =
            value.as_str().ok_or_else(|| Failure::invalid_param(name, format!("{name} must be a string")))?;
        Ok(Some(text))
    }

    /// A list of strings; empty if none is given.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, Failure> {
        let Some(value) = self.0.get(name) else { return Ok(Vec::new()) };
        let wrong = || Failure::invalid_param(name, format!("{name} must be a list of strings"));
        value.as_array().ok_or_else(wrong)?.iter().map(|one| one.as_str().ok_or_else(wrong)).collect()
    }

    /// A value that must be given; empty if it is not a string.
    fn required_text(&self, name: &str) -> Result<&str, Failure> {
        Ok(self.required(name)?.as_str().unwrap_or_default())
    }

    /// The order's id. A malformed one is answered like an unknown one.
    pub(super) fn order_id(&self) -> Result<OrderId, Failure> {
        self.required_text("invoice_id")?.parse().map_err(|_| ShopError::NoSuchOrder.into())
    }
}

fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            decimal.then(|| text.parse().ok()).flatten()
        }
        _ => None,
    }
}
