# The checks of `nix flake check`.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  rust = import ./rust.nix { inherit lib pkgs; };
  root = ../.;

  # Every file in tests/vm is a test with that name.
  files = lib.attrNames (
    lib.filterAttrs (name: kind: kind == "regular" && lib.hasSuffix ".nix" name) (
      builtins.readDir (root + "/tests/vm")
    )
  );
  virtualMachines = lib.listToAttrs (
    map (
      file:
      lib.nameValuePair "vm-${lib.removeSuffix ".nix" file}" (
        pkgs.testers.runNixOSTest (
          import (root + "/tests/vm/${file}") {
            inherit self nixpkgs;
            harness = import (root + "/tests/vm/harness") { inherit self lib; };
          }
        )
      )
    ) files
  );

  nixFiles = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") root;
  };
in
lib.mapAttrs' (name: lib.nameValuePair "package-${name}") self.packages.${system}
// virtualMachines
// {
  inherit (rust) clippy tests fmt;

  dev-shell = self.devShells.${system}.default;

  # Each assertion of the modules fires when it should, and only then.
  assertions = import (root + "/tests/nix/assertions.nix") {
    inherit
      self
      nixpkgs
      lib
      pkgs
      ;
  };

  # The settings of remotes are the same ones that lnplaylive-user-data writes.
  remotes = import (root + "/tests/nix/remotes.nix") {
    inherit
      self
      nixpkgs
      lib
      pkgs
      ;
  };

  # Each unit's limits leave room for the sockets that the web shop's server lets in.
  unit-limits = import (root + "/tests/nix/unit-limits.nix") {
    inherit
      self
      nixpkgs
      lib
      pkgs
      ;
  };

  # The alert rules fire when they should, and a host with all of the monitoring builds.
  monitoring = import (root + "/tests/nix/monitoring.nix") {
    inherit
      self
      nixpkgs
      lib
      pkgs
      ;
  };

  # The host's units: complete, and sandboxed well according to systemd-analyze.
  units = import (root + "/tests/nix/units.nix") { inherit self lib pkgs; };

  nix =
    pkgs.runCommand "lnplaylive-nix"
      {
        nativeBuildInputs = [
          pkgs.deadnix
          pkgs.nixfmt
          pkgs.statix
        ];
      }
      ''
        find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +
        deadnix --fail ${nixFiles}
        statix check --config ${root + "/statix.toml"} ${nixFiles}
        touch $out
      '';
}
