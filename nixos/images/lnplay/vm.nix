# The image `lnplay` for virtual machines, on LXD and Incus alike. Its agent comes from Incus; it answers to LXD's name as well.
{ modulesPath, ... }:
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/incus-virtual-machine.nix"
  ];
  # The agent writes the image's templates, and with them what cloud-init reads.
  systemd.services.cloud-init-local.after = [ "incus-agent.service" ];
}
