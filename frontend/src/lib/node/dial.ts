/** Connects to a node in a worker; `worker.ts` explains why. */
import { LinkError, RpcError, type NodeAddress, type Session } from './node';
import type { Report, Request } from './worker';

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Time-out for the worker to load and connect, in milliseconds. The handshake has its own time-out. */
const LIMIT = 20_000;

/** Opens a connection, which lives as long as its worker. */
export function dial(address: NodeAddress): Promise<Session> {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const send = (request: Request) => {
    worker.postMessage(request);
  };
  const pending = new Map<number, Pending>();
  let calls = 0;
  let isConnected = false;

  return new Promise((resolve, reject) => {
    let finish: () => void = () => undefined;
    const ended = new Promise<void>((done) => {
      finish = done;
    });
    const end = () => {
      worker.terminate();
      finish();
    };
    const session: Session = {
      ended,
      end,
      call: (method, params) =>
        new Promise((answer, fail) => {
          calls += 1;
          pending.set(calls, { resolve: answer, reject: fail });
          send({ kind: 'call', id: calls, method, params });
        }),
    };
    const settle = (id: number, how: (call: Pending) => void) => {
      const call = pending.get(id);
      pending.delete(id);
      if (call !== undefined) how(call);
    };

    worker.addEventListener('message', ({ data }: MessageEvent<Report>) => {
      switch (data.kind) {
        case 'connected':
          isConnected = true;
          resolve(session);
          break;
        case 'failed':
          end();
          reject(new LinkError(data.fault));
          break;
        case 'answer':
          settle(data.id, (call) => {
            call.resolve(data.result);
          });
          break;
        case 'error':
          settle(data.id, (call) => {
            call.reject(new RpcError(data.code, data.message, data.data));
          });
          break;
        case 'ended':
          end();
      }
    });
    // The script could not be loaded: there is no network, or the shop was updated.
    worker.addEventListener('error', () => {
      end();
      reject(new LinkError('unreachable'));
    });
    setTimeout(() => {
      if (isConnected) return;
      end();
      reject(new LinkError('unreachable'));
    }, LIMIT);
    send({ kind: 'dial', address });
  });
}
