# bitcoind of the host: pruned, its RPC for the node alone.
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
  # bitcoind makes a new cookie at each start. It is not in the data directory, which lets nobody else in.
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
      description = "How much of the chain's blocks is kept. A node that was off for longer than that covers cannot catch up.";
    };
    dbCacheMiB = lib.mkOption {
      type = lib.types.ints.between 4 16384;
      default = 450;
      description = "Memory for the set of coins. More makes the first synchronisation faster.";
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
        # The node makes its transactions itself and needs no incoming connections to see them confirmed.
        listen=0
        startupnotify=${config.systemd.package}/bin/systemd-notify --ready
        debuglogfile=0
        printtoconsole=1
        # The journal has its own.
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
    # The directory's group goes over to the cookie.
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
          # Its shell runs systemd-notify.
          NotifyAccess = "all";
          EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
          ReadWritePaths = [
            dataDir
            cookieDir
          ];
          # Group permissions of the cookie's directory are its own affair.
          UMask = "0027";
          # It may have to read the whole index, and, stopped, to write its cache.
          TimeoutStartSec = "2h";
          TimeoutStopSec = "10min";
          Restart = "always";
          RestartSec = 5;
        }
      );
    };
  };
}
