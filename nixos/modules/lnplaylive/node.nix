# Core Lightning of the host, with our plugin, and the runes for the web shop.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.lnplaylive;
  node = config.services.clightning;
  hardening = import ../hardening.nix;

  # What anybody may call. Orders have a rune of their own, with a rate: all holders of a rune spend its rate together, and
  # whatever a rune is used for counts as its last use, so with one for both a look at the prices would put off orders.
  runes = {
    rune = builtins.toJSON [
      [ "method^lnplaylive-" ]
      [ "method/lnplaylive-createorder" ]
    ];
    order_rune = builtins.toJSON [
      [ "method=lnplaylive-createorder" ]
      [ "rate=60" ]
    ];
  };

  makeRunes = pkgs.writeShellScript "lnplaylive-rune" ''
    set -euo pipefail
    # Each file whole or not at all.
    put() { cat >"$1.new" && mv "$1.new" "$1"; }

    # It is made again only when this node does not know it: another node's, or taken back.
    make() {
      local name=$1 restrictions=$2
      if ! { [ -s "$name" ] && [ "$(cat "$name.restrictions" 2>/dev/null)" = "$restrictions" ] &&
        lightning-cli --keywords showrunes "rune=$(cat "$name")" 2>/dev/null |
          jq --exit-status '.runes[0] | (.stored // true) and (.our_rune // true) and (.blacklisted // false | not)' >/dev/null; }
      then
        lightning-cli --keywords createrune "restrictions=$restrictions" | jq --exit-status --raw-output .rune | put "$name"
        printf %s "$restrictions" | put "$name.restrictions"
      fi
    }

    id=$(lightning-cli getinfo | jq --exit-status --raw-output .id)
    ${lib.concatLines (
      lib.mapAttrsToList (name: restrictions: "make ${name} ${lib.escapeShellArg restrictions}") runes
    )}
    echo "$id" | put node_id
  '';
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = node.network == cfg.network;
        message = "services.clightning.network is ${node.network} and services.lnplaylive.network is ${cfg.network}: the node must be on its bitcoind's network";
      }
    ];

    services.clightning = {
      enable = true;
      network = lib.mkDefault cfg.network;
      dataDir = "${cfg.stateDir}/clightning";
      plugins = [ "${cfg.package}/bin/lnplaylive-plugin" ];
      settings.lnplaylive-config = cfg.configFile;
      inherit (cfg) environmentFile credentials;
    };

    systemd.services.clightning = {
      # For the SSH connections by which it hands environments over.
      path = [ config.programs.ssh.package ];
      serviceConfig.ReadWritePaths = [ cfg.publicDir ];
    };

    systemd.services.lnplaylive-rune = {
      description = "The web shop's runes";
      wantedBy = [ "multi-user.target" ];
      wants = [ "clightning.service" ];
      after = [ "clightning.service" ];
      path = [
        node.cli
        pkgs.coreutils
        pkgs.jq
      ];
      unitConfig = {
        RequiresMountsFor = [ cfg.publicDir ];
        # The node may be a long time coming.
        StartLimitIntervalSec = 0;
      };
      serviceConfig = hardening.base // {
        Type = "oneshot";
        RemainAfterExit = true;
        User = node.user;
        Group = node.user;
        WorkingDirectory = cfg.publicDir;
        ReadWritePaths = [ cfg.publicDir ];
        # For the frontend's group to read.
        UMask = "0027";
        ExecStart = makeRunes;
        TimeoutStartSec = "2min";
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
