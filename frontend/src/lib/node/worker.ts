/**
 * The other side of `dial.ts`: a connection in its own thread.
 *
 * The handshake is elliptic-curve cryptography in JavaScript. It takes a tenth of a second on a laptop and most of a
 * second on a cheap phone, during which the page would neither scroll nor respond. Browsers also slow down the timers of
 * background pages, which would delay the pings that keep a connection alive.
 */
import { dial } from './lnmessage';
import { LinkError, RpcError, type NodeAddress, type Params, type Session } from './node';

/** Messages from the page. */
export type Request =
  | { readonly kind: 'dial'; readonly address: NodeAddress }
  | { readonly kind: 'call'; readonly id: number; readonly method: string; readonly params: Params };

/** Messages to the page. */
export type Report =
  | { readonly kind: 'connected' }
  | { readonly kind: 'failed'; readonly fault: LinkError['fault'] }
  | { readonly kind: 'answer'; readonly id: number; readonly result: unknown }
  | {
      readonly kind: 'error';
      readonly id: number;
      readonly code: number;
      readonly message: string;
      readonly data: unknown;
    }
  | { readonly kind: 'ended' };

let session: Session | null = null;

function report(what: Report): void {
  postMessage(what);
}

async function open(address: NodeAddress): Promise<void> {
  try {
    session = await dial(address);
  } catch (error) {
    report({ kind: 'failed', fault: error instanceof LinkError ? error.fault : 'unreachable' });
    return;
  }
  report({ kind: 'connected' });
  await session.ended;
  report({ kind: 'ended' });
}

async function call(id: number, method: string, params: Params): Promise<void> {
  try {
    report({ kind: 'answer', id, result: await session?.call(method, params) });
  } catch (error) {
    const { code, message, data } =
      error instanceof RpcError ? error : { code: 0, message: 'unknown error', data: null };
    report({ kind: 'error', id, code, message, data });
  }
}

addEventListener('message', ({ data }: MessageEvent<Request>) => {
  if (data.kind === 'dial') void open(data.address);
  else void call(data.id, data.method, data.params);
});
