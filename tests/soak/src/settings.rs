//! The settings of a run, from environment variables `SOAK_…`, and the command that repeats it.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use testbed::Flavor;

/// Length of a run without `SOAK_MINUTES` and `SOAK_ORDERS`, in minutes.
const DEFAULT_MINUTES: f64 = 1.0;
/// Longest time that a run with `SOAK_ORDERS` alone may take, in minutes.
const DAY: f64 = 24.0 * 60.0;

/// The programs in environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environments {
    /// A stand-in for `lnplay` that answers at once and runs nothing.
    Fast,
    /// The real `lnplay`, on the same daemons as the shop.
    Lnplay,
}

/// The remotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// This many simulated servers.
    Simulated(usize),
    /// A real server.
    Existing {
        /// URL of its API.
        url: String,
        /// File with a token.
        token_file: String,
    },
}

/// The settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Decides what is ordered, paid, broken and when.
    pub seed: u64,
    /// No new order after this time.
    pub time: Duration,
    /// No new order after this many.
    pub orders: Option<u64>,
    /// Customers at the same time.
    pub buyers: u64,
    /// The daemons of the shop.
    pub lightning: Flavor,
    /// The programs in environments.
    pub environments: Environments,
    /// The remotes.
    pub servers: Servers,
    /// Environments that are kept prepared of each of the two smaller products.
    pub prepared: u32,
    /// The variables that were set, to repeat the run.
    given: Vec<(String, String)>,
}

impl Settings {
    /// Reads the variables through `variable`. `fresh` is the seed if none is given.
    pub fn read(variable: impl Fn(&str) -> Option<String>, fresh: u64) -> anyhow::Result<Self> {
        let mut given = Vec::new();
        let mut text = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            given.push((name.to_owned(), value.clone()));
            Some(value)
        };
        let seed = number(&mut text, "SOAK_SEED")?.unwrap_or(fresh);
        let orders = number(&mut text, "SOAK_ORDERS")?;
        let minutes: Option<f64> = number(&mut text, "SOAK_MINUTES")?;
        let minutes = minutes.unwrap_or(if orders.is_some() { DAY } else { DEFAULT_MINUTES });
        if !(minutes > 0.0 && minutes <= 100.0 * DAY) {
            bail!("SOAK_MINUTES is {minutes}; it must be more than 0 and at most {}", 100.0 * DAY);
        }
        let buyers = number(&mut text, "SOAK_BUYERS")?.unwrap_or(8);
        let lightning = match text("SOAK_LIGHTNING").as_deref() {
            None | Some("simulated") => Flavor::Simulated,
            Some("real") => Flavor::Real,
            Some(other) => bail!("SOAK_LIGHTNING is {other:?}, neither simulated nor real"),
        };
        let environments = match text("SOAK_ENVIRONMENTS").as_deref() {
            None | Some("fast") => Environments::Fast,
            Some("lnplay") => Environments::Lnplay,
            Some(other) => bail!("SOAK_ENVIRONMENTS is {other:?}, neither fast nor lnplay"),
        };
        let servers = match text("SOAK_SERVER").as_deref() {
            None => Servers::Simulated(number(&mut text, "SOAK_REMOTES")?.unwrap_or(3)),
            Some(kind @ ("lxd" | "incus")) => {
                let kind = kind.to_uppercase();
                let mut of = |name: &str| {
                    let name = format!("{kind}_{name}");
                    text(&name).with_context(|| format!("SOAK_SERVER needs {name}"))
                };
                Servers::Existing { url: of("URL")?, token_file: of("TOKEN_FILE")? }
            }
            Some(other) => bail!("SOAK_SERVER is {other:?}, neither lxd nor incus"),
        };
        // A real server here holds few.
        let usual = u32::from(matches!(servers, Servers::Simulated(_)));
        let prepared = number(&mut text, "SOAK_PREPARED")?.unwrap_or(usual);
        given.retain(|(name, _)| name != "SOAK_SEED");
        let time = Duration::from_secs_f64(minutes * 60.0);
        Ok(Self { seed, time, orders, buyers, lightning, environments, servers, prepared, given })
    }

    /// The command that repeats the run.
    pub fn command(&self) -> String {
        let mut command = format!("SOAK_SEED={}", self.seed);
        for (name, value) in &self.given {
            write!(command, " {name}={value}").expect("a string takes all");
        }
        command + " tests/run soak"
    }
}

fn number<T: FromStr>(text: &mut impl FnMut(&str) -> Option<String>, name: &str) -> anyhow::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(name).map(|value| value.parse().with_context(|| format!("{name} is {value:?}"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Settings::read(find, 7)
    }

    #[test]
    fn the_command_repeats_the_run() {
        let first = read(&[("SOAK_ORDERS", "20"), ("SOAK_LIGHTNING", "real")]).expect("valid");
        assert_eq!(first.command(), "SOAK_SEED=7 SOAK_ORDERS=20 SOAK_LIGHTNING=real tests/run soak");
        let again = [("SOAK_SEED", "7"), ("SOAK_ORDERS", "20"), ("SOAK_LIGHTNING", "real")];
        assert_eq!(read(&again).expect("valid"), first);
    }

    #[test]
    fn wrong_values_are_named() {
        for (name, value) in [("SOAK_ORDERS", "many"), ("SOAK_MINUTES", "0"), ("SOAK_LIGHTNING", "fake")] {
            let error = read(&[(name, value)]).expect_err(value);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
