# Core Lightning; nixpkgs has the package but no module.
#
# Runs one node, on one network, with a bitcoind on this machine. Its RPC socket is /run/clightning/lightning-rpc.
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
    optional
    types
    ;
  cfg = config.services.clightning;
  hardening = import ./hardening.nix;

  rpcFile = "/run/clightning/lightning-rpc";
  day = 24 * 60 * 60;

  # lightningd's format: a line for each value; a flag has no value.
  line =
    name: value:
    if value == true then
      [ name ]
    else if value == false || value == null then
      [ ]
    else if builtins.isList value then
      lib.concatMap (line name) value
    else
      [ "${name}=${toString value}" ];
  configFile = pkgs.writeText "clightning.conf" (
    lib.concatLines (
      lib.concatLists (lib.mapAttrsToList line cfg.settings) ++ map (file: "include ${file}") cfg.includes
    )
  );

  cli = pkgs.writeShellScriptBin "lightning-cli" ''
    exec ${cfg.package}/bin/lightning-cli --rpc-file=${rpcFile} "$@"
  '';

  # lightningd does not notify systemd, so the start is complete when its socket answers.
  awaitRpc = pkgs.writeShellScript "clightning-await-rpc" ''
    until ${cli}/bin/lightning-cli getinfo >/dev/null 2>&1; do
      kill -0 "$MAINPID" || exit 1
      ${pkgs.coreutils}/bin/sleep 0.2
    done
  '';

  awaitChain = pkgs.writeShellApplication {
    name = "bitcoind-synchronised";
    runtimeInputs = [
      cfg.bitcoin.package
      pkgs.coreutils
      pkgs.jq
    ];
    text = builtins.readFile ./bitcoind-synchronised.sh;
  };
  # What a node has once it was started.
  database = if cfg.postgresql.enable then "hsm_secret" else "lightningd.sqlite3";

  backup = pkgs.writeShellApplication {
    name = "clightning-backup";
    runtimeInputs = [
      cli
      pkgs.coreutils
      pkgs.jq
    ];
    text = builtins.readFile ./clightning-backup.sh;
  };
