//! What the profiles that instances get say about their disk and network.

use std::collections::BTreeMap;

use lnplaylive_core::settings;
use lxd_client::{Client, DeviceMap, Found as _};

use crate::Error;

/// The devices of a remote's profiles, as far as they matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profiles {
    /// The storage pool of the root disk.
    pub(crate) pool: Option<String>,
    /// The first NIC: its name, and its options.
    pub(crate) nic: Option<(String, BTreeMap<String, String>)>,
}

impl Profiles {
    /// Reads the profiles that the settings name; one call each.
    pub(crate) async fn read(client: &Client, settings: &settings::Remote) -> Result<Self, Error> {
        let mut devices = DeviceMap::new();
        for profile in &settings.profiles {
            let of_profile = client.profile_devices(profile).await.found()?;
            devices.extend(of_profile.ok_or_else(|| Error::NoProfile {
                remote: settings.name.clone(),
                profile: profile.clone(),
            })?);
        }
        Ok(Self::of(&devices))
    }

    pub(crate) fn of(devices: &DeviceMap) -> Self {
        let mut found = Self::default();
        for (name, device) in devices {
            let option = |key: &str| device.get(key).map(String::as_str).filter(|value| !value.is_empty());
            match option("type") {
                Some("disk") if option("path") == Some("/") => found.pool = option("pool").map(str::to_owned),
                Some("nic") if found.nic.is_none() => found.nic = Some((name.clone(), device.clone())),
                _ => {}
            }
        }
        found
    }
}
