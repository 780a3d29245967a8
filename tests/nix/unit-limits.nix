# The limits of the host's units against the sockets that the web shop's server lets in: with the defaults, and with others.
{
  self,
  nixpkgs,
  lib,
  pkgs,
}:
let
  shop = import ./shop.nix { inherit self nixpkgs pkgs; };

  unitsWith =
    limits:
    let
      config = shop { settings.frontend = { inherit limits; }; };
    in
    {
      caps = config.services.lnplaylive.settings.frontend.limits;
      units = lib.mapAttrs (_: service: service.serviceConfig) config.systemd.services;
    };
  mebibytes = text: lib.toInt (lib.removeSuffix "M" text);

  # lightningd's plugins and their threads, seen on a running shop, and room for 64 channels and for bitcoin-cli.
  nodeTasks = 24 + 512 + 64 + 16;

  judge =
    name: limits:
    let
      evaluated = unitsWith limits;
      inherit (evaluated) caps units;
      relays = caps.node_sockets.total + caps.environment_sockets.total;
      rules = {
        # connectd forks a process for each WebSocket, which may outlive it for a moment.
        "clightning: tasks" = units.clightning.TasksMax >= nodeTasks + 2 * caps.node_sockets.total;
        "clightning: memory" = mebibytes units.clightning.MemoryMax >= 1024 + 4 * caps.node_sockets.total;
        "frontend: files" = units.lnplaylive-frontend.LimitNOFILE >= caps.connections + 2 * relays;
        "frontend: memory" =
          mebibytes units.lnplaylive-frontend.MemoryMax >= 128 + relays / 64 + 2 * caps.card_requests.total;
        "frontend: tasks" = units.lnplaylive-frontend.TasksMax >= 512 + 16;
        "caddy: memory" = mebibytes units.caddy.MemoryMax >= 128 + relays / 16;
        "the node comes first" =
          units.clightning.CPUWeight > 100
          && units.lnplaylive-frontend.CPUWeight < 100
          && units.caddy.CPUWeight < 100;
      };
      broken = lib.attrNames (lib.filterAttrs (_: holds: !holds) rules);
    in
    lib.throwIf (broken != [ ]) "${name}: ${lib.concatStringsSep "; " broken}" "${name}: room enough";
in
pkgs.writeText "lnplaylive-unit-limits" (
  lib.concatLines (
    lib.mapAttrsToList judge {
      defaults = { };
      more = {
        connections = 20000;
        node_sockets.total = 4000;
        environment_sockets.total = 10000;
        card_requests.total = 100;
      };
    }
  )
)
