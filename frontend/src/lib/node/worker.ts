/**
 * The other side of `dial.ts`: connections in a thread of their own.
 *
 * The handshake is elliptic-curve cryptography in JavaScript. It takes a tenth of a second on a laptop and most of a
 * second on a cheap phone, during which the page would neither scroll nor respond. Browsers also slow down the timers of
 * background pages, which would delay the pings that keep a connection alive.
 */
import { dial } from './lnmessage';
import { LinkError, RpcError, type NodeAddress, type Params, type Session } from './node';

/** Messages from the page. `session` is the page's number for a connection, `id` its number for a call. */
export type Request =
  | { readonly kind: 'dial'; readonly session: number; readonly address: NodeAddress }
  | {
      readonly kind: 'call';
      readonly session: number;
      readonly id: number;
      readonly method: string;
      readonly params: Params;
    }
  | { readonly kind: 'end'; readonly session: number };

/** Messages to the page. */
export type Report =
  | { readonly kind: 'connected'; readonly session: number }
  | { readonly kind: 'failed'; readonly session: number; readonly fault: LinkError['fault'] }
  | { readonly kind: 'answer'; readonly session: number; readonly id: number; readonly result: unknown }
  | {
      readonly kind: 'error';
      readonly session: number;
      readonly id: number;
      readonly code: number;
      readonly message: string;
      readonly data: unknown;
      readonly raw: unknown;
    }
  | { readonly kind: 'ended'; readonly session: number };

const sessions = new Map<number, Session>();
/** Connections that the page ended before they were made. */
const unwanted = new Set<number>();

function report(what: Report): void {
  postMessage(what);
}

async function open(session: number, address: NodeAddress): Promise<void> {
  let made: Session;
  try {
    made = await dial(address);
  } catch (error) {
    unwanted.delete(session);
    report({ kind: 'failed', session, fault: error instanceof LinkError ? error.fault : 'unreachable' });
    return;
  }
  if (unwanted.delete(session)) {
    made.end();
    return;
  }
  sessions.set(session, made);
  report({ kind: 'connected', session });
  await made.ended;
  sessions.delete(session);
  report({ kind: 'ended', session });
}

async function call(session: number, id: number, method: string, params: Params): Promise<void> {
  try {
    report({ kind: 'answer', session, id, result: await sessions.get(session)?.call(method, params) });
  } catch (error) {
    const { code, message, data, raw } =
      error instanceof RpcError ? error : { code: 0, message: 'unknown error', data: null, raw: null };
    report({ kind: 'error', session, id, code, message, data, raw });
  }
}

function end(session: number): void {
  const made = sessions.get(session);
  if (made === undefined) unwanted.add(session);
  else made.end();
}

addEventListener('message', ({ data }: MessageEvent<Request>) => {
  switch (data.kind) {
    case 'dial':
      void open(data.session, data.address);
      break;
    case 'call':
      void call(data.session, data.id, data.method, data.params);
      break;
    case 'end':
      end(data.session);
  }
});
