# The image `lnplay` for virtual machines, on both LXD and Incus.
{ modulesPath, ... }:
let
  drive = "dev-disk-by\\x2dlabel-cidata.device";
in
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/incus-virtual-machine.nix"
  ];
  # Most of a node's memory is zeros (12.5 MB for the table of revoked runes) or identical to that of the other nodes. With identical
  # pages merged, eight idle nodes took 7.4 MB each instead of 20. The unit `lnplay` opts in. Containers use the server's kernel,
  # so they cannot turn this on.
  hardware.ksm.enable = true;

  # User-data comes on a drive that the server creates (a disk device with the source `cloud-init:config`), so that nothing has to wait
  # for an agent. Incus's agent, also started for LXD, is there for operators. There must be no template for
  # /var/lib/cloud/seed/nocloud-net/meta-data: the agent would reboot the machine to make cloud-init read it.
  services.cloud-init.settings.datasource.NoCloud.fs_label = "cidata";
  boot.kernelModules = [
    "isofs"
    "sr_mod"
  ];
  systemd.services.cloud-init-local = {
    wants = [ drive ];
    after = [ drive ];
  };
}
