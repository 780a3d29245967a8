# The host as an image for EC2. What it is to be it learns at boot from its user-data (see ../user-data.example), which is the
# only thing to be changed: it never rebuilds itself. A new version is a new image; chain, node and certificates are on a
# volume of their own and outlive the instance.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:
let
  cfg = config.services.lnplaylive;
in
{
  imports = [
    "${modulesPath}/../maintainers/scripts/ec2/amazon-image.nix"
    ./state.nix
    ./user-data.nix
  ];

  services.lnplaylive = {
    enable = true;
    openFirewall = true;
    metrics.enable = true;
    stateDir = "/state";
  };
  # On the root disk: another one than the node's own.
  services.clightning.backup.directory = "/var/backup/clightning";

  assertions = [
    {
      assertion = cfg.frontend.enable -> cfg.domain != null;
      message = "services.lnplaylive.domain: the web shop on AWS needs one, because certificates are made out to it";
    }
  ];

  # Would run user-data that begins with #! as root, and rebuild the system from any other.
  virtualisation.amazon-init.enable = false;
  # Logging in is by SSH, with the key that the instance was started with.
  services.amazon-ssm-agent.enable = lib.mkForce false;
  services.openssh.settings = {
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
  };
  networking.firewall.allowedTCPPorts = [ 22 ];

  # Room for the images for remotes, and what else is in the closure; the root disk grows to its volume's size at boot.
  virtualisation.diskSize = "auto";
  image.baseName = "lnplaylive-${cfg.package.version}-${pkgs.stdenv.hostPlatform.system}";

  # nixpkgs' own build of this image carries a channel along, for a system that is rebuilt in place.
  system.build.amazonImage = lib.mkForce (
    import "${modulesPath}/../lib/make-disk-image.nix" {
      inherit config lib pkgs;
      inherit (config.amazonImage) contents format;
      inherit (config.image) baseName;
      inherit (config.virtualisation) diskSize;
      name = config.image.baseName;
      additionalSpace = "2G";
      fsType = "ext4";
      partitionTableType = if config.ec2.efi then "efi" else "legacy+gpt";
      copyChannel = false;
      # What the tool that registers the image wants to know of it.
      postVM = ''
        mkdir -p $out/nix-support
        echo "file ${config.amazonImage.format} $diskImage" >> $out/nix-support/hydra-build-products
        ${pkgs.jq}/bin/jq -n \
          --arg label ${lib.escapeShellArg config.system.nixos.version} \
          --arg system ${lib.escapeShellArg pkgs.stdenv.hostPlatform.system} \
          --arg logical_bytes "$(${pkgs.qemu_kvm}/bin/qemu-img info --output json "$diskImage" | ${pkgs.jq}/bin/jq '."virtual-size"')" \
          --arg boot_mode ${if config.ec2.efi then "uefi" else "legacy-bios"} \
          --arg file "$diskImage" \
          '$ARGS.named' > $out/nix-support/image-info.json
      '';
    }
  );

  # The image is the system: nothing is evaluated or built on it.
  nix.enable = false;
  documentation.enable = false;
  system.stateVersion = "26.05";
}
