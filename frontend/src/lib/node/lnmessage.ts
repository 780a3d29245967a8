/** Connects to a node with `lnmessage`: BOLT 8 and commando over a WebSocket. */
import LnMessage from 'lnmessage';
import { LinkError, RpcError, type NodeAddress, type Params, type Session } from './node';

/** Time-out until the end of the handshake, in milliseconds. */
const HANDSHAKE_LIMIT = 10_000;

function asRpcError(error: unknown): Error {
  if (error instanceof Error) return error;
  const { code, message, data } = (error ?? {}) as { code?: unknown; message?: unknown; data?: unknown };
  return new RpcError(
    typeof code === 'number' ? code : 0,
    typeof message === 'string' ? message : 'unknown error',
    data ?? null,
    error,
  );
}

/** Connects. The library has no time-outs, and reconnects with stale keys, so both are handled outside of it. */
export async function dial({ nodeId, url, rune, isPatient = false }: NodeAddress): Promise<Session> {
  const node = new LnMessage({ remoteNodePublicKey: nodeId, ip: 'localhost', port: 443 });
  // The library supports only host and port, but a node behind the gateway has a path.
  node.wsUrl = url;

  let opened = false;
  let expired = false;
  const connecting = node.connect(false);
  node.socket?.addEventListener('open', () => {
    opened = true;
  });
  const limit = setTimeout(() => {
    expired = true;
    node.disconnect();
  }, HANDSHAKE_LIMIT);
  // It throws if the browser refuses the URL.
  const connected = await connecting.catch(() => false);
  clearTimeout(limit);
  if (!connected) {
    node.disconnect();
    // By the protocol, a node that receives a handshake for another node closes the connection without an answer.
    throw new LinkError(opened && !expired ? 'stranger' : 'unreachable');
  }

  let [waiting, isEnding] = [0, false];
  const ended = new Promise<void>((resolve) => {
    node.connectionStatus$.subscribe((status) => {
      if (status === 'disconnected') resolve();
    });
    // The library closes a socket whose ping is not answered in time. lightningd reads nothing from a connection with a call
    // that waits, pings neither. The browser, in turn, waits a minute for the other end to close as well, and drops what comes.
    const { socket } = node;
    if (!(socket instanceof WebSocket)) return;
    socket.close = (...how) => {
      if (isPatient && waiting > 0 && !isEnding) return;
      WebSocket.prototype.close.apply(socket, how);
      resolve();
    };
  });
  return {
    ended,
    call: async (method: string, params: Params) => {
      waiting += 1;
      try {
        return await node.commando({ method, params, rune });
      } catch (error) {
        throw asRpcError(error);
      } finally {
        waiting -= 1;
      }
    },
    end: () => {
      isEnding = true;
      node.disconnect();
    },
  };
}
