# Evaluates the flake on a nixpkgs tree, without Nix copying either into its store: the names of all outputs, or, given a name,
# that output's derivation.
{
  nixpkgs,
  name ? null,
}:
let
  inherit (import ./load.nix { inherit nixpkgs; }) self lib;
  system = "x86_64-linux";
  under = kind: suffix: map (output: "${kind}.${output}${suffix}") (lib.attrNames self.${kind});
  perSystem = kind: suffix: map (output: "${kind}.${system}.${output}${suffix}") (lib.attrNames self.${kind}.${system});
  names =
    perSystem "packages" ".drvPath"
    ++ perSystem "checks" ".drvPath"
    ++ perSystem "devShells" ".drvPath"
    ++ perSystem "apps" ".program"
    ++ under "nixosConfigurations" ".config.system.build.toplevel.drvPath"
    ++ [ "formatter.${system}.drvPath" ];
in
if name == null then names else lib.getAttrFromPath (lib.splitString "." name) self
