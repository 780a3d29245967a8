# The host as an image for EC2. It reads its settings at boot from user-data (see ../user-data.example) and never rebuilds itself:
# a new version is a new image. Chain, node and certificates are on a separate volume and outlive the instance.
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
  # On the root disk, which is not the disk of the node.
  services.clightning.backup.directory = "/var/backup/clightning";

  assertions = [
    {
      assertion = cfg.frontend.enable -> cfg.domain != null;
      message = "services.lnplaylive.domain: the web shop on AWS needs a domain, to get a certificate for it";
    }
  ];

  # It would run user-data that begins with #! as root, and treat any other user-data as a NixOS configuration to switch to.
  virtualisation.amazon-init.enable = false;
  # Log in with SSH, with the key pair that the instance was launched with.
  services.amazon-ssm-agent.enable = lib.mkForce false;
  services.openssh.settings = {
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
  };
  networking.firewall.allowedTCPPorts = [ 22 ];

  # Room for the closure, including the images for remotes. The root disk grows to the size of its volume at boot.
  virtualisation.diskSize = "auto";
  image.baseName = "lnplaylive-${cfg.package.version}-${pkgs.stdenv.hostPlatform.system}";

  # The build of nixpkgs adds a channel, for systems that are rebuilt in place.
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
      # Metadata for publish-aws-image.
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

  # Nothing is evaluated or built on an instance.
  nix.enable = false;
  documentation.enable = false;
  system.stateVersion = "26.05";
}
