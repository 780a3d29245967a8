# The host: a node that sells environments, and the web shop in front of it.
#
# The parts are services of their own, and know of each other what this table says:
#
#   clightning          RPC socket, LXD client key      writes the route table, for the frontend
#   lnplaylive-rune     RPC socket                      writes the public runes, for the frontend
#   lnplaylive-frontend route table and rune            -
#   lnplaylive-culler   copy of the LXD client key      -
#   caddy               certificates                    -
{ config, lib, ... }:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplaylive;
in
{
  imports = [
    ./bitcoind.nix
    ./culler.nix
    ./frontend.nix
    ./node.nix
    ./settings.nix
  ];

  options.services.lnplaylive = {
    enable = mkEnableOption "the shop for Lightning networks by the hour";

    package = mkOption {
      type = types.package;
      description = "Our programs.";
    };

    network = mkOption {
      type = types.enum [
        "bitcoin"
        "signet"
        "regtest"
      ];
      default = "bitcoin";
      description = "The network that buyers pay on.";
    };

    domain = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "shop.example";
      description = ''
        The name that leads to this host. Without one the front door is for this machine only: it calls itself localhost,
        with a certificate that nobody else trusts.
      '';
    };

    email = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Whom the certificate authority writes to.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/etc/lnplaylive.env";
      description = ''
        A file with environment variables, read when a service starts. They take precedence over the options of the same
        meaning:

        - `DEPLOY_LNPLAYLIVE_FRONTEND`: `true` switches the web shop and Caddy on
        - `SHOP_DOMAIN`, `ACME_OPTIONS` (`email someone@shop.example`)
        - `BITCOIN_CHAIN` (`main`, `signet`, `regtest`) and `LIGHTNING_NETWORK` (`bitcoin`, `signet`, `regtest`)
        - `LNPLAYLIVE_…`: settings of our programs
      '';
    };

    stateDir = mkOption {
      type = types.path;
      default = "/var/lib";
      description = "The directory below which chain, node, certificates and what else has to outlive the machine is kept.";
    };

    publicDir = mkOption {
      type = types.path;
      readOnly = true;
      default = "${cfg.stateDir}/lnplaylive";
      defaultText = lib.literalExpression ''"''${config.services.lnplaylive.stateDir}/lnplaylive"'';
      description = "What the node tells the web shop: rune, node id, route table.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Opens the ports for other nodes (9735) and for the web shop (80, 443).";
    };

    metrics.enable = mkEnableOption ''
      figures for Prometheus, on loopback: the machine's on port 9100, the web shop's on port 9101
    '';
  };

  config = lib.mkIf cfg.enable {
    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [
        80
        443
        9735
      ];
      allowedUDPPorts = [ 443 ];
    };

    # Whoever may read what is meant for the web shop.
    users.groups.lnplaylive-public = { };
    # Files in it belong to that group, whoever writes them.
    systemd.tmpfiles.settings.lnplaylive.${cfg.publicDir}.d = {
      user = config.services.clightning.user;
      group = "lnplaylive-public";
      mode = "2750";
    };

    services.prometheus.exporters.node = lib.mkIf cfg.metrics.enable {
      enable = true;
      listenAddress = "127.0.0.1";
      enabledCollectors = [ "systemd" ];
    };
  };
}
