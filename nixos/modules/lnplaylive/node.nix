# Core Lightning of the host, with our plugin, and the rune for the web shop.
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

  # What anybody may call, and of that order creation once a second at most. All holders of a rune spend its rate together, so
  # that a rate on the whole of it would slow down everybody's polls.
  restrictions = builtins.toJSON [
    [ "method^lnplaylive-" ]
    [
      "method/lnplaylive-createorder"
      "rate=60"
    ]
  ];

  makeRune = pkgs.writeShellScript "lnplaylive-rune" ''
    set -euo pipefail
    # Each file whole or not at all.
    put() { cat >"$1.new" && mv "$1.new" "$1"; }

    id=$(lightning-cli getinfo | jq --exit-status --raw-output .id)
    # It is made again only when this node does not know it: another node's, or taken back.
    if ! { [ -s rune ] && [ "$(cat restrictions 2>/dev/null)" = "$RESTRICTIONS" ] &&
      lightning-cli --keywords showrunes "rune=$(cat rune)" 2>/dev/null |
        jq --exit-status '.runes[0] | (.stored // true) and (.our_rune // true) and (.blacklisted // false | not)' >/dev/null; }
    then
      lightning-cli --keywords createrune "restrictions=$RESTRICTIONS" | jq --exit-status --raw-output .rune | put rune
      printf %s "$RESTRICTIONS" | put restrictions
    fi
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
      description = "The web shop's rune";
      wantedBy = [ "multi-user.target" ];
      wants = [ "clightning.service" ];
      after = [ "clightning.service" ];
      path = [
        node.cli
        pkgs.coreutils
        pkgs.jq
      ];
      environment.RESTRICTIONS = restrictions;
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
        ExecStart = makeRune;
        TimeoutStartSec = "2min";
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
