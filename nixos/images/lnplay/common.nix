# What container and virtual machine images have in common.
{ pkgs, ... }:
let
  # Where cloud-init's NoCloud looks: LXD's own source wants /dev/lxd/sock, and Incus has none.
  seed = "/var/lib/cloud/seed/nocloud-net";
in
{
  # Instances are never rebuilt: neither nixpkgs nor a configuration goes with them.
  system.installer.channel.enable = false;
  installer.cloneConfig = false;

  # Written by the server when it makes or copies an instance; in a virtual machine, by its agent.
  virtualisation.lxc.templates = {
    hostname = {
      enable = true;
      target = "/etc/hostname";
      template = pkgs.writeText "hostname.tpl" "{{ container.name }}\n";
      when = [
        "create"
        "copy"
      ];
    };
    meta-data = {
      enable = true;
      target = "${seed}/meta-data";
      template = pkgs.writeText "meta-data.tpl" ''
        instance-id: {{ container.name }}
        local-hostname: {{ container.name }}
      '';
      when = [
        "create"
        "copy"
      ];
    };
    user-data = {
      enable = true;
      target = "${seed}/user-data";
      template = pkgs.writeText "user-data.tpl" ''{{ config_get("user.user-data", properties.default) }}'';
      when = [
        "create"
        "copy"
      ];
      properties.default = "#cloud-config\n{}\n";
    };
  };
}
