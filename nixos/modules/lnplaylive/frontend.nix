# The web shop and its TLS front door. Both are always installed; whether they start is decided when they would.
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

  environmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
  # A unit whose condition does not hold is skipped, and has not failed.
  ifDeployed = ''${pkgs.runtimeShell} -c '[ "$DEPLOY_LNPLAYLIVE_FRONTEND" = true ]' '';
  deploy = lib.boolToString cfg.frontend.enable;
  inherit (cfg.settings.frontend) listen;
in
{
  options.services.lnplaylive = {
    frontend = {
      enable = mkEnableOption ''
        the web shop and Caddy. `DEPLOY_LNPLAYLIVE_FRONTEND` in {option}`environmentFile` takes precedence
      '';
      site = mkOption {
        type = types.package;
        description = "The web shop's files.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.lnplaylive.settings.frontend = {
      listen = lib.mkDefault "127.0.0.1:3000";
      dist_dir = lib.mkDefault "${cfg.frontend.site}";
      node_id_file = "${cfg.publicDir}/node_id";
      rune_file = "${cfg.publicDir}/rune";
      order_rune_file = "${cfg.publicDir}/order_rune";
      routes_file = "${cfg.publicDir}/routes.json";
      lightning_websocket = config.services.clightning.websocket;
      trusted_proxies = [
        "127.0.0.1/32"
        "::1/128"
      ];
      metrics_listen = lib.mkIf cfg.metrics.enable "127.0.0.1:9101";
    };

    systemd.services.lnplaylive-frontend = {
      description = "Web shop";
      wantedBy = [ "multi-user.target" ];
      # Node id and rune it finds when they are there.
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      environment.DEPLOY_LNPLAYLIVE_FRONTEND = deploy;
      unitConfig.RequiresMountsFor = [ cfg.publicDir ];
      serviceConfig =
        hardening.base
        # Its gateway reaches the nodes on the remotes.
        // hardening.internet
        // {
          Type = "notify";
          DynamicUser = true;
          SupplementaryGroups = [ "lnplaylive-public" ];
          EnvironmentFile = environmentFile;
          ExecCondition = ifDeployed;
          ExecStart = "${cfg.package}/bin/lnplaylive-frontend --config ${cfg.configFile}";
          # A connection is two file descriptors.
          LimitNOFILE = 65536;
          Restart = "always";
          RestartSec = 5;
        };
    };

    services.caddy = {
      enable = true;
      dataDir = "${cfg.stateDir}/caddy";
      # Nobody configures it at run time.
      enableReload = false;
      globalConfig = ''
        admin off
        {$ACME_OPTIONS}
      '';
      virtualHosts."{$SHOP_DOMAIN}" = {
        # Requests' paths hold order ids.
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
              # Its package's unit asks for more.
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
          )
          # Equal in nixpkgs' own module.
          [
            "NoNewPrivileges"
            "PrivateDevices"
            "ProtectHome"
          ];
    };
  };
}
