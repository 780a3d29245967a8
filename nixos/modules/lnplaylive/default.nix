# The host: a node that sells environments, and the web shop in front of it.
#
# Each part is a service with access to only what it needs:
#
#   service                access to                                      writes
#   bitcoind-synchronised  bitcoind's RPC                                 -
#   clightning             RPC socket, LXD client key, key of tickets     route table and products, for the frontend
#   lnplaylive-rune        RPC socket                                     the public rune, for the frontend
#   lnplaylive-ticket-key  -                                              the key of tickets
#   lnplaylive-frontend    route table, products, rune, key of tickets    -
#   lnplaylive-culler      a copy of the LXD client key                   -
#   lnplaylive-backup      copies of the node's key, RPC socket           times of the uploads
#   caddy                  certificates                                   -
{ config, lib, ... }:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplaylive;
in
{
  imports = [
    ./backup.nix
    ./bitcoind.nix
    ./culler.nix
    ./frontend.nix
    ./metrics.nix
    ./monitoring.nix
    ./node.nix
    ./settings.nix
  ];

  options.services.lnplaylive = {
    enable = mkEnableOption "a shop that sells Lightning networks by the hour";

    package = mkOption {
      type = types.package;
      description = "The package with the shop's programs.";
    };

    network = mkOption {
      type = types.enum [
        "bitcoin"
        "signet"
        "regtest"
      ];
      default = "bitcoin";
      description = "The network on which buyers pay.";
    };

    domain = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "shop.example";
      description = ''
        The domain name that points to this host. Without one, the web shop is reachable only from this machine, as localhost
        and with a self-signed certificate.
      '';
    };

    email = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "E-mail address for messages of the certificate authority.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/etc/lnplaylive.env";
      description = ''
        A file with environment variables, read when a service starts. They override the corresponding options:

        - `DEPLOY_LNPLAYLIVE_FRONTEND`: `true` turns on the web shop and Caddy
        - `SHOP_DOMAIN`, `ACME_OPTIONS` (`email someone@shop.example`)
        - `BITCOIN_CHAIN` (`main`, `signet`, `regtest`) and `LIGHTNING_NETWORK` (`bitcoin`, `signet`, `regtest`)
        - `BACKUP_…`: see {option}`services.lnplaylive.backup`
        - `LNPLAYLIVE_…`: settings of our programs
      '';
    };

    stateDir = mkOption {
      type = types.path;
      default = "/var/lib";
      description = "Directory for all state that must outlive the machine: chain, node, certificates.";
    };

    publicDir = mkOption {
      type = types.path;
      readOnly = true;
      default = "${cfg.stateDir}/lnplaylive";
      defaultText = lib.literalExpression ''"''${config.services.lnplaylive.stateDir}/lnplaylive"'';
      description = "Directory for what the node shares with the web shop: rune, node id, key of tickets, route table, products.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Opens the ports for other nodes (9735) and for the web shop (80, 443).";
    };
  };

  config = lib.mkIf cfg.enable {
    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [
        80
        443
        9735
      ];
    };
    # Open connections: by client, by network and in total. The web shop's are those that Caddy's memory is for.
    networking.nftables = lib.mkIf cfg.openFirewall {
      enable = lib.mkDefault true;
      tables.lnplaylive = {
        family = "inet";
        content =
          let
            inherit (cfg.settings.frontend) limits;
            numbers = {
              per_client = limits.connections_per_client;
              per_network = limits.connections_per_network;
              total = limits.connections + limits.node_sockets.total + limits.environment_sockets.total;
              peers_per_client = 16;
              peers_per_network = 64;
              peers_total = 2048;
            };
          in
          lib.replaceStrings (map (name: "@${name}@") (lib.attrNames numbers)) (map toString (
            lib.attrValues numbers
          )) (builtins.readFile ./connections.nft);
      };
    };

    # Members may read what is meant for the web shop.
    users.groups.lnplaylive-public = { };
    # Set-group-ID: files in it belong to that group, whoever creates them.
    systemd.tmpfiles.settings.lnplaylive.${cfg.publicDir}.d = {
      user = config.services.clightning.user;
      group = "lnplaylive-public";
      mode = "2750";
    };
  };
}
