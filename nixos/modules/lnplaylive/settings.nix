# Generates lnplaylive.toml from the options and lets the programs check it; passes the secrets as credentials.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.lnplaylive;
  toml = pkgs.formats.toml { };

  # Name of a remote's secret among a service's credentials. The settings refer to it by this name, without a directory.
  credential = remote: kind: "${kind}s_${remote}.${kind}";
  secretsOf =
    name: remote:
    map
      (kind: {
        inherit name kind;
        file = remote."${kind}File";
      })
      (
        lib.filter (kind: remote."${kind}File" != null) [
          "token"
          "key"
        ]
      );
  secrets = lib.concatLists (lib.mapAttrsToList secretsOf cfg.remotes);
  load = secret: "${credential secret.name secret.kind}:${toString secret.file}";

  # A path literal would be copied into the store.
  inStore = file: builtins.isPath file || lib.hasPrefix builtins.storeDir (toString file);

  rendered =
    name: remote:
    let
      image = cfg.images.${remote.settings.instance_type};
    in
    {
      inherit name;
    }
    // lib.optionalAttrs (!lib.any (lib.hasPrefix "image_") (lib.attrNames remote.settings)) {
      image_metadata_file = "${image}/metadata.tar.xz";
      image_rootfs_file = "${image}/rootfs";
    }
    // lib.optionalAttrs (cfg.domain != null && cfg.frontend.enable) {
      # Through the host's gateway, because a page loaded over https may not connect to ws:// addresses.
      public_url_template = "wss://${cfg.domain}/e/{environment}/{node}";
    }
    // remote.settings
    // lib.optionalAttrs (remote.tokenFile != null) { token_file = credential name "token"; }
    // lib.optionalAttrs (remote.certFile != null) { cert_file = toString remote.certFile; }
    // lib.optionalAttrs (remote.keyFile != null) { key_file = credential name "key"; };
in
{
  options.services.lnplaylive = {
    settings = mkOption {
      type = types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        shop.invoice_expiry_secs = 900;
        provisioning.concurrency = 4;
      };
      description = ''
        The contents of lnplaylive.toml. Everybody on the machine can read it, so it must contain no secrets; see
        {option}`remotes` for those. It is checked when the system is built.
      '';
    };

    remotes = mkOption {
      default = { };
      description = "The LXD or Incus servers on which environments are provisioned.";
      type = types.attrsOf (
        types.submodule {
          options = {
            tokenFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "File with an enrolment token, which is used on the first run.";
            };
            certFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "Client certificate (PEM) that the server already trusts.";
            };
            keyFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "File with the private key of {option}`certFile` (PEM).";
            };
            settings = mkOption {
              type = types.submodule {
                freeformType = toml.type;
                options.url = mkOption {
                  type = types.str;
                  description = "URL of the server's API.";
                };
                options.instance_type = mkOption {
                  type = types.enum [
                    "virtual-machine"
                    "container"
                  ];
                  default = "virtual-machine";
                  description = "The kind of instances to create.";
                };
              };
              description = "Other settings of this remote, as in its `[[remotes]]` section of lnplaylive.toml.";
            };
          };
        }
      );
    };

    images = {
      container = mkOption {
        type = types.package;
        description = "Image for containers, with the files {file}`metadata.tar.xz` and {file}`rootfs`.";
      };
      virtual-machine = mkOption {
        type = types.package;
        description = "Image for virtual machines, with the same files.";
      };
    };

    configFile = mkOption {
      type = types.str;
      description = "The settings file that the programs read. By default it is generated from {option}`settings`.";
    };

    checkedSettings = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "{option}`settings` as a file, checked by the programs.";
    };

    credentials = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "The secrets that the settings refer to, for LoadCredential.";
    };

    keyCredentials = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "The keys among {option}`credentials`. Unlike tokens, they can be used more than once.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      map (secret: {
        assertion = !inStore secret.file;
        message = "services.lnplaylive.remotes.${secret.name}.${secret.kind}File: ${toString secret.file} is in the Nix store, or would be copied there, where everybody can read it; use a string that names a file outside the store";
      }) secrets
      ++ [
        {
          assertion = cfg.environmentFile == null || !inStore cfg.environmentFile;
          message = "services.lnplaylive.environmentFile: ${toString cfg.environmentFile} is in the Nix store, where everybody can read it; use a file outside the store";
        }
      ]
      ++ lib.mapAttrsToList (name: remote: {
        assertion =
          remote.tokenFile != null
          || (remote.certFile != null && remote.keyFile != null && remote.settings ? server_fingerprint);
        message = "services.lnplaylive.remotes.${name}: name a tokenFile, or certFile and keyFile with settings.server_fingerprint; without one of them the server refuses the shop";
      }) cfg.remotes;

    services.lnplaylive = {
      credentials = map load secrets;
      keyCredentials = map load (lib.filter (secret: secret.kind == "key") secrets);

      settings = {
        remotes = lib.mapAttrsToList rendered cfg.remotes;
        # The plugin stores its client keys and the servers' fingerprints here.
        state_dir = "${config.services.clightning.dataDir}/lnplaylive";
        shop.routes_file = "${cfg.publicDir}/routes.json";
        shop.products_file = "${cfg.publicDir}/products.json";
        shop.ticket_key_file = "${cfg.publicDir}/ticket_key";
        shop.connect_page = lib.mkIf (cfg.domain != null) (lib.mkDefault "https://${cfg.domain}/connect");
      };

      checkedSettings = pkgs.runCommand "lnplaylive.toml" { } ''
        cp ${toml.generate "lnplaylive.toml" cfg.settings} $out
        ${lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
          for program in plugin frontend culler; do
            ${cfg.package}/bin/lnplaylive-$program check-config $out
          done
        ''}
      '';
      configFile = lib.mkDefault "${cfg.checkedSettings}";
    };
  };
}
