# lnplaylive.toml, made of the options, checked by the programs that read it; and its secrets.
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

  # What a remote's secrets are called among a service's credentials. Settings name them without a directory.
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

  # A path literal is copied into the store when it is used.
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
      # Through the host's own gateway: a page from https may not speak with a ws:// of somebody else.
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
        lnplaylive.toml. Everybody on the machine can read it: secrets are named by {option}`remotes`. What is wrong with it is
        said when the system is built.
      '';
    };

    remotes = mkOption {
      default = { };
      description = "Where environments are provisioned: LXD or Incus servers.";
      type = types.attrsOf (
        types.submodule {
          options = {
            tokenFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "A file with an enrolment token, for the first run.";
            };
            certFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "A client certificate (PEM) that the server trusts.";
            };
            keyFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "A file with the certificate's key (PEM).";
            };
            settings = mkOption {
              type = types.submodule {
                freeformType = toml.type;
                options.url = mkOption {
                  type = types.str;
                  description = "The server's API.";
                };
                options.instance_type = mkOption {
                  type = types.enum [
                    "virtual-machine"
                    "container"
                  ];
                  default = "virtual-machine";
                  description = "What instances are made.";
                };
              };
              description = "The rest of its `[[remotes]]` in lnplaylive.toml.";
            };
          };
        }
      );
    };

    images = {
      container = mkOption {
        type = types.package;
        description = "The image for containers: {file}`metadata.tar.xz` and {file}`rootfs`.";
      };
      virtual-machine = mkOption {
        type = types.package;
        description = "The image for virtual machines.";
      };
    };

    configFile = mkOption {
      type = types.str;
      description = "The settings file that the programs are given. Made of {option}`settings`, unless set.";
    };

    checkedSettings = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "{option}`settings` as a file that the programs have found to be right.";
    };

    credentials = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "The secrets that the settings name, for LoadCredential.";
    };

    keyCredentials = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "Of these the keys alone, which are good more than once.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      map (secret: {
        assertion = !inStore secret.file;
        message = "services.lnplaylive.remotes.${secret.name}.${secret.kind}File: ${toString secret.file} is in the Nix store, or would be copied there, and everybody can read that; name a file outside of it, by a string";
      }) secrets
      ++ [
        {
          assertion = cfg.environmentFile == null || !inStore cfg.environmentFile;
          message = "services.lnplaylive.environmentFile: ${toString cfg.environmentFile} is in the Nix store, and everybody can read that";
        }
      ]
      ++ lib.mapAttrsToList (name: remote: {
        assertion =
          remote.tokenFile != null
          || (remote.certFile != null && remote.keyFile != null && remote.settings ? server_fingerprint);
        message = "services.lnplaylive.remotes.${name}: name a tokenFile, or certFile and keyFile with settings.server_fingerprint; the server lets nobody in without";
      }) cfg.remotes;

    services.lnplaylive = {
      credentials = map load secrets;
      keyCredentials = map load (lib.filter (secret: secret.kind == "key") secrets);

      settings = {
        remotes = lib.mapAttrsToList rendered cfg.remotes;
        # Where the plugin keeps its client keys and the servers' fingerprints.
        state_dir = "${config.services.clightning.dataDir}/lnplaylive";
        shop.routes_file = "${cfg.publicDir}/routes.json";
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
