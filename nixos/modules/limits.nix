# Limits of the host's services, computed from the numbers of sockets that the web shop's server lets in. Each takes the settings
# `frontend.limits` of lnplaylive.toml.
#
# A unit at its limit must not take the node down: at its task limit, lightningd cannot start bitcoin-cli and aborts.
let
  MiB = count: "${toString count}M";
in
{
  # Core Lightning with its plugins, and a process `lightning_websocketd` for each WebSocket. One that was closed may still be ending
  # when the next begins, hence twice as many. The rest is for the plugins' threads, the channels' daemons and bitcoin-cli.
  clightning =
    { node_sockets, ... }:
    {
      TasksMax = 1536 + 2 * node_sockets.total;
      # Such a process takes up to 4 MiB.
      MemoryMax = MiB (2048 + 8 * node_sockets.total);
      CPUWeight = 400;
    };

  # The web shop's server: a task is a thread, of which the runtime starts up to 512 for files and drawings.
  frontend =
    {
      connections,
      node_sockets,
      environment_sockets,
      card_requests,
      ...
    }:
    {
      TasksMax = 640;
      # 32 KiB for each connection, 2 MiB for each request for cards, 192 MiB for the two that are drawn, files and fonts.
      MemoryMax = MiB (
        192 + (connections + node_sockets.total + environment_sockets.total) / 32 + 2 * card_requests.total
      );
      # Two file descriptors for each relay, one for each other connection.
      LimitNOFILE = 1024 + connections + 2 * (node_sockets.total + environment_sockets.total);
      CPUWeight = 50;
    };

  # Caddy: a task is a thread. 128 KiB for each connection, with TLS and both its sides.
  caddy =
    {
      connections,
      node_sockets,
      environment_sockets,
      ...
    }:
    {
      TasksMax = 512;
      MemoryMax = MiB (256 + (connections + node_sockets.total + environment_sockets.total) / 8);
      CPUWeight = 50;
    };
}
