# What is checked outside of Nix, as JSON: the host's units and how their directories are made, and the tests' scripts.
{ nixpkgs }:
let
  inherit (import ./load.nix { inherit nixpkgs; }) self lib;
  inherit (self.nixosConfigurations.lnplaylive) config;
  system = "x86_64-linux";
  names = import ./unit-names.nix { inherit lib config; };
  tests = lib.filterAttrs (name: _: lib.hasPrefix "vm-" name) self.checks.${system};
in
{
  units = lib.genAttrs names (name: config.systemd.units.${name}.text);
  # Directories that are made at boot: owner, group and mode of each.
  directories = lib.concatMapAttrs (_: lib.mapAttrs (_: kinds: kinds.d or null)) config.systemd.tmpfiles.settings;
  scripts = lib.mapAttrs (_: test: {
    script = test.config.testScriptString;
    machines = lib.attrNames test.nodes;
  }) tests;
}
