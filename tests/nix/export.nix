# What is checked outside of Nix, as JSON: the host's units and how their directories are made, and the tests' scripts.
{ self, lib }:
let
  inherit (self.nixosConfigurations.lnplaylive) config;
  system = "x86_64-linux";
  names = import ./unit-names.nix { inherit lib config; };
  tests = lib.filterAttrs (name: _: lib.hasPrefix "vm-" name) self.checks.${system};
in
{
  units = lib.genAttrs names (name: config.systemd.units.${name}.text);
  tmpfiles = config.environment.etc."tmpfiles.d/00-nixos.conf".text or "";
  scripts = lib.mapAttrs (_: test: {
    script = test.config.testScriptString;
    machines = lib.attrNames test.nodes;
  }) tests;
}
