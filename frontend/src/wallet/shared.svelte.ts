/* eslint svelte/prefer-svelte-reactivity: 'off' -- no template reads the map in here */
/** What the room is asked for, kept up to date while somebody looks. */
import { isRefusedKey } from '../lib/errors';
import { sleep } from '../lib/node/shop';
import { ShapeError } from '../lib/shape';
import { NotPayable, readPayable, type Payable } from './data/payable';
import { isPayableAsk, readShared, type Ask, type SharedText } from './data/shared';
import { isUnknownMethod } from './look';
import type { Wallet } from './wallet.svelte';

/** How often the node is asked. Milliseconds. */
const INTERVAL = 2000;

/** The requests that nodes show to the room. Runs until it is closed. */
export class Shared {
  readonly #wallet: Wallet;
  readonly #stop = new AbortController();
  /** What was decoded; null for what is no request. */
  readonly #decoded = new Map<string, Payable | null>();

  /** Of others, those of the same node together. */
  asks = $state.raw<readonly Ask[]>([]);
  /** Of this node. */
  own = $state.raw<readonly string[]>([]);
  /** False where the node knows no such list: it is of an earlier release. */
  isThere = $state(false);

  constructor(wallet: Wallet) {
    this.#wallet = wallet;
    void this.#follow();
  }

  close(): void {
    this.#stop.abort();
  }

  /** Shows a request to the room; `label` is an invoice's, which leaves the list with its payment. */
  async share(text: string, label: string | null): Promise<void> {
    const params = { invoice: text, ...(label === null ? {} : { label }) };
    await this.#wallet.call('shareinvoice', params);
    this.own = [...this.own.filter((other) => other !== text), text];
  }

  /** No longer shows it. */
  async unshare(text: string): Promise<void> {
    await this.#wallet.call('unshareinvoice', { invoice: text });
    this.own = this.own.filter((other) => other !== text);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (!document.hidden) {
        try {
          const all = readShared(await this.#wallet.call('listsharedinvoices'));
          this.isThere = true;
          await this.#take(all);
        } catch (error) {
          if (isUnknownMethod(error) || isRefusedKey(error)) return;
        }
      }
      await sleep(INTERVAL, signal);
    }
  }

  async #take(all: readonly SharedText[]): Promise<void> {
    const self = this.#wallet.target.nodeId;
    const others = all.filter(({ nodeId }) => nodeId !== self);
    this.own = all.filter(({ nodeId }) => nodeId === self).map(({ text }) => text);
    const asks: Ask[] = [];
    for (const { nodeId, text } of others) {
      const what = await this.#decode(text);
      if (what !== null) asks.push({ nodeId, what });
    }
    const now = Date.now();
    this.asks = asks.filter((ask) => isPayableAsk(ask, now));
  }

  async #decode(text: string): Promise<Payable | null> {
    const known = this.#decoded.get(text);
    if (known !== undefined) return known;
    let what: Payable | null = null;
    try {
      what = readPayable(await this.#wallet.call('decode', { string: text }), text);
    } catch (error) {
      // Whatever else failed passes.
      if (!(error instanceof NotPayable || error instanceof ShapeError)) throw error;
    }
    this.#decoded.set(text, what);
    return what;
  }
}
