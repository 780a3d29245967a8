//! systemd on this machine, and this process as one of its units.

use std::path::Path;

use anyhow::Context;
use sd_notify::NotifyState;

/// True if systemd manages this machine, tested as `sd_booted(3)` does.
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// True if this process is the main process of a unit, which may ask systemd for scopes. Its children are not.
pub fn is_unit() -> bool {
    let main = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    main == Some(std::process::id())
}

/// Tells systemd that the unit has started, if this process is one.
pub fn notify_ready() -> anyhow::Result<()> {
    sd_notify::notify(&[NotifyState::Ready]).context("telling systemd that the supervisor is ready")
}
