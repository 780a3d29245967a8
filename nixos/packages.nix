# Our programs, the web shop's files, and the images.
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

  # A directory with the files for a remote's `image_metadata_file` and `image_rootfs_file`.
  imageFiles =
    name: metadata: rootfs:
    pkgs.runCommand name { } ''
      mkdir $out
      ln -s ${metadata}/tarball/*.tar.xz $out/metadata.tar.xz
      ln -s ${rootfs} $out/rootfs
    '';

  # Copies of some of the workspace's programs. The rest of the workspace must not reach an image.
  programs =
    name: mainProgram: list:
    pkgs.runCommand "${name}-${rust.version}"
      {
        inherit (rust) version;
        disallowedReferences = [ rust.workspace ];
        meta = {
          inherit (rust.workspace.meta) description license platforms;
          inherit mainProgram;
        };
      }
      ''
        install -D --target-directory $out/bin ${
          lib.concatMapStringsSep " " (program: "${rust.workspace}/bin/${program}") list
        }
      '';
in
rec {
  default = lnplaylive;

  # The programs of the host.
  lnplaylive = programs "lnplaylive" "lnplaylive-plugin" [
    "lnplaylive-plugin"
    "lnplaylive-frontend"
    "lnplaylive-culler"
    "lnplaylive-user-data"
  ];

  # The only program that an instance needs.
  lnplay = programs "lnplay" "lnplay" [ "lnplay" ];

  # For development: the demo, with everything that it starts next to it.
  inherit (rust) workspace;

  # The committed build. Nix cannot build it, because the lock file of its source has no download URLs. `tests/run` checks that
  # the source builds the same files.
  frontend-dist = pkgs.runCommand "lnplaylive-frontend-dist-${rust.version}" { } ''
    cp -r ${rust.frontendDist}/frontend-dist $out
  '';

  lnplay-container-image =
    imageFiles "lnplay-container-image" systems.container.metadata
      "${systems.container.squashfs}/*.squashfs";
  lnplay-vm-image =
    imageFiles "lnplay-vm-image" systems.vm.metadata
      "${systems.vm.qemuImage}/nixos.qcow2";

  # A disk image, with nix-support/image-info.json next to it.
  aws-image = systems.host.image;
}
