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
  # Every unit that the system has of NixOS' making, with the links to it.
  system = lib.mapAttrs (_: unit: {
    inherit (unit)
      aliases
      overrideStrategy
      requiredBy
      text
      wantedBy
      ;
  }) (lib.filterAttrs (_: unit: unit.enable && unit.text != null) config.systemd.units);
  # Directories that are made at boot: owner, group and mode of each.
  directories = lib.concatMapAttrs (
    _: lib.mapAttrs (_: kinds: kinds.d or null)
  ) config.systemd.tmpfiles.settings;
  scripts = lib.mapAttrs (_: test: {
    script = test.config.testScriptString;
    machines = lib.attrNames test.nodes;
  }) tests;
}
