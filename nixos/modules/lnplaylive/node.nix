# Core Lightning on the host, with our plugin, and what it shares with the web shop: the public rune and the key of tickets.
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

  # The public rune. It has no rate, because a rate is a spacing between the calls of all holders together, and a call counts even
  # if its parameters are wrong: whoever calls without pause would keep everybody else out. Orders are rationed by tickets instead.
  restrictions = builtins.toJSON [ [ "method^lnplaylive-" ] ];

  makeRune = pkgs.writeShellScript "lnplaylive-rune" ''
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
    make rune ${lib.escapeShellArg restrictions}
    echo "$id" | put node_id
  '';

  makeTicketKey = pkgs.writeShellScript "lnplaylive-ticket-key" ''
    set -euo pipefail
    if ! [ -s ticket_key ]; then
      od --address-radix=n --format=x1 --read-bytes=32 --output-duplicates /dev/urandom | tr -d ' \n' >ticket_key.new
      sync ticket_key.new
      mv ticket_key.new ticket_key
    fi
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

    systemd.services.lnplaylive-ticket-key = {
      description = "Create the key of the web shop's tickets";
      # The plugin reads it when the node starts.
      requiredBy = [ "clightning.service" ];
      wantedBy = [ "multi-user.target" ];
      before = [
        "clightning.service"
        "lnplaylive-frontend.service"
      ];
      path = [ pkgs.coreutils ];
      unitConfig.RequiresMountsFor = [ cfg.publicDir ];
      serviceConfig = hardening.base // {
        Type = "oneshot";
        RemainAfterExit = true;
        User = node.user;
        Group = node.user;
        WorkingDirectory = cfg.publicDir;
        ReadWritePaths = [ cfg.publicDir ];
        # Readable for the frontend's group, and nobody else.
        UMask = "0027";
        ExecStart = makeTicketKey;
      };
    };

    systemd.services.lnplaylive-rune = {
      description = "Create the web shop's rune";
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
        ExecStart = makeRune;
        TimeoutStartSec = "2min";
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
