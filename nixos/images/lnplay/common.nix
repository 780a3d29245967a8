# Settings for both container and virtual machine images.
{ pkgs, ... }:
{
  # Instances are never rebuilt, so the images contain neither nixpkgs nor a configuration.
  system.installer.channel.enable = false;
  installer.cloneConfig = false;

  # Written by the server when it creates or copies a container, or by the agent in a virtual machine. Nothing depends on it.
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
