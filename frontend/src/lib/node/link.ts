/** A lasting connection: it reconnects when it is lost, and gives every call a time-out. */
import {
  LinkError,
  type Dial,
  type Fault,
  type LinkState,
  type NodeAddress,
  type Params,
  type Session,
} from './node';

/** Default time-out of a call, in milliseconds, including connecting. */
const CALL_LIMIT = 20_000;

/** Delay before the next attempt after `failures` failures, in milliseconds: 0.5 s, doubling up to 30 s. */
export function backoff(failures: number, random: number): number {
  const longest = Math.min(30_000, 500 * 2 ** Math.max(0, failures - 1));
  // Half of it is random, so that not everybody connects to a restarted node at once.
  return Math.round(longest / 2 + (longest / 2) * random);
}

/** Options of a call. */
export interface CallOptions {
  /** Milliseconds; `Infinity` for a call that waits for an event, which ends with the connection at the latest. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/** A lasting connection to a node. */
export class Link {
  readonly #address: NodeAddress;
  readonly #dial: Dial;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<(state: LinkState) => void>();
  readonly #forks = new Set<Link>();
  #state: LinkState = { kind: 'connecting' };
  #session: Session | null = null;
  #wake: () => void = () => undefined;

  constructor(address: NodeAddress, dial: Dial) {
    this.#address = address;
    this.#dial = dial;
    void this.#run();
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Calls the listener with the current state and at each change; returns a function that stops this. */
  subscribe(listener: (state: LinkState) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#state);
    return () => this.#listeners.delete(listener);
  }

  /**
   * A second connection to the same node, for calls that wait: Core Lightning answers the calls of a connection one after
   * the other, so a call that waits for a minute holds up those behind it. Close it after use; it closes with this one.
   */
  fork(): Link {
    const fork = new Link(this.#address, this.#dial);
    this.#forks.add(fork);
    fork.#stop.signal.addEventListener('abort', () => this.#forks.delete(fork));
    if (this.#stop.signal.aborted) fork.close();
    return fork;
  }

  /** Ends the delay between two attempts, for example because the network is back. */
  retryNow(): void {
    this.#wake();
    for (const fork of this.#forks) fork.retryNow();
  }

  /** Closes the connection. */
  close(): void {
    this.#stop.abort();
    this.#session?.end();
    this.#wake();
    for (const fork of this.#forks) fork.close();
  }

  /**
   * Calls a method. Rejects with an `RpcError` if the node refuses, and with a `LinkError` if there was no answer; then
   * it is unknown whether the call was executed.
   */
  async call(
    method: string,
    params: Params,
    { limit = CALL_LIMIT, signal }: CallOptions = {},
  ): Promise<unknown> {
    const gone = new AbortController();
    let fault: Fault = 'timeout';
    const stop = (why: Fault) => () => {
      fault = why;
      gone.abort();
    };
    const timer = Number.isFinite(limit) ? setTimeout(stop('timeout'), limit) : undefined;
    const [onClose, onAbort] = [stop('closed'), stop('closed')];
    this.#stop.signal.addEventListener('abort', onClose);
    signal?.addEventListener('abort', onAbort);
    if (this.#stop.signal.aborted || signal?.aborted === true) onClose();

    const stopped = new Promise<never>((_, reject) => {
      const fail = () => {
        reject(new LinkError(fault));
      };
      if (gone.signal.aborted) fail();
      else gone.signal.addEventListener('abort', fail);
    });
    try {
      const session = await Promise.race([this.#connected(gone.signal), stopped]);
      const lost = session.ended.then(() => {
        throw new LinkError('lost');
      });
      try {
        return await Promise.race([session.call(method, params), lost, stopped]);
      } catch (error) {
        // A silent connection may be dead, so the next call gets a new one.
        if (error instanceof LinkError && error.fault === 'timeout') session.end();
        throw error;
      }
    } catch (error) {
      const waiting = this.#state;
      const nobody = error instanceof LinkError && error.fault === 'timeout' && waiting.kind === 'waiting';
      throw nobody ? new LinkError(waiting.fault) : error;
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener('abort', onClose);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #connected(gone: AbortSignal): Promise<Session> {
    return new Promise((resolve) => {
      const look = () => {
        if (this.#session === null) return;
        this.#listeners.delete(look);
        resolve(this.#session);
      };
      this.#listeners.add(look);
      gone.addEventListener('abort', () => this.#listeners.delete(look));
      look();
    });
  }

  #set(state: LinkState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener(state);
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      this.#set({ kind: 'connecting' });
      let fault: Fault = 'lost';
      try {
        const session = await this.#dial(this.#address);
        if (this.#stop.signal.aborted) {
          session.end();
          return;
        }
        this.#session = session;
        this.#set({ kind: 'connected' });
        failures = 0;
        await session.ended;
      } catch (error) {
        fault = error instanceof LinkError ? error.fault : 'unreachable';
      }
      this.#session = null;
      failures += 1;
      const pause = backoff(failures, Math.random());
      this.#set({ kind: 'waiting', fault, retryAt: Date.now() + pause });
      await this.#pause(pause);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#stop.signal.aborted) this.#wake();
    });
  }
}
