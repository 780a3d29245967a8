# The host's units as files, for systemd-analyze: DIR/NAME for each, and DIR/ours with the names of those that are ours.
{
  self,
  lib,
  pkgs,
}:
let
  inherit (self.nixosConfigurations.lnplaylive) config;
  names = import ./unit-names.nix { inherit lib config; };
in
pkgs.runCommand "lnplaylive-units" { nativeBuildInputs = [ pkgs.systemd ]; } ''
  mkdir units
  ${lib.concatMapStrings (name: ''
    cp ${config.systemd.units.${name}.unit}/${name} units/
  '') names}
  for unit in units/*.service; do
    systemd-analyze security --offline=true --threshold=25 $unit
  done
  touch $out
''
