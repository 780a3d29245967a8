/** Dialling a node with `lnmessage`: BOLT 8 and commando over a WebSocket. */
import LnMessage from 'lnmessage';
import { LinkError, RpcError, type NodeAddress, type Params, type Session } from './node';

/** Time from dialling to the end of the handshake, in milliseconds. */
const HANDSHAKE_LIMIT = 10_000;

function asRpcError(error: unknown): Error {
  if (error instanceof Error) return error;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return new RpcError(
    typeof code === 'number' ? code : 0,
    typeof message === 'string' ? message : 'unknown error',
    error,
  );
}

/** Dials. The library has no time-outs and reconnects with stale keys, so both are done outside of it. */
export async function dial({ nodeId, url, rune, runeFor = {} }: NodeAddress): Promise<Session> {
  const node = new LnMessage({ remoteNodePublicKey: nodeId, ip: 'localhost', port: 443 });
  // It can put together host and port only; a node behind a gateway has a path.
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
  // It throws if the browser refuses the address.
  const connected = await connecting.catch(() => false);
  clearTimeout(limit);
  if (!connected) {
    node.disconnect();
    // Who hears a handshake that is meant for another hangs up without a word: that is how the protocol goes.
    throw new LinkError(opened && !expired ? 'stranger' : 'unreachable');
  }

  const ended = new Promise<void>((resolve) => {
    node.connectionStatus$.subscribe((status) => {
      if (status === 'disconnected') resolve();
    });
  });
  return {
    ended,
    call: async (method: string, params: Params) => {
      try {
        return await node.commando({ method, params, rune: runeFor[method] ?? rune });
      } catch (error) {
        throw asRpcError(error);
      }
    },
    end: () => {
      node.disconnect();
    },
  };
}
