# The configuration of a host with these options of services.lnplaylive.
{
  self,
  nixpkgs,
  pkgs,
}:
options:
(nixpkgs.lib.nixosSystem {
  modules = [
    self.nixosModules.default
    {
      nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
      system.stateVersion = "26.05";
      services.lnplaylive = {
        enable = true;
      }
      // options;
    }
  ];
}).config
