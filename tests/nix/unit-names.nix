# Which of a host's units are ours: those of our modules, and those of nixpkgs that our modules harden.
{ lib, config }:
lib.filter (
  name:
  lib.any (prefix: lib.hasPrefix prefix name) [
    "bitcoind-lnplaylive"
    "bitcoind-synchronised"
    "caddy."
    "clightning"
    "lnplaylive"
    "state.mount"
  ]
) (lib.attrNames config.systemd.units)
