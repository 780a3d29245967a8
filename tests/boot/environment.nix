# The environment's image for virtual machines, for being started without being built.
{ nixpkgs }:
let
  inherit (import ../nix/load.nix { inherit nixpkgs; }) self lib;
  inherit
    (
      (import ../../nixos/systems.nix {
        inherit self;
        nixpkgs = { inherit lib; };
        system = "x86_64-linux";
      }).vm.extendModules
      {
        modules = [
          ../store/debian.nix
          ./root.nix
          {
            # QEMU loads the kernel.
            fileSystems."/boot".enable = false;
            boot.loader = {
              grub.enable = false;
              systemd-boot.enable = lib.mkForce false;
            };
            # Debian's kernel for clouds knows no CD drives: the seed is on a disk.
            boot.kernelModules = lib.mkForce [ "isofs" ];
            # What nixpkgs' cloud-init calls NixOS, Debian's does not know. Nothing of it differs here.
            services.cloud-init.settings.system_info.distro = lib.mkForce "debian";
            # Debian has it in a package that excludes openresolv, which the host has. Nothing of ours looks names up.
            services.resolved.enable = false;
            # Without a server there is none to talk to.
            virtualisation.incus.agent.enable = false;
          }
        ];
      }
    )
    config
    ;
  inherit (config.system.build) toplevel;
in
{
  drv = builtins.unsafeDiscardOutputDependency toplevel.drvPath;
  toplevel = builtins.unsafeDiscardStringContext toplevel.outPath;
  inherit (config.boot) kernelParams;
}
