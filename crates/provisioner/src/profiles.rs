//! The disk and the network in the profiles that instances get.

use std::collections::BTreeMap;

use lnplaylive_core::settings;
use lxd_client::{Client, DeviceMap, Found as _};

use crate::Error;

/// A device's options.
pub(crate) type Device = BTreeMap<String, String>;

/// The devices of a remote's profiles, as far as they matter here, each with its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profiles {
    /// The root disk.
    pub(crate) root: Option<(String, Device)>,
    /// The first NIC.
    pub(crate) nic: Option<(String, Device)>,
    /// The names of all but the root disk.
    pub(crate) others: Vec<String>,
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
            let named = (name.clone(), device.clone());
            match option("type") {
                Some("disk") if option("path") == Some("/") => {
                    found.root = Some(named);
                    continue;
                }
                Some("nic") if found.nic.is_none() => found.nic = Some(named),
                _ => {}
            }
            found.others.push(name.clone());
        }
        found
    }

    /// The storage pool of the root disk.
    pub(crate) fn pool(&self) -> Option<&str> {
        self.root.as_ref()?.1.get("pool").map(String::as_str).filter(|pool| !pool.is_empty())
    }
}
