# The host as it runs on AWS, for being started without being built.
{ nixpkgs }:
let
  inherit (import ../nix/load.nix { inherit nixpkgs; }) self lib;
  inherit
    (self.nixosConfigurations.lnplaylive.extendModules {
      modules = [
        ../store/debian.nix
        ./root.nix
        # No certificate authority of the internet would believe that this is shop.example.
        { services.caddy.globalConfig = "local_certs"; }
        # nixpkgs' filter fits its own dhcpcd; it kills Debian's, which is newer.
        { systemd.services.dhcpcd.serviceConfig.SystemCallFilter = lib.mkForce [ ]; }
      ];
    })
    config
    ;
  inherit (config.system.build) toplevel;
in
{
  drv = builtins.unsafeDiscardOutputDependency toplevel.drvPath;
  toplevel = builtins.unsafeDiscardStringContext toplevel.outPath;
  bitcoinCli = builtins.unsafeDiscardStringContext "${config.services.lnplaylive.bitcoind.package}/bin/bitcoin-cli";
  inherit (config.boot) kernelParams;
}
