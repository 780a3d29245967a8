# What an emulated machine without a first stage is told.
let
  root = "dev-disk-by\\x2dlabel-nixos.device";
in
{
  # Emulated on a busy machine, everything may take longer than systemd waits.
  systemd.settings.Manager = {
    DefaultDeviceTimeoutSec = "15min";
    DefaultTimeoutStartSec = "15min";
  };
  # The root file system's partition has a name.
  systemd.services.growpart = {
    wants = [ root ];
    after = [ root ];
  };
}
