# Evaluates the flake on a nixpkgs tree, without Nix copying either into its store: all outputs' derivations by name, which is
# quick because they have much in common; or the names alone; or one of them.
{
  nixpkgs,
  name ? null,
  names-only ? false,
}:
let
  inherit (import ./load.nix { inherit nixpkgs; }) self lib;
  system = "x86_64-linux";
  under = kind: suffix: map (output: "${kind}.${output}${suffix}") (lib.attrNames self.${kind});
  perSystem =
    kind: suffix:
    map (output: "${kind}.${system}.${output}${suffix}") (lib.attrNames self.${kind}.${system});
  names =
    perSystem "packages" ".drvPath"
    ++ perSystem "checks" ".drvPath"
    ++ perSystem "devShells" ".drvPath"
    ++ perSystem "apps" ".program"
    ++ under "nixosConfigurations" ".config.system.build.toplevel.drvPath"
    ++ [ "formatter.${system}.drvPath" ];
  value = name: lib.getAttrFromPath (lib.splitString "." name) self;
in
if names-only then
  names
else if name == null then
  lib.genAttrs names value
else
  value name
