# The web shop and its TLS front end. Both are always installed; a setting that is read at start decides whether they run.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkOption types;
  cfg = config.services.lnplaylive;
  hardening = import ../hardening.nix;
  unitLimits = import ../limits.nix;

  environmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
  # With ExecCondition a unit is skipped, and does not count as failed.
  ifDeployed = ''${pkgs.runtimeShell} -c '[ "$DEPLOY_LNPLAYLIVE_FRONTEND" = true ]' '';
  deploy = lib.boolToString cfg.frontend.enable;
  inherit (cfg.settings.frontend) listen limits;
in
{
  options.services.lnplaylive = {
    frontend = {
      enable = mkEnableOption ''
        the web shop and Caddy. `DEPLOY_LNPLAYLIVE_FRONTEND` in {option}`environmentFile` overrides this
      '';
      site = mkOption {
        type = types.package;
        description = "The web shop's built files.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.lnplaylive.settings.frontend = {
      listen = lib.mkDefault "127.0.0.1:3000";
      dist_dir = lib.mkDefault "${cfg.frontend.site}";
      node_id_file = "${cfg.publicDir}/node_id";
      rune_file = "${cfg.publicDir}/rune";
      ticket_key_file = "${cfg.publicDir}/ticket_key";
      products_file = "${cfg.publicDir}/products.json";
      routes_file = "${cfg.publicDir}/routes.json";
      lightning_websocket = config.services.clightning.websocket;
      trusted_proxies = [
        "127.0.0.1/32"
        "::1/128"
      ];
      # The services' own limits are computed from these, which are the server's defaults.
      limits = {
        connections = lib.mkDefault 8192;
        connections_per_client = lib.mkDefault 512;
        connections_per_network = lib.mkDefault 1024;
        node_sockets = lib.mapAttrs (_: lib.mkDefault) {
          total = 256;
          per_client = 16;
          per_network = 32;
        };
        environment_sockets = lib.mapAttrs (_: lib.mkDefault) {
          total = 6144;
          per_client = 384;
          per_network = 768;
        };
        card_requests = lib.mapAttrs (_: lib.mkDefault) {
          total = 16;
          per_client = 1;
          per_network = 4;
        };
      };
    };

    systemd.services.lnplaylive-frontend = {
      description = "Web shop";
      wantedBy = [ "multi-user.target" ];
      # It does not wait for node id and rune, but reads them once they exist.
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      environment.DEPLOY_LNPLAYLIVE_FRONTEND = deploy;
      unitConfig.RequiresMountsFor = [ cfg.publicDir ];
      serviceConfig =
        hardening.base
        # Its gateway connects to nodes on the remotes.
        // hardening.internet
        // {
          Type = "notify";
          DynamicUser = true;
          SupplementaryGroups = [ "lnplaylive-public" ];
          EnvironmentFile = environmentFile;
          ExecCondition = ifDeployed;
          ExecStart = "${cfg.package}/bin/lnplaylive-frontend --config ${cfg.configFile}";
          Restart = "always";
          RestartSec = 5;
        }
        // unitLimits.frontend limits;
    };

    services.caddy = {
      enable = true;
      dataDir = "${cfg.stateDir}/caddy";
      # Nobody changes its configuration at run time.
      enableReload = false;
      globalConfig = ''
        admin off
        {$ACME_OPTIONS}
        ${builtins.readFile ./caddy-servers}      '';
      virtualHosts."{$SHOP_DOMAIN}" = {
        # Request paths contain order ids.
        logFormat = "output discard";
        extraConfig = ''
          tls {
            protocols tls1.3
          }
          reverse_proxy ${listen}
        '';
      };
    };

    systemd.tmpfiles.settings.lnplaylive-caddy.${config.services.caddy.dataDir}.d = {
      inherit (config.services.caddy) user group;
      mode = "0700";
    };

    systemd.services.caddy = {
      after = [ "lnplaylive-frontend.service" ];
      environment = {
        DEPLOY_LNPLAYLIVE_FRONTEND = deploy;
        SHOP_DOMAIN = if cfg.domain == null then "localhost" else cfg.domain;
        ACME_OPTIONS = lib.optionalString (cfg.email != null) "email ${cfg.email}";
      };
      unitConfig.RequiresMountsFor = [ config.services.caddy.dataDir ];
      serviceConfig =
        lib.removeAttrs
          (
            hardening.base
            // hardening.internet
            // hardening.ownAddresses
            // hardening.lowPorts
            // {
              # The unit of nixpkgs has more capabilities.
              AmbientCapabilities = [
                ""
                "CAP_NET_BIND_SERVICE"
              ];
              CapabilityBoundingSet = [
                ""
                "CAP_NET_BIND_SERVICE"
              ];
              EnvironmentFile = environmentFile;
              ExecCondition = ifDeployed;
            }
            // unitLimits.caddy limits
          )
          # nixpkgs' module sets the same values.
          [
            "NoNewPrivileges"
            "PrivateDevices"
            "ProtectHome"
          ];
    };
  };
}
