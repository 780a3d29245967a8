# The image `lnplay` for system containers, on LXD and Incus alike.
{ modulesPath, ... }:
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/lxc-container.nix"
  ];
  networking.useHostResolvConf = false;
  # Nothing is ever built or installed in it.
  systemd.services.register-nix-paths.enable = false;
}
