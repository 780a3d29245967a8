# A host on this machine alone, for trying its units where they are not built: a regtest network, and a remote on loopback.
{ nixpkgs }:
let
  inherit (import ../nix/load.nix { inherit nixpkgs; }) self lib;
  inherit
    (lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          system.stateVersion = "26.05";
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = "none";
            fsType = "tmpfs";
          };
          services.lnplaylive = {
            enable = true;
            network = "regtest";
            domain = "shop.example";
            frontend.enable = true;
            metrics.enable = true;
            remotes.here = {
              tokenFile = "/run/secrets/here";
              settings = {
                url = "https://127.0.0.1:8443";
                instance_type = "container";
              };
            };
          };
          services.caddy.globalConfig = "local_certs";
        }
      ];
    })
    config
    ;
  names = import ../nix/unit-names.nix { inherit lib config; };
  units = lib.genAttrs names (name: config.systemd.units.${name}.text);
  directories = lib.filterAttrs (_: kind: kind != null) (
    lib.concatMapAttrs (_: lib.mapAttrs (_: kinds: kinds.d or null)) config.systemd.tmpfiles.settings
  );
  users = lib.filterAttrs (_: user: lib.elem user.name [ "bitcoin" "caddy" "clightning" ]) config.users.users;
in
{
  inherit units directories;
  users = lib.mapAttrs' (_: user: lib.nameValuePair user.name user.group) users;
  groups = [
    "bitcoin-rpc"
    "lnplaylive-public"
  ];
  inherit (config.services.lnplaylive) settings configFile;
  caddyfile = "${config.services.caddy.configFile}";
  # What has to be built for it: scripts and configuration files are among that.
  derivations = lib.attrNames (
    lib.foldl' (all: text: all // builtins.getContext text) { } (
      lib.attrValues units ++ [ "${config.services.caddy.configFile}" ]
    )
  );
}
