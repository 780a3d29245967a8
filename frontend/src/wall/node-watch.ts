/**
 * One node of the room: asks it what it has, and waits for payments that it makes.
 *
 * lightningd answers the calls of a connection one after the other, so what waits has a connection of its own. Only the end
 * of a payment is waited for, on the side of its sender: the nodes on its route are asked when there is something to hear.
 */
import { isRefusedKey } from '../lib/errors';
import { Link } from '../lib/node/link';
import { LinkError, type Dial, type LinkState, type NodeAddress } from '../lib/node/node';
import { sleep } from '../lib/node/shop';
import { numberOr, object } from '../lib/shape';
import { readChannels } from '../wallet/data/channels';
import { readForwards } from '../wallet/data/payments';
import { isUnknownMethod } from '../wallet/look';
import {
  readHtlcs,
  readMoves,
  readParts,
  readRefusals,
  type Htlc,
  type Move,
  type Part,
  type Refusal,
} from './data/answers';
import type { NodeReport } from './data/picture';
import type { Presence } from './data/seat';
import type { Routed } from './data/standings';

/** How many of the newest forwards and HTLCs a node is asked for. */
const NEWEST = 500;
const NEWEST_HTLCS = 60;

/** Milliseconds before a call that failed is made again. */
const PAUSE = 2000;

/** A connection on which nothing has come for so long is replaced: it may be dead. Milliseconds. */
const SILENCE = 240_000;

/** What the room hears from a node. */
export interface Listener {
  /** The connection, and whether the node accepts the card. */
  readonly onState: (state: Presence) => void;
  readonly onReport: (report: NodeReport) => void;
  /** What the node had routed before the wall was opened. */
  readonly onRouted: (routed: Routed) => void;
  /** Parts of payments of this node that were completed or failed just now. */
  readonly onParts: (parts: readonly Part[]) => void;
}

export class NodeWatch {
  readonly nodeId: string;
  readonly #look: Link;
  /** For the wait; made once the node has told what it begins with. */
  #waits: Link | null = null;
  readonly #address: NodeAddress;
  readonly #dial: Dial;
  readonly #on: Listener;
  readonly #stop = new AbortController();
  #moves: Move[] = [];
  #lastMove = 0;
  /** When the last report was asked for, in milliseconds since 1970. */
  reportedAt = 0;
  isHere = false;

