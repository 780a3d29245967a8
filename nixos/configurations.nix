# One configuration of each kind, for `nixos-rebuild` and `nix repl`. The images for both platforms are packages.
{ self, nixpkgs }:
let
  systems = import ./systems.nix {
    inherit self nixpkgs;
    system = "x86_64-linux";
  };
in
{
  lnplaylive = systems.host;
  lnplay = systems.container;
}
