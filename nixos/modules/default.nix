# The flake's modules, with our packages as defaults.
{ self }:
let
  ours = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
in
{
  # The host: bitcoind, Core Lightning with our plugin, web shop, culler.
  default =
    { lib, pkgs, ... }:
    {
      key = "lnplaylive#host";
      imports = [
        ./clightning.nix
        ./lnplaylive
      ];
      services.lnplaylive = {
        package = lib.mkDefault (ours pkgs).lnplaylive;
        frontend.site = lib.mkDefault (ours pkgs).frontend-dist;
        images.container = lib.mkDefault (ours pkgs).lnplay-container-image;
        images.virtual-machine = lib.mkDefault (ours pkgs).lnplay-vm-image;
      };
    };

  # One environment: the system inside an instance on a remote.
  lnplay =
    { lib, pkgs, ... }:
    {
      key = "lnplaylive#environment";
      imports = [ ./lnplay.nix ];
      services.lnplay.package = lib.mkDefault (ours pkgs).lnplay;
    };

  # Core Lightning on its own.
  clightning = ./clightning.nix;
}
