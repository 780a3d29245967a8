//! The time of the soak's world: the real time, moved by steps.
//!
//! Environments last hours, so the clocks of all processes are moved on while nothing else waits for them. The product has no hook
//! for that: its processes, and lightningd, run with libfaketime, which reads the difference to the real time from a file. Only the
//! wall clock is moved; waits and time-outs run on the real monotonic clock. The simulated remotes are in this process and are
//! told by [`sim_lxd::Faults::on_clock`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

/// Places of the library, for programs with several threads, in the Debian package and elsewhere.
const LIBRARY: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The world's clock, and the shop's, which may be wrong.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
    shift: Mutex<Shift>,
}

/// Differences, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Shift {
    /// Of the world's time to the real time.
    world: i64,
    /// Of the shop's clock to the world's time.
    shop: i64,
}

impl Clock {
    /// A clock that shows the real time. `dir` is for its file.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let named = std::env::var_os("FAKETIME_LIBRARY").map(PathBuf::from);
        let library = named.into_iter().chain(LIBRARY.map(PathBuf::from)).find(|path| path.is_file());
        let library = library.with_context(|| {
            format!("libfaketime is missing ({}): install the package faketime", LIBRARY.join(", "))
        })?;
        let clock = Self { library, file: dir.join("clock"), shift: Mutex::default() };
        clock.write(Shift::default())?;
        Ok(clock)
    }

    /// The environment variables of a process that follows the shop's clock.
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let variables: [(&str, OsString); 5] = [
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            // Seconds until a process sees a step.
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ];
        variables.map(|(name, value)| (name.into(), value)).into()
    }

    /// The world's time.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead()
    }

    /// The world's time minus the real one.
    pub fn ahead(&self) -> SignedDuration {
        SignedDuration::from_secs(self.lock().world)
    }

    /// Lets time pass.
    pub fn advance(&self, seconds: i64) -> anyhow::Result<()> {
        let mut shift = self.lock();
        shift.world += seconds;
        self.write(*shift)
    }

    /// Sets the shop's clock this much ahead of the world's time; 0 corrects it.
    pub fn set_shop_ahead(&self, seconds: i64) -> anyhow::Result<()> {
        let mut shift = self.lock();
        shift.shop = seconds;
        self.write(*shift)
    }

    fn write(&self, shift: Shift) -> anyhow::Result<()> {
        let text = format!("{:+}\n", shift.world + shift.shop);
        atomic_file::replace(&self.file, text.as_bytes(), 0o644)
            .with_context(|| format!("writing {}", self.file.display()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shift> {
        self.shift.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
