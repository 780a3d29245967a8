# The NixOS systems of this flake, for one platform.
{
  self,
  nixpkgs,
  system,
}:
let
  make =
    modules:
    nixpkgs.lib.nixosSystem {
      modules = modules ++ [ { nixpkgs.hostPlatform = system; } ];
    };
in
{
  # The host, as it runs on AWS.
  host = make [
    self.nixosModules.default
    ./images/aws
  ];
  # One environment, as a container and as a virtual machine.
  container = make [
    self.nixosModules.lnplay
    ./images/lnplay/container.nix
  ];
  vm = make [
    self.nixosModules.lnplay
    ./images/lnplay/vm.nix
  ];
}
