# bitcoind of the host. It is pruned, and only the node may use its RPC.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.lnplaylive;
  hardening = import ../hardening.nix;
  user = "bitcoin";
  group = "bitcoin-rpc";
  dataDir = "${cfg.stateDir}/bitcoind";
  # bitcoind writes a new cookie at each start. It is outside the data directory, which no other user may enter.
  cookieDir = "/run/bitcoin-rpc";
  cookie = "${cookieDir}/cookie";
  # For bitcoind, and for bitcoin-cli on this machine: what is known only at the start.
  atStart = pkgs.writeShellApplication {
    name = "bitcoind-settings";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.getconf
    ];
    text = builtins.readFile ./bitcoind-settings.sh;
  };
  cli = pkgs.writeShellScriptBin "bitcoin-cli" ''
    exec ${cfg.bitcoind.package}/bin/bitcoin-cli -datadir=${cookieDir} "$@"
  '';
  chain = if cfg.network == "bitcoin" then "main" else cfg.network;
in
{
  options.services.lnplaylive.bitcoind = {
    package = lib.mkPackageOption pkgs "bitcoind" { };
    pruneMiB = lib.mkOption {
      type = lib.types.ints.between 550 10000000;
      default = 20000;
      description = "Size of the blocks to keep, in MiB. A node that was off for longer than these blocks cover cannot catch up.";
    };
    dbCacheMiB = lib.mkOption {
      type = lib.types.nullOr (lib.types.ints.between 4 16384);
      default = null;
      description = ''
        Size of the UTXO cache, in MiB. A larger cache makes the first synchronisation faster. By default it is a quarter of the
        machine's memory, from 450 to 4096 MiB, determined when bitcoind starts.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    services.bitcoind.lnplaylive = {
      enable = true;
      inherit (cfg.bitcoind) package;
      inherit dataDir user;
      prune = cfg.bitcoind.pruneMiB;
      extraConfig = ''
        includeconf=${cookieDir}/start.conf
        server=1
        rpccookiefile=${cookie}
        rpccookieperms=group
        disablewallet=1
        # The node builds its own transactions, and needs no incoming connections to see them confirmed.
        listen=0
        startupnotify=${config.systemd.package}/bin/systemd-notify --ready
        debuglogfile=0
        printtoconsole=1
        # The journal adds its own time stamps.
        logtimestamps=0
      '';
      extraCmdlineOptions = [ "-chain=\${BITCOIN_CHAIN}" ];
    };

    services.clightning.bitcoin = {
      inherit (cfg.bitcoind) package;
      inherit group;
      unit = "bitcoind-lnplaylive.service";
      dataDir = "${pkgs.writeTextDir "bitcoin.conf" "rpccookiefile=${cookie}\n"}";
    };

    environment.systemPackages = [ (lib.hiPrio cli) ];

    users.groups.${group} = { };
    # The cookie inherits the directory's group.
    systemd.tmpfiles.settings.lnplaylive-bitcoind.${cookieDir}.d = {
      inherit user group;
      mode = "2750";
    };

    systemd.services.bitcoind-lnplaylive = {
      environment = {
        BITCOIN_CHAIN = chain;
        DB_CACHE_MIB = if cfg.bitcoind.dbCacheMiB == null then "auto" else toString cfg.bitcoind.dbCacheMiB;
      };
      unitConfig.RequiresMountsFor = [ dataDir ];
      serviceConfig = lib.mapAttrs (_: lib.mkForce) (
        hardening.base
        // hardening.internet
        // hardening.ownAddresses
        // {
          Type = "notify";
          # Needs a shell, to run systemd-notify.
          NotifyAccess = "all";
          EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
          ExecStartPre = "${lib.getExe atStart} ${cookieDir} ${cookie}";
          ReadWritePaths = [
            dataDir
            cookieDir
          ];
          # The group's access to the cookie's directory is set above.
          UMask = "0027";
          # bitcoind may have to read the whole index when it starts, and to write its cache when it stops.
          TimeoutStartSec = "2h";
          TimeoutStopSec = "10min";
          Restart = "always";
          RestartSec = 5;
        }
      );
    };
  };
}
