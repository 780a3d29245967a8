# Core Lightning: nixpkgs has the package and no module.
#
# One node of one network, on a bitcoind of this machine. Its RPC socket is /run/clightning/lightning-rpc.
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

  # lightningd's format: a line for each value, a flag without one.
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

  # lightningd has nothing to say to systemd, so its start ends when its socket answers.
  awaitRpc = pkgs.writeShellScript "clightning-await-rpc" ''
    until ${cli}/bin/lightning-cli getinfo >/dev/null 2>&1; do
      kill -0 "$MAINPID" || exit 1
      ${pkgs.coreutils}/bin/sleep 0.2
    done
  '';

  backup = pkgs.writeShellScript "clightning-backup" ''
    set -eu
    for file in ${cfg.dataDir}/*/hsm_secret ${cfg.dataDir}/*/emergency.recover; do
      [ -e "$file" ] || continue
      network=$(basename "$(dirname "$file")")
      mkdir -p "$network"
      # Whole or not at all: the copy of yesterday is worth more than half of one from today.
      cp "$file" "$network/new" && sync "$network/new" && mv -f "$network/new" "$network/$(basename "$file")"
    done
  '';
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
        The network that the node is on, once and for all. The variable `LIGHTNING_NETWORK` in
        {option}`environmentFile` takes precedence, for images that learn it at boot.
      '';
    };

    user = mkOption {
      type = types.str;
      default = "clightning";
      description = "The user, and group, that it runs as.";
    };

    dataDir = mkOption {
      type = types.path;
      default = "/var/lib/clightning";
      description = "Where its keys and its database are.";
    };

    bitcoin = {
      package = lib.mkPackageOption pkgs "bitcoind" { };
      dataDir = mkOption {
        type = types.path;
        description = "A directory whose {file}`bitcoin.conf` tells bitcoin-cli how to reach bitcoind.";
      };
      group = mkOption {
        type = types.str;
        description = "The group that may read bitcoind's cookie.";
      };
      unit = mkOption {
        type = types.str;
        description = "bitcoind's unit.";
      };
    };

    address = mkOption {
      type = types.str;
      default = "0.0.0.0:9735";
      description = "Where it listens for other nodes.";
    };

    websocket = mkOption {
      type = types.nullOr types.str;
      default = "127.0.0.1:9736";
      description = "Where it listens for browsers, without TLS: keep it on loopback, behind a server that has it.";
    };

    alias = mkOption {
      type = types.nullOr (types.strMatching ".{1,32}");
      default = null;
      description = "The node's name in the network.";
    };

    announceAddresses = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "dns:shop.example:9735" ];
      description = ''
        Where others are told to find it. A name wants `dns:` before it: without, lightningd looks it up at its
        start, and ends if it cannot.
      '';
    };

    plugins = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Plugins that it starts with. One that ends is an end of lightningd, which starts again.";
    };

    autoclean = {
      paidInvoicesDays = mkOption {
        type = types.ints.unsigned;
        default = 90;
        description = "Days that paid invoices are kept; 0 keeps them for ever.";
      };
      expiredInvoicesDays = mkOption {
        type = types.ints.unsigned;
        default = 1;
        description = "Days that invoices are kept that nobody paid; 0 keeps them for ever.";
      };
      forwardsDays = mkOption {
        type = types.ints.unsigned;
        default = 90;
        description = "Days that records of forwards and payments are kept; 0 keeps them for ever.";
      };
    };

    postgresql.enable = mkEnableOption ''
      a PostgreSQL database of this machine instead of SQLite. Choose before the first start: nothing is moved over
    '';

    backup = {
      enable =
        mkEnableOption ''
          copies of hsm_secret and emergency.recover, the two files from which a lost node's money can be claimed.
          They are as secret as the node's own. Somebody has to carry them to another machine
        ''
        // {
          default = true;
        };
      directory = mkOption {
        type = types.path;
        default = "/var/backup/clightning";
        description = "Where the copies are, on another disk than {option}`dataDir` if that is to help.";
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
      description = "Options of lightningd, as in {manpage}`lightningd-config(5)`. No secrets: everybody can read them.";
    };

    includes = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Configuration files that are read at the start, and must be there.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "A file with environment variables for lightningd and its plugins.";
    };

    credentials = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "What plugins are given by LoadCredential.";
    };

    cli = mkOption {
      type = types.package;
      readOnly = true;
      default = cli;
      description = "lightning-cli that finds this node.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion =
          cfg.websocket == null || lib.hasPrefix "127." cfg.websocket || lib.hasPrefix "[::1]" cfg.websocket;
        message = "services.clightning.websocket: ${toString cfg.websocket} is not on loopback, and the socket has no TLS";
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
      # The socket's directory lets nobody else in; the daemon's user in the database is its own.
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

    environment.systemPackages = [ (lib.hiPrio cli) ];

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

    systemd.services.clightning = {
      description = "Core Lightning";
      wantedBy = [ "multi-user.target" ];
      requires = [ cfg.bitcoin.unit ] ++ optional cfg.postgresql.enable "postgresql.target";
      after = [
        cfg.bitcoin.unit
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

          # A socket that a crash left behind would be taken for one that answers.
          ExecStartPre = "${pkgs.coreutils}/bin/rm -f ${rpcFile}";
          ExecStart = "${cfg.package}/bin/lightningd --conf=${configFile} --network=\${LIGHTNING_NETWORK}";
          ExecStartPost = awaitRpc;
          # It lets channels come to rest before it ends.
          ExecStop = "-${cli}/bin/lightning-cli stop";
          # An upgrade of the database may take its time.
          TimeoutStartSec = "30min";
          TimeoutStopSec = "2min";
          Restart = "always";
          RestartSec = 5;
        };
    };

    # Written when a channel opens or closes: then is the time for a copy.
    systemd.paths.clightning-backup = mkIf cfg.backup.enable {
      description = "Changes of Core Lightning's channel backup";
      wantedBy = [ "clightning.service" ];
      after = [ "clightning.service" ];
      # By default a path unit comes before basic.target, and lightningd, and what its directory is mounted from, come after it.
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
      description = "Copy of Core Lightning's secret and channel backup";
      wantedBy = [ "clightning.service" ];
      after = [ "clightning.service" ];
      path = [ pkgs.coreutils ];
      serviceConfig = hardening.base // {
        Type = "oneshot";
        User = cfg.user;
        Group = cfg.user;
        WorkingDirectory = cfg.backup.directory;
        ReadWritePaths = [ cfg.backup.directory ];
        ReadOnlyPaths = [ cfg.dataDir ];
        ExecStart = backup;
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