  constructor(address: NodeAddress, dial: Dial, on: Listener) {
    this.nodeId = address.nodeId;
    this.#address = address;
    this.#dial = dial;
    this.#on = on;
    this.#look = new Link(address, dial);
    this.#look.subscribe((state: LinkState) => {
      // A connection that is closed here says nothing about the node.
      if (this.#stop.signal.aborted) return;
      if (state.kind === 'connected') void this.#arrive();
      else if (state.kind === 'waiting') {
        this.isHere = false;
        this.#on.onState('away');
      }
    });
  }

  close(): void {
    this.#stop.abort();
    this.#look.close();
    this.#waits?.close();
  }

  /** Has the connection made again at once, for example because the network is back. */
  retryNow(): void {
    this.#look.retryNow();
    this.#waits?.retryNow();
  }

  /** A further connection to the node. */
  fork(): Link {
    return this.#look.fork();
  }

  /** Asks for the node's channels. */
  async report(): Promise<void> {
    const askedAt = Date.now();
    this.reportedAt = askedAt;
    const channels = readChannels(await this.#call('listpeerchannels'));
    this.#on.onReport({ nodeId: this.nodeId, channels, askedAt });
  }

  /** The node's block height. */
  async height(): Promise<number> {
    return numberOr(object(await this.#call('getinfo'), 'getinfo'), 'blockheight', 0);
  }

  /** The node's moves for a payment. Asks for what is newer than what it has told before. */
  async movesFor(paymentHash: string): Promise<readonly Move[]> {
    const answer = await this.#call('listchannelmoves', { index: 'created', start: this.#lastMove + 1 });
    for (const move of readMoves(answer)) {
      // Two calls may have overlapped.
      if (move.index <= this.#lastMove) continue;
      this.#lastMove = move.index;
      this.#moves.push(move);
    }
    this.#moves = this.#moves.slice(-NEWEST);
    return this.#moves.filter((move) => move.paymentHash === paymentHash);
  }

  /** All parts of a payment of this node. */
  async partsOf(paymentHash: string): Promise<Part[]> {
    return readParts(await this.#call('listsendpays', { payment_hash: paymentHash }));
  }

  /** What is left of a payment that failed. */
  async failureOf(paymentHash: string): Promise<{ htlcs: Htlc[]; refusals: Refusal[] }> {
    const since = async (subsystem: string, count: number) => {
      const last = await this.#index(subsystem, 'created');
      return { index: 'created', start: Math.max(1, last - count) };
    };
    const [htlcs, forwards] = await Promise.all([
      this.#call('listhtlcs', await since('htlcs', NEWEST_HTLCS)),
      this.#call('listforwards', await since('forwards', NEWEST_HTLCS)),
    ]);
    return {
      htlcs: readHtlcs(htlcs).filter((htlc) => htlc.paymentHash === paymentHash),
      refusals: readRefusals(forwards),
    };
  }

  #call(method: string, params: Record<string, unknown> = {}): Promise<unknown> {
    return this.#look.call(method, params, { signal: this.#stop.signal });
  }

  async #index(subsystem: string, indexname: 'created' | 'updated'): Promise<number> {
    const answer = await this.#call('wait', { subsystem, indexname, nextvalue: 0 });
    return numberOr(object(answer, 'wait'), indexname, 0);
  }

  /** What a new connection begins with. */
  async #arrive(): Promise<void> {
    try {
      await this.report();
      this.isHere = true;
      this.#on.onState('here');
      if (this.#waits !== null) return;
      const [moves, forwards] = [
        await this.#index('channelmoves', 'created'),
        await this.#index('forwards', 'created'),
      ];
      const start = Math.max(1, forwards - NEWEST);
      const rows = forwards === 0 ? {} : await this.#call('listforwards', { index: 'created', start });
      const settled = readForwards(rows).filter((row) => row.status === 'settled');
      // The connection may have come back meanwhile, and begun with the same.
      if (this.#waits !== null) return;
      this.#waits = new Link({ ...this.#address, isPatient: true }, this.#dial);
      this.#lastMove = moves;
      this.#on.onRouted({
        count: settled.length,
        feesMsat: settled.reduce((sum, row) => sum + row.feeMsat, 0),
      });
      void this.#followPayments(this.#waits);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (isRefusedKey(error)) {
        this.isHere = false;
        this.#on.onState('refused');
        return;
      }
      await sleep(PAUSE, this.#stop.signal);
      if (!this.#stop.signal.aborted && this.#look.state.kind === 'connected') await this.#arrive();
    }
  }

  async #followPayments(waits: Link): Promise<void> {
    const { signal } = this.#stop;
    const index = { subsystem: 'sendpays', indexname: 'updated' };
    let next = 0;
    while (!signal.aborted) {
      try {
        const answer = await waits.call('wait', { ...index, nextvalue: next }, { signal, limit: SILENCE });
        const last = numberOr(object(answer, 'wait'), 'updated', 0);
        if (next > 0 && last >= next) {
          const rows = await waits.call('listsendpays', { index: 'updated', start: next }, { signal });
          this.#on.onParts(readParts(rows).filter((part) => part.status !== 'pending'));
        }
        next = last + 1;
      } catch (error) {
        if (signal.aborted || isUnknownMethod(error)) return;
        // A connection that was lost is made again by itself; what happened meanwhile is told at once then.
        if (!(error instanceof LinkError)) await sleep(PAUSE, signal);
      }
    }
  }
}
