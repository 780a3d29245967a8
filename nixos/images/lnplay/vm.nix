# The image `lnplay` for virtual machines, on LXD and Incus alike.
{ modulesPath, ... }:
let
  drive = "dev-disk-by\\x2dlabel-cidata.device";
in
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/incus-virtual-machine.nix"
  ];
  # A node's memory is mostly zeros (12.5 MB of the table of withdrawn runes) and the same as its neighbours': with equal pages
  # merged, eight nodes that are idle took 7.4 MB each instead of 20. The unit `lnplay` asks for it; a container's kernel is
  # its server's.
  hardware.ksm.enable = true;

  # User-data comes on a drive that the server makes (a disk device with the source `cloud-init:config`), so that nothing waits
  # for an agent. Incus's agent, which answers to LXD's name as well, is there for operators. It must find no template for
  # /var/lib/cloud/seed/nocloud-net/meta-data: for the sake of cloud-init it would reboot the machine.
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
