# The image `lnplay` for system containers, on LXD and Incus alike.
{ modulesPath, ... }:
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/lxc-container.nix"
  ];
  networking.useHostResolvConf = false;
}
