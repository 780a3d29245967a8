# Prometheus, Alertmanager and Grafana on the host itself, all on loopback. See docs/operator.md.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkIf
    mkOption
    types
    ;
  cfg = config.services.lnplaylive;
  monitoring = cfg.monitoring;
  inherit (monitoring) email webhookUrlFile;

  # A path literal would be copied into the store.
  inStore = file: builtins.isPath file || lib.hasPrefix builtins.storeDir (toString file);
  secret = name: "/run/credentials/alertmanager.service/${name}";

  dashboards = pkgs.runCommand "lnplaylive-dashboards" { } ''
    mkdir $out
    cp ${../../monitoring/dashboard.json} $out/lnplaylive.json
  '';
  scrape = job_name: address: {
    inherit job_name;
    static_configs = [ { targets = [ address ]; } ];
  };
in
{
  options.services.lnplaylive.monitoring = {
    enable = mkEnableOption ''
      Prometheus, Alertmanager and Grafana for this host, on loopback: ports 9090, 9093 and 3001
    '';

    retention = mkOption {
      type = types.str;
      default = "30d";
      description = "How long metrics are kept.";
    };

    email = mkOption {
      default = null;
      description = "Sends alerts by e-mail.";
      type = types.nullOr (
        types.submodule {
          options = {
            to = mkOption {
              type = types.str;
              description = "The recipient.";
            };
            from = mkOption {
              type = types.str;
              description = "The sender.";
            };
            smarthost = mkOption {
              type = types.str;
              example = "smtp.shop.example:587";
              description = "The mail server, as HOST:PORT. It has to offer TLS.";
            };
            username = mkOption {
              type = types.str;
              description = "The user at the mail server.";
            };
            passwordFile = mkOption {
              type = types.path;
              description = "File with the password, outside the Nix store.";
            };
          };
        }
      );
    };

    webhookUrlFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "File with the URL to which alerts are posted, outside the Nix store. The URL often is a secret.";
    };
  };

  config = mkIf (cfg.enable && monitoring.enable) {
    assertions =
      map
        (file: {
          assertion = file.path == null || !inStore file.path;
          message = "services.lnplaylive.monitoring.${file.option}: ${toString file.path} is in the Nix store, or would be copied there, where everybody can read it; use a string that names a file outside the store";
        })
        [
          {
            option = "email.passwordFile";
            path = if email == null then null else email.passwordFile;
          }
          {
            option = "webhookUrlFile";
            path = webhookUrlFile;
          }
        ];
    warnings = lib.optional (
      email == null && webhookUrlFile == null
    ) "services.lnplaylive.monitoring: alerts are shown and not sent; set email or webhookUrlFile";

    services.lnplaylive.metrics.enable = true;

    services.prometheus = {
      enable = true;
      listenAddress = "127.0.0.1";
      retentionTime = monitoring.retention;
      globalConfig = {
        scrape_interval = "15s";
        evaluation_interval = "15s";
      };
      ruleFiles = [ ../../monitoring/alerts.yml ];
      scrapeConfigs = [
        (scrape "node" "127.0.0.1:${toString config.services.prometheus.exporters.node.port}")
        (scrape "lnplaylive-plugin" cfg.settings.shop.metrics_listen)
        (scrape "lnplaylive-frontend" cfg.settings.frontend.metrics_listen)
      ];
      alertmanagers = [ { static_configs = [ { targets = [ "127.0.0.1:9093" ]; } ]; } ];

      alertmanager = {
        enable = true;
        listenAddress = "127.0.0.1";
        # There is only this one.
        extraFlags = [ "--cluster.listen-address=" ];
        configuration = {
          route = {
            receiver = "operator";
            group_by = [ "alertname" ];
            group_wait = "30s";
            group_interval = "5m";
            repeat_interval = "4h";
            routes = [
              {
                receiver = "operator";
                matchers = [ ''severity="ticket"'' ];
                repeat_interval = "24h";
              }
            ];
          };
          receivers = [
            (
              {
                name = "operator";
              }
              // lib.optionalAttrs (email != null) {
                email_configs = [
                  {
                    inherit (email) to from smarthost;
                    auth_username = email.username;
                    auth_password_file = secret "smtp_password";
                    send_resolved = true;
                  }
                ];
              }
              // lib.optionalAttrs (webhookUrlFile != null) {
                webhook_configs = [
                  {
                    url_file = secret "webhook_url";
                    send_resolved = true;
                  }
                ];
              }
            )
          ];
        };
      };
    };
    systemd.services.alertmanager.serviceConfig.LoadCredential =
      lib.optional (email != null) "smtp_password:${toString email.passwordFile}"
      ++ lib.optional (webhookUrlFile != null) "webhook_url:${toString webhookUrlFile}";

    services.grafana = {
      enable = true;
      settings = {
        server = {
          http_addr = "127.0.0.1";
          http_port = 3001;
          domain = "localhost";
          # Against pages elsewhere that have their name point to 127.0.0.1.
          enforce_domain = true;
        };
        # Whoever reaches the port may look, and nobody may change anything.
        "auth.anonymous" = {
          enabled = true;
          org_name = "Main Org.";
          org_role = "Viewer";
        };
        auth.disable_login_form = true;
        "auth.basic".enabled = false;
        # It encrypts passwords of data sources, of which there are none.
        security.secret_key = "$__file{${config.services.grafana.dataDir}/secret_key}";
        # Nobody logs in.
        security.disable_initial_admin_creation = true;
        analytics = {
          reporting_enabled = false;
          check_for_updates = false;
          check_for_plugin_updates = false;
        };
        dashboards.default_home_dashboard_path = "${dashboards}/lnplaylive.json";
      };
      provision = {
        enable = true;
        datasources.settings.datasources = [
          {
            name = "Prometheus";
            type = "prometheus";
            uid = "prometheus";
            url = "http://127.0.0.1:${toString config.services.prometheus.port}";
            isDefault = true;
          }
        ];
        dashboards.settings.providers = [
          {
            name = "lnplaylive";
            options.path = dashboards;
          }
        ];
      };
    };
    systemd.services.grafana.preStart = lib.mkBefore ''
      key=${config.services.grafana.dataDir}/secret_key
      if [ ! -s "$key" ]; then
        (umask 0077 && ${pkgs.coreutils}/bin/head -c 32 /dev/urandom | ${pkgs.coreutils}/bin/base64 -w 0 >"$key")
      fi
    '';
  };
}
