# The backup that leaves the machine: the local copies of ../clightning.nix, encrypted, in a bucket.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.lnplaylive;
  node = config.services.clightning;
  hardening = import ../hardening.nix;

  # In the backup directory, which a monitor looks at, and the only part of it that the upload may write to.
  records = "${node.backup.directory}/uploaded";

  upload = pkgs.writeShellApplication {
    name = "lnplaylive-backup-upload";
    runtimeInputs = [
      node.cli
      pkgs.age
      pkgs.coreutils
      pkgs.gnutar
      pkgs.jq
      pkgs.rclone
    ];
    text = builtins.readFile ./backup-upload.sh;
  };

  # With ExecCondition a unit is skipped, and does not count as failed.
  ifWanted = ''${pkgs.runtimeShell} -c '[ -n "$BACKUP_BUCKET" ]' '';
in
{
  options.services.lnplaylive.backup = {
    bucket = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "my-shop-backup";
      description = ''
        The bucket to which the node's key and channel backup are uploaded, encrypted, after every change and once a day. It needs
        versioning. `BACKUP_BUCKET` in {option}`services.lnplaylive.environmentFile` overrides it, and likewise the other options
        here: `BACKUP_PREFIX`, `BACKUP_REGION`, `BACKUP_ENDPOINT`, and `BACKUP_RECIPIENTS` with commas between the keys.
      '';
    };
    prefix = mkOption {
      type = types.str;
      default = if cfg.domain == null then "lnplaylive" else cfg.domain;
      defaultText = lib.literalMD "the domain, or `lnplaylive` without one";
      description = "The beginning of the names of the objects, which are `PREFIX/NETWORK.tar.age`.";
    };
    region = mkOption {
      type = types.str;
      default = "";
      example = "eu-central-1";
      description = "The bucket's region.";
    };
    endpoint = mkOption {
      type = types.str;
      default = "";
      example = "https://s3.example";
      description = "The URL of a storage with the API of S3, other than AWS.";
    };
    recipients = mkOption {
      type = types.listOf (types.strMatching "age1[a-z0-9]+");
      default = [ ];
      example = [ "age1…" ];
      description = "Who can decrypt the backup: public keys of age. Keep the secret keys off this machine.";
    };
    credentialsFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/backup-storage";
      description = ''
        File with a key for the storage, in the format of {file}`~/.aws/credentials`. Without one, the instance's role is used,
        which needs access to EC2's metadata service.
      '';
    };
    credentials = mkOption {
      type = types.listOf types.str;
      internal = true;
      default = lib.optional (
        cfg.backup.credentialsFile != null
      ) "backup_credentials:${cfg.backup.credentialsFile}";
      description = "The key for the storage as `backup_credentials`, for LoadCredential.";
    };
  };

  config = lib.mkIf (cfg.enable && node.backup.enable) {
    assertions = [
      {
        assertion = cfg.backup.bucket == null || cfg.backup.recipients != [ ];
        message = "services.lnplaylive.backup.recipients: name at least one public key of age; without one nobody could read the backup";
      }
      {
        assertion = cfg.backup.bucket == null || cfg.backup.region != "" || cfg.backup.endpoint != "";
        message = "services.lnplaylive.backup.region: name the bucket's region, such as eu-central-1, or an endpoint other than AWS";
      }
      {
        assertion =
          cfg.backup.credentialsFile == null || !lib.hasPrefix builtins.storeDir cfg.backup.credentialsFile;
        message = "services.lnplaylive.backup.credentialsFile: ${toString cfg.backup.credentialsFile} is in the Nix store, where everybody can read it; use a string that names a file outside the store";
      }
    ];

    # When the copies have been made. A run that is under way looks again before it ends.
    systemd.services.clightning-backup.onSuccess = [ "lnplaylive-backup.service" ];

    systemd.services.lnplaylive-backup = {
      description = "Upload the encrypted backup of the node's key";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      environment = {
        BACKUP_BUCKET = if cfg.backup.bucket == null then "" else cfg.backup.bucket;
        BACKUP_PREFIX = cfg.backup.prefix;
        BACKUP_REGION = cfg.backup.region;
        BACKUP_ENDPOINT = cfg.backup.endpoint;
        BACKUP_RECIPIENTS = lib.concatStringsSep "," cfg.backup.recipients;
        LIGHTNING_NETWORK = cfg.network;
      };
      serviceConfig =
        hardening.base
        // hardening.internet
        # The role's credentials come from the metadata service. The unit is the node's user, which has all that it gives away.
        // lib.optionalAttrs (cfg.backup.credentialsFile == null) { IPAddressDeny = [ ]; }
        // {
          Type = "oneshot";
          User = node.user;
          Group = node.user;
          # In memory.
          RuntimeDirectory = "lnplaylive-backup";
          RuntimeDirectoryMode = "0700";
          ReadWritePaths = [ records ];
          EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
          LoadCredential = cfg.backup.credentials;
          ExecCondition = ifWanted;
          ExecStart = "${lib.getExe upload} ${node.backup.directory} ${records}";
          # Its attempts, for each of the networks.
          TimeoutStartSec = "2h";
        };
    };

    systemd.timers.lnplaylive-backup = {
      description = "Timer for the upload of the node's backup";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        # It uploads only what has changed, or is a day old, or has failed before.
        OnCalendar = "hourly";
        RandomizedDelaySec = "10min";
      };
    };

    systemd.tmpfiles.settings.lnplaylive-backup.${records}.d = {
      inherit (node) user;
      group = node.user;
      mode = "0700";
    };
  };
}
