# What container and virtual machine images have in common.
{ pkgs, ... }:
{
  # Instances are never rebuilt: neither nixpkgs nor a configuration goes with them.
  system.installer.channel.enable = false;
  installer.cloneConfig = false;

  # Written by the server when it makes or copies a container; in a virtual machine by its agent, and nothing depends on it.
  virtualisation.lxc.templates.hostname = {
    enable = true;
    target = "/etc/hostname";
    template = pkgs.writeText "hostname.tpl" "{{ container.name }}\n";
    when = [
      "create"
      "copy"
    ];
  };
}
