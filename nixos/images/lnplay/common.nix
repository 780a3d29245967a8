# What container and virtual machine images have in common.
{
  # Instances are never rebuilt: neither nixpkgs nor a configuration goes with them.
  system.installer.channel.enable = false;
  installer.cloneConfig = false;
}
