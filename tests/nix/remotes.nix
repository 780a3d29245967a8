# The settings of a remote are generated in two places: here when a system is built, and by lnplaylive-user-data when an AWS
# instance starts. Both are held to the cases in remotes.json; crates/user-data/tests/documents.rs has the other half.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  shop = import ./shop.nix { inherit self nixpkgs pkgs; };

  rendered =
    case:
    let
      domain = case.domain or null;
      config = shop {
        inherit domain;
        frontend.enable = domain != null;
        remotes.${case.name} = {
          inherit (case) settings;
        }
        // (
          if case.access == "token" then
            { tokenFile = "/run/secrets/token"; }
          else
            {
              certFile = "/run/lnplaylive/${case.name}.crt";
              keyFile = "/run/secrets/key";
            }
        );
      };
      inherit (config.services.lnplaylive) images;
      anywhere = lib.replaceStrings (map (kind: "${images.${kind}}") (lib.attrNames images)) (
        map (kind: "IMAGES/${kind}") (lib.attrNames images)
      );
    in
    lib.mapAttrs (_: value: if lib.isString value then anywhere value else value) (
      lib.head config.services.lnplaylive.settings.remotes
    );

  judge =
    case:
    let
      got = builtins.unsafeDiscardStringContext (builtins.toJSON (rendered case));
    in
    lib.throwIf (
      got != builtins.toJSON case.rendered
    ) "remote ${case.name} is rendered as ${got}" case.name;
in
pkgs.writeText "lnplaylive-remotes" (
  lib.concatMapStringsSep "\n" judge (lib.importJSON ./remotes.json)
)
