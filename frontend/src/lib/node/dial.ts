/** Connects to nodes in workers; `worker.ts` explains why. */
import { LinkError, RpcError, type Dial, type NodeAddress, type Session } from './node';
import type { Report, Request } from './worker';

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A connection as the page sees it. */
interface Open {
  readonly calls: Map<number, PendingCall>;
  readonly connected: () => void;
  /** Ends it; before it is connected, the dial fails with this fault. */
  readonly end: (fault: LinkError['fault']) => void;
}

/** Time-out for the worker to load and connect, in milliseconds. The handshake has its own time-out. */
const LIMIT = 20_000;

/** A worker with its connections. */
class Host {
  readonly #worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  readonly #open = new Map<number, Open>();
  #count = 0;
  /** True once the script could not be loaded: there is no network, or the shop was updated. */
  isBroken = false;

  constructor() {
    this.#worker.addEventListener('message', ({ data }: MessageEvent<Report>) => {
      this.#hear(data);
    });
    this.#worker.addEventListener('error', () => {
      this.isBroken = true;
      this.#worker.terminate();
      for (const open of [...this.#open.values()]) open.end('unreachable');
    });
  }

  /** Opens a connection; `onEnd` runs when it has ended, or could not be made. */
  dial(address: NodeAddress, onEnd: () => void = () => undefined): Promise<Session> {
    const number = this.#count++;
    const send = (request: Request) => {
      this.#worker.postMessage(request);
    };
    return new Promise((resolve, reject) => {
      let finish: () => void = () => undefined;
      const ended = new Promise<void>((done) => {
        finish = done;
      });
      const calls: Open['calls'] = new Map();
      let isConnected = false;
      const timer = setTimeout(() => {
        if (!isConnected) open.end('unreachable');
      }, LIMIT);
      const open: Open = {
        calls,
        connected: () => {
          isConnected = true;
          clearTimeout(timer);
          resolve(session);
        },
        end: (fault) => {
          if (!this.#open.delete(number)) return;
          clearTimeout(timer);
          send({ kind: 'end', session: number });
          finish();
          reject(new LinkError(fault));
          onEnd();
        },
      };
      const session: Session = {
        ended,
        end: () => {
          open.end('closed');
        },
        call: (method, params) =>
          new Promise((answer, fail) => {
            const id = this.#count++;
            calls.set(id, { resolve: answer, reject: fail });
            send({ kind: 'call', session: number, id, method, params });
          }),
      };
      this.#open.set(number, open);
      send({ kind: 'dial', session: number, address });
    });
  }

  /** Ends all of it. */
  terminate(): void {
    this.#worker.terminate();
    for (const open of [...this.#open.values()]) open.end('closed');
  }

  #hear(report: Report): void {
    const open = this.#open.get(report.session);
    if (open === undefined) return;
    switch (report.kind) {
      case 'connected':
        open.connected();
        break;
      case 'failed':
        open.end(report.fault);
        break;
      case 'ended':
        open.end('lost');
        break;
      default: {
        const call = open.calls.get(report.id);
        open.calls.delete(report.id);
        if (report.kind === 'answer') call?.resolve(report.result);
        else call?.reject(new RpcError(report.code, report.message, report.data, report.raw));
      }
    }
  }
}

/** Opens a connection, which lives as long as its worker. */
export function dial(address: NodeAddress): Promise<Session> {
  const host = new Host();
  return host.dial(address, () => {
    host.terminate();
  });
}

/**
 * Dials in a few workers that many connections share: a page with a hundred connections would need gigabytes for a hundred
 * workers. Each worker does one handshake at a time, so that none of them exceeds the time that the server gives it.
 */
export class DialPool {
  readonly #hosts: (Host | null)[];
  readonly #turns: Promise<unknown>[];
  #next = 0;
  #isClosed = false;

  constructor(workers: number) {
    this.#hosts = Array.from({ length: workers }, () => null);
    this.#turns = this.#hosts.map(() => Promise.resolve());
  }

  /** Opens a connection in one of the workers. */
  readonly dial: Dial = (address) => {
    const at = this.#next++ % this.#hosts.length;
    const dialled = (this.#turns[at] ?? Promise.resolve()).then(() => this.#host(at).dial(address));
    this.#turns[at] = dialled.catch(() => undefined);
    return dialled;
  };

  /** Ends all connections. */
  close(): void {
    this.#isClosed = true;
    for (const host of this.#hosts) host?.terminate();
  }

  #host(at: number): Host {
    if (this.#isClosed) throw new LinkError('closed');
    const known = this.#hosts[at] ?? null;
    if (known !== null && !known.isBroken) return known;
    return (this.#hosts[at] = new Host());
  }
}
