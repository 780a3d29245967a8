//! Removal of images that earlier releases of this shop have uploaded: see [`lnplaylive_core::images`] for which.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lnplaylive_core::clocks::agreed_time;
use lnplaylive_core::images::{Needs, PROPERTY_UNUSED_SINCE, StoredImage, Verdict};
use lxd_client::{Found as _, ListedImage, Origin};
use tokio::time::Instant;

use crate::Error;
use crate::image::PROJECT;
use crate::remote::Remote;

/// Between two looks. An old image is kept for days anyway.
const PAUSE: Duration = Duration::from_secs(3600);
/// The longest that deleting an image may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(120);

/// The time of the last look on one remote.
#[derive(Debug, Default)]
pub(crate) struct OldImages(Mutex<Option<Instant>>);

impl OldImages {
    /// True if it is time for a look; the caller makes it.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= PAUSE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Removes this shop's old images from a remote. `all` are the shop's remotes.
pub(crate) async fn remove(all: &[Remote], remote: &Remote) {
    if let Err(error) = try_remove(all, remote).await {
        tracing::warn!("old images stay for now: {}", error.chain());
    }
}

async fn try_remove(all: &[Remote], remote: &Remote) -> Result<(), Error> {
    let Some(shop) = &remote.shop else { return Ok(()) };
    let mut needs = Needs::default();
    for other in all {
        needs.wanted.extend(other.image.digest(&other.settings).await?);
    }
    let client = remote.client().await?;
    let images = client.images(PROJECT).await?;
    let Some(in_use) = in_use(client.origins().await?) else {
        tracing::info!(
            "remote {:?}: old images stay for now: a member does not answer",
            remote.settings.name
        );
        return Ok(());
    };
    needs.in_use = in_use;
    // A clock that jumped ahead must not shorten the time for which they are kept.
    let Ok(now) = agreed_time(Timestamp::now(), client.server_clock_ahead()) else { return Ok(()) };
    for ListedImage { fingerprint, aliases, properties, .. } in images {
        let stored = StoredImage { digest: fingerprint.to_string(), aliases, properties };
        let note = match stored.judge(shop, &needs, now) {
            Verdict::Leave => continue,
            Verdict::NoteUsed => String::new(),
            Verdict::NoteUnused => now.as_second().to_string(),
            Verdict::Remove => {
                client.delete_image(PROJECT, &fingerprint, DELETE_TIMEOUT).await.found()?;
                let (name, aliases) = (&remote.settings.name, stored.aliases.join(", "));
                tracing::info!("remote {name:?}: removed the old image {aliases}");
                continue;
            }
        };
        // Not found: removed in between.
        client.set_image_property(PROJECT, &fingerprint, PROPERTY_UNUSED_SINCE, &note).await.found()?;
    }
    Ok(())
}

/// The images that instances have; `None` if that is not known of all of them.
fn in_use(origins: Vec<Origin>) -> Option<BTreeSet<String>> {
    let mut in_use = BTreeSet::new();
    for origin in origins {
        match origin {
            Origin::Image(image) => drop(in_use.insert(image.to_string())),
            Origin::NoImage => {}
            Origin::Unknown => return None,
        }
    }
    Some(in_use)
}
