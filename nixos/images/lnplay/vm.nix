# The image `lnplay` for virtual machines, on LXD and Incus alike. Its agent comes from Incus; it answers to LXD's name as well.
{ modulesPath, ... }:
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/incus-virtual-machine.nix"
  ];
  # A node's memory is mostly zeros (12.5 MB of the table of withdrawn runes) and the same as its neighbours': with equal pages
  # merged, eight nodes that are idle took 7.4 MB each instead of 20. The unit `lnplay` asks for it; a container's kernel is
  # its server's.
  hardware.ksm.enable = true;
  # The agent writes the image's templates, and with them what cloud-init reads.
  systemd.services.cloud-init-local.after = [ "incus-agent.service" ];
}
