# A host in a container on this machine alone, for trying its units where they are not built: a regtest network, and a remote on
# loopback.
{ nixpkgs }:
let
  inherit (import ../nix/load.nix { inherit nixpkgs; }) self lib;
  inherit
    (lib.nixosSystem {
      modules = [
        self.nixosModules.default
        ../store/debian.nix
        ./storage.nix
        ./operator.nix
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          system.stateVersion = "26.05";
          boot.isContainer = true;
          nix.enable = false;
          documentation.enable = false;
          networking = {
            hostName = "host";
            useDHCP = false;
            useHostResolvConf = false;
            firewall.enable = false;
          };
          services.lnplaylive = {
            enable = true;
            network = "regtest";
            domain = "shop.example";
            frontend.enable = true;
            # With an operator who is told by a webhook.
            monitoring = {
              enable = true;
              webhookUrlFile = "/run/secrets/alert-webhook";
            };
            remotes.here = {
              tokenFile = "/run/secrets/here";
              settings = {
                url = "https://127.0.0.1:8443";
                instance_type = "container";
              };
            };
          };
          services.caddy.globalConfig = "local_certs";

          # It has no console.
          systemd.services.console-getty.enable = false;

          # Simulated, with programs of the test's own.
          systemd.services.remote = {
            requiredBy = [ "clightning.service" ];
            before = [ "clightning.service" ];
            environment.HOME = "/var/lib/remote";
            path = [ "/test" ];
            serviceConfig = {
              StateDirectory = "remote";
              WorkingDirectory = "/var/lib/remote";
              ExecStart = "/test/bin/lnplaylive-demo remote --listen 127.0.0.1:8443";
              StandardOutput = "truncate:/run/remote.announcement";
              StandardError = "journal";
            };
            postStart = ''
              until [ -s /run/remote.announcement ]; do sleep 0.2; done
              umask 077
              mkdir -p /run/secrets
              /test/bin/jq -r .token /run/remote.announcement >/run/secrets/here
            '';
          };
        }
      ];
    })
    config
    ;
  inherit (config.system.build) toplevel;
in
{
  drv = builtins.unsafeDiscardOutputDependency toplevel.drvPath;
  toplevel = builtins.unsafeDiscardStringContext toplevel.outPath;
}