in
{
  options.services.clightning = {
    enable = mkEnableOption "Core Lightning";

    package = lib.mkPackageOption pkgs "clightning" { };

    network = mkOption {
      type = types.enum [
        "bitcoin"
        "signet"
        "regtest"
      ];
      default = "bitcoin";
      description = ''
        The node's network. It cannot be changed later. The variable `LIGHTNING_NETWORK` in {option}`environmentFile`
        overrides it, for images that read their network at boot.
      '';
    };

    user = mkOption {
      type = types.str;
      default = "clightning";
      description = "User and group of the service.";
    };

    dataDir = mkOption {
      type = types.path;
      default = "/var/lib/clightning";
      description = "Directory for the node's keys and database.";
    };

    bitcoin = {
      package = lib.mkPackageOption pkgs "bitcoind" { };
      dataDir = mkOption {
        type = types.path;
        description = "Directory with the {file}`bitcoin.conf` that tells bitcoin-cli how to reach bitcoind.";
      };
      group = mkOption {
        type = types.str;
        description = "Group that may read bitcoind's cookie.";
      };
      unit = mkOption {
        type = types.str;
        description = "Name of bitcoind's systemd unit.";
      };
    };

    address = mkOption {
      type = types.str;
      default = "0.0.0.0:9735";
      description = "Address on which the node listens for other nodes.";
    };

    websocket = mkOption {
      type = types.nullOr types.str;
      default = "127.0.0.1:9736";
      description = "Address on which the node listens for browsers. It has no TLS, so keep it on loopback, behind a TLS server.";
    };

    alias = mkOption {
      type = types.nullOr (types.strMatching ".{1,32}");
      default = null;
      description = "The alias that the node announces to the network.";
    };

    announceAddresses = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "dns:shop.example:9735" ];
      description = ''
        Addresses that the node announces. Prefix a name with `dns:`; otherwise lightningd resolves it at start, and exits if
        that fails.
      '';
    };

    plugins = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Plugins to start. If one of them exits, lightningd exits too and is restarted.";
    };

    autoclean = {
      paidInvoicesDays = mkOption {
        type = types.ints.unsigned;
        default = 90;
        description = "Number of days to keep paid invoices; 0 keeps them for ever.";
      };
      expiredInvoicesDays = mkOption {
        type = types.ints.unsigned;
        default = 1;
        description = "Number of days to keep expired invoices; 0 keeps them for ever.";
      };
      forwardsDays = mkOption {
        type = types.ints.unsigned;
        default = 90;
        description = "Number of days to keep records of forwards and payments; 0 keeps them for ever.";
      };
    };

    postgresql.enable = mkEnableOption ''
      a PostgreSQL database on this machine instead of SQLite. Choose before the first start: data is not migrated
    '';

    backup = {
      enable =
        mkEnableOption ''
          copies of hsm_secret and emergency.recover, and a list of the channels, with which the money of a lost node can be recovered.
          They must be kept secret, like the originals, and copied to another machine
        ''
        // {
          default = true;
        };
      directory = mkOption {
        type = types.path;
        default = "/var/backup/clightning";
        description = "Directory for the copies. Use another disk than that of {option}`dataDir`.";
      };
    };

    settings = mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.str
            (types.listOf types.str)
          ]
        )
      );
      default = { };
      example = {
        fee-base = 1000;
        experimental-dual-fund = true;
      };
      description = "Options of lightningd, as in {manpage}`lightningd-config(5)`. Do not put secrets here: everybody can read them.";
    };

    includes = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Configuration files to include at start. They must exist.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "File with environment variables for lightningd and its plugins.";
    };

    credentials = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Credentials for plugins, as for LoadCredential.";
    };

    cli = mkOption {
      type = types.package;
      readOnly = true;
      default = cli;
      description = "A lightning-cli that connects to this node.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion =
          cfg.websocket == null || lib.hasPrefix "127." cfg.websocket || lib.hasPrefix "[::1]" cfg.websocket;
        message = "services.clightning.websocket: ${toString cfg.websocket} is not on loopback, and the socket has no TLS; use 127.0.0.1";
      }
    ];

    services.clightning.settings = {
      lightning-dir = cfg.dataDir;
      rpc-file = rpcFile;
      bitcoin-datadir = cfg.bitcoin.dataDir;
      bind-addr = [ cfg.address ] ++ optional (cfg.websocket != null) "ws:${cfg.websocket}";
      announce-addr = cfg.announceAddresses;
      alias = cfg.alias;
      important-plugin = map toString cfg.plugins;
      autoclean-cycle = 60 * 60;
      autoclean-paidinvoices-age = cfg.autoclean.paidInvoicesDays * day;
      autoclean-expiredinvoices-age = cfg.autoclean.expiredInvoicesDays * day;
      autoclean-succeededforwards-age = cfg.autoclean.forwardsDays * day;
      autoclean-failedforwards-age = cfg.autoclean.forwardsDays * day;
      autoclean-succeededpays-age = cfg.autoclean.forwardsDays * day;
      autoclean-failedpays-age = cfg.autoclean.forwardsDays * day;
      # The socket's directory admits no other user; the database user has the same name as the daemon's.
      wallet = mkIf cfg.postgresql.enable "postgres:///${cfg.user}?host=/run/postgresql";
    };

    services.postgresql = mkIf cfg.postgresql.enable {
      enable = true;
      ensureDatabases = [ cfg.user ];
      ensureUsers = [
        {
          name = cfg.user;
          ensureDBOwnership = true;
        }
      ];
    };

    environment.systemPackages = [
      (lib.hiPrio cli)
      # lightning-hsmtool, for recovery.
      cfg.package
      pkgs.jq
    ];

    users.users.${cfg.user} = {
      isSystemUser = true;
      group = cfg.user;
      description = "Core Lightning";
    };
    users.groups.${cfg.user} = { };

    systemd.tmpfiles.settings.clightning.${cfg.dataDir}.d = {
      inherit (cfg) user;
      group = cfg.user;
      mode = "0700";
    };

    # During the first synchronisation this takes hours or days, and Core Lightning waits for it.
    systemd.services.bitcoind-synchronised = {
      description = "Wait for the chain before Core Lightning's first start";
      requires = [ cfg.bitcoin.unit ];
      after = [ cfg.bitcoin.unit ];
      unitConfig.RequiresMountsFor = [ cfg.dataDir ];
      environment.LIGHTNING_NETWORK = cfg.network;
      serviceConfig =
        hardening.base
        // hardening.internet
        // hardening.loopback
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          User = cfg.user;
          Group = cfg.user;
          SupplementaryGroups = [ cfg.bitcoin.group ];
          ReadOnlyPaths = [ cfg.dataDir ];
          EnvironmentFile = optional (cfg.environmentFile != null) cfg.environmentFile;
          ExecStart = "${lib.getExe awaitChain} ${cfg.dataDir}/\${LIGHTNING_NETWORK}/${database} ${cfg.bitcoin.dataDir}";
          TimeoutStartSec = "infinity";
        };
    };

    systemd.services.clightning = {
      description = "Core Lightning";
      wantedBy = [ "multi-user.target" ];
      requires = [
        cfg.bitcoin.unit
        "bitcoind-synchronised.service"
      ]
      ++ optional cfg.postgresql.enable "postgresql.target";
      after = [
        cfg.bitcoin.unit
        "bitcoind-synchronised.service"
        "network-online.target"
      ]
      ++ optional cfg.postgresql.enable "postgresql.target";
      wants = [ "network-online.target" ];
      unitConfig.RequiresMountsFor = [ cfg.dataDir ];
      path = [ cfg.bitcoin.package ];
      environment.LIGHTNING_NETWORK = cfg.network;

      serviceConfig =
        hardening.base
        // hardening.internet
        // hardening.ownAddresses
        // {
          User = cfg.user;
          Group = cfg.user;
          SupplementaryGroups = [ cfg.bitcoin.group ];
          RuntimeDirectory = "clightning";
          RuntimeDirectoryMode = "0700";
          ReadWritePaths = [ cfg.dataDir ];
          EnvironmentFile = optional (cfg.environmentFile != null) cfg.environmentFile;
          LoadCredential = cfg.credentials;

          # A socket left behind by a crash would look like a running node.
          ExecStartPre = "${pkgs.coreutils}/bin/rm -f ${rpcFile}";
          ExecStart = "${cfg.package}/bin/lightningd --conf=${configFile} --network=\${LIGHTNING_NETWORK}";
          ExecStartPost = awaitRpc;
          # Lets the node settle its channels before it exits.
          ExecStop = "-${cli}/bin/lightning-cli stop";
          # A database upgrade may take long.
          TimeoutStartSec = "30min";
          TimeoutStopSec = "2min";
          Restart = "always";
          RestartSec = 5;
        };
    };

    # lightningd writes emergency.recover when a channel opens or closes, and at each payment.
    systemd.paths.clightning-backup = mkIf cfg.backup.enable {
      description = "Watch Core Lightning's channel backup";
      wantedBy = [ "clightning.service" ];
      after = [ "clightning.service" ];
      # By default a path unit starts before basic.target, but lightningd and the mount of its directory come after it.
      unitConfig.DefaultDependencies = false;
      conflicts = [ "shutdown.target" ];
      before = [ "shutdown.target" ];
      pathConfig.PathChanged = map (network: "${cfg.dataDir}/${network}/emergency.recover") [
        "bitcoin"
        "signet"
        "regtest"
      ];
    };
    systemd.services.clightning-backup = mkIf cfg.backup.enable {
      description = "Copy Core Lightning's secret and channel backup";
      wantedBy = [ "clightning.service" ];
      after = [ "clightning.service" ];
      # Many payments in a row must not end the watch.
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening.base // {
        Type = "oneshot";
        User = cfg.user;
        Group = cfg.user;
        WorkingDirectory = cfg.backup.directory;
        ReadWritePaths = [ cfg.backup.directory ];
        ReadOnlyPaths = [ cfg.dataDir ];
        ExecStart = "${lib.getExe backup} ${cfg.dataDir}";
      };
    };
    systemd.tmpfiles.settings.clightning-backup = mkIf cfg.backup.enable {
      ${cfg.backup.directory}.d = {
        inherit (cfg) user;
        group = cfg.user;
        mode = "0700";
      };
    };
  };
}
