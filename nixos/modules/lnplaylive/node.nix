# Core Lightning on the host, with our plugin, and the web shop's runes.
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
  unitLimits = import ../limits.nix;

  # The public runes. Orders have a rune of their own because a rate limit is shared by all holders of a rune, and every use
  # of a rune counts: with a single rune, each request for the prices would delay orders.
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
    # Replaces a file atomically.
    put() { cat >"$1.new" && mv "$1.new" "$1"; }

    # Creates a rune, unless this node already knows the stored one and has not revoked it.
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
      # The plugin hands environments over via SSH.
      path = [ config.programs.ssh.package ];
      serviceConfig = {
        ReadWritePaths = [ cfg.publicDir ];
      }
      // unitLimits.clightning cfg.settings.frontend.limits;
    };

    systemd.services.lnplaylive-rune = {
      description = "Create the web shop's runes";
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
        # The node may take long to start.
        StartLimitIntervalSec = 0;
      };
      serviceConfig = hardening.base // {
        Type = "oneshot";
        RemainAfterExit = true;
        User = node.user;
        Group = node.user;
        WorkingDirectory = cfg.publicDir;
        ReadWritePaths = [ cfg.publicDir ];
        # Readable for the frontend's group.
        UMask = "0027";
        ExecStart = makeRunes;
        TimeoutStartSec = "2min";
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
