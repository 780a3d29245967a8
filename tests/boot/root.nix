# What an emulated machine without a first stage is told.
{ config, ... }:
let
  root = "dev-disk-by\\x2dlabel-nixos.device";
in
{
  # Emulated on a busy machine, everything may take longer than systemd waits.
  systemd.settings.Manager = {
    DefaultDeviceTimeoutSec = "15min";
    DefaultTimeoutStartSec = "15min";
  };
  # The whole journal on a second serial port, also that of a machine whose power is taken away. journald's own forwarding would
  # take from the console what units say there.
  systemd.services.journal-to-serial = {
    wantedBy = [ "sysinit.target" ];
    # From then on it is in one place.
    after = [ "systemd-journal-flush.service" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      ExecStart = "${config.systemd.package}/bin/journalctl --boot --follow --no-tail --output=short-monotonic";
      StandardOutput = "file:/dev/ttyS1";
    };
  };
  # The root file system's partition has a name.
  systemd.services.growpart = {
    wants = [ root ];
    after = [ root ];
  };
}
