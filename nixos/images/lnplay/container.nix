# The image `lnplay` for system containers, on LXD and Incus alike.
{ modulesPath, pkgs, ... }:
let
  # Where cloud-init's NoCloud looks: LXD's own source wants /dev/lxd/sock, and Incus has none.
  seed = "/var/lib/cloud/seed/nocloud-net";
  when = [
    "create"
    "copy"
  ];
in
{
  imports = [
    ./common.nix
    "${modulesPath}/virtualisation/lxc-container.nix"
  ];
  networking.useHostResolvConf = false;
  # Nothing is ever built or installed in it.
  systemd.services.register-nix-paths.enable = false;

  # Written by the server when it makes or copies an instance.
  virtualisation.lxc.templates = {
    meta-data = {
      enable = true;
      target = "${seed}/meta-data";
      template = pkgs.writeText "meta-data.tpl" ''
        instance-id: {{ container.name }}
        local-hostname: {{ container.name }}
      '';
      inherit when;
    };
    user-data = {
      enable = true;
      target = "${seed}/user-data";
      template = pkgs.writeText "user-data.tpl" ''{{ config_get("user.user-data", properties.default) }}'';
      inherit when;
      properties.default = "#cloud-config\n{}\n";
    };
  };
  # No search for a drive.
  services.cloud-init.settings.datasource.NoCloud.fs_label = null;
}
