{
  description = "lnplay.live in a box: private Lightning networks, sold by the hour";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgs = eachSystem (system: nixpkgs.legacyPackages.${system});
      # Arguments of the files in nixos/: nixpkgs for one system, this flake, and the flake's nixpkgs.
      load =
        path:
        eachSystem (
          system:
          import path {
            inherit self nixpkgs lib;
            pkgs = pkgs.${system};
          }
        );
    in
    {
      packages = load ./nixos/packages.nix;
      checks = load ./nixos/checks.nix;
      devShells = load ./nixos/dev-shell.nix;
      apps = load ./nixos/apps.nix;
      formatter = eachSystem (system: pkgs.${system}.nixfmt-tree);

      nixosModules = import ./nixos/modules { inherit self; };
      nixosConfigurations = import ./nixos/configurations.nix { inherit self nixpkgs; };
    };
}
