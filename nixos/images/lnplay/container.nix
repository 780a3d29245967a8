# The image `lnplay` for system containers, on both LXD and Incus.
{ modulesPath, pkgs, ... }:
let
  # The directory of cloud-init's NoCloud data source. The LXD data source needs /dev/lxd/sock, which Incus does not have.
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
  # Nothing is ever built or installed in a container.
  systemd.services.register-nix-paths.enable = false;

  # Written by the server when it creates or copies an instance.
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
  # Do not look for a drive.
  services.cloud-init.settings.datasource.NoCloud.fs_label = null;
}
