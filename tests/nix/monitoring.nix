# Monitoring: the rules fire when they should, rules and dashboard use metrics that there are, a host with all of it builds, and
# none of it can be reached from outside.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  inherit
    (nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        ../../nixos/images/aws
        {
          nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
          services.lnplaylive = import ./monitored.nix;
        }
      ];
    })
    config
    ;
  cfg = config.services;

  # Whoever may connect to one of these knows how much is sold, and what is owed.
  listeners = {
    "services.prometheus" = cfg.prometheus.listenAddress;
    "services.prometheus.alertmanager" = cfg.prometheus.alertmanager.listenAddress;
    "services.prometheus.exporters.node" = cfg.prometheus.exporters.node.listenAddress;
    "services.grafana" = cfg.grafana.settings.server.http_addr;
    "shop.metrics_listen" = cfg.lnplaylive.settings.shop.metrics_listen;
    "frontend.metrics_listen" = cfg.lnplaylive.settings.frontend.metrics_listen;
  };
  public = lib.filterAttrs (_: address: !lib.hasPrefix "127.0.0.1:" "${address}:") listeners;
  # Caddy leads to the web shop's server, and to nothing else.
  upstreams = lib.filter (lib.hasInfix "reverse_proxy") (
    lib.concatMap (host: lib.splitString "\n" host.extraConfig) (lib.attrValues cfg.caddy.virtualHosts)
  );
  wanted = "reverse_proxy ${cfg.lnplaylive.settings.frontend.listen}";
  foreign = lib.filter (line: lib.trim line != wanted) upstreams;

  source = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      ../../docs/operator.md
      ../../nixos/modules/lnplaylive/backup-metrics.sh
      ../../nixos/modules/lnplaylive/upload-metrics.sh
      ../../nixos/monitoring
      ../monitoring
    ];
  };
in
assert lib.assertMsg (public == { }) "not on loopback: ${builtins.toJSON public}";
assert lib.assertMsg (foreign == [ ]) "Caddy leads elsewhere: ${toString foreign}";
pkgs.runCommand "lnplaylive-monitoring"
  {
    nativeBuildInputs = [
      pkgs.prometheus.cli
      pkgs.python3
    ];
    inherit (config.system.build) toplevel;
  }
  ''
    cd ${source}
    bash tests/monitoring/check
    touch $out
  ''
