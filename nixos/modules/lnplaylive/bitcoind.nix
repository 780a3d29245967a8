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
      type = lib.types.ints.between 4 16384;
      default = 450;
      description = "Size of the UTXO cache, in MiB. A larger cache makes the first synchronisation faster.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.bitcoind.lnplaylive = {
      enable = true;
      inherit (cfg.bitcoind) package;
      inherit dataDir user;
      prune = cfg.bitcoind.pruneMiB;
      dbCache = cfg.bitcoind.dbCacheMiB;
      extraConfig = ''
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

    users.groups.${group} = { };
    # The cookie inherits the directory's group.
    systemd.tmpfiles.settings.lnplaylive-bitcoind.${cookieDir}.d = {
      inherit user group;
      mode = "2750";
    };

    systemd.services.bitcoind-lnplaylive = {
      environment.BITCOIN_CHAIN = chain;
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
