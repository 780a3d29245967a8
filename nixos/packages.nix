# Our programs, the web shop's files, and the images made of them.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  rust = import ./rust.nix { inherit lib pkgs; };

  systems = lib.mapAttrs (_: built: built.config.system.build) (
    import ./systems.nix { inherit self nixpkgs system; }
  );

  # What `image_metadata_file` and `image_rootfs_file` of a remote name.
  imageFiles =
    name: metadata: rootfs:
    pkgs.runCommand name { } ''
      mkdir $out
      ln -s ${metadata}/tarball/*.tar.xz $out/metadata.tar.xz
      ln -s ${rootfs} $out/rootfs
    '';
in
{
  inherit (rust) lnplaylive;
  default = rust.lnplaylive;

  # The one program that an instance needs: nothing of the host's goes into its image.
  lnplay = pkgs.runCommand "lnplay-${rust.version}" { meta.mainProgram = "lnplay"; } ''
    install -D ${rust.lnplaylive}/bin/lnplay $out/bin/lnplay
  '';

  # As it is committed: the lock file of its source names no download addresses, so Nix cannot build it. That it is what the
  # source builds is checked by `tests/run`.
  frontend-dist = pkgs.runCommand "lnplaylive-frontend-dist-${rust.version}" { } ''
    cp -r ${rust.frontendDist}/frontend-dist $out
  '';

  lnplay-container-image =
    imageFiles "lnplay-container-image" systems.container.metadata
      "${systems.container.squashfs}/*.squashfs";
  lnplay-vm-image =
    imageFiles "lnplay-vm-image" systems.vm.metadata
      "${systems.vm.qemuImage}/nixos.qcow2";

  # A disk, with nix-support/image-info.json beside it.
  aws-image = systems.host.image;
}
