import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ConnectionString } from '../lib/connection-string';
import { LinkError, RpcError, type Dial, type Session } from '../lib/node/node';
import {
  ALICE,
  ALICE_BRUNO,
  BRUNO,
  CAROL,
  CHANNELS,
  FORWARDS,
  HTLCS,
  MOVES,
  SENDPAYS,
} from './data/recorded.fixtures';
import { Room } from './room.svelte';
import { t } from './text';

const NAMES: Record<string, string> = { [ALICE]: 'Alice', [BRUNO]: 'Bruno', [CAROL]: 'Carol' };
const CARDS = Object.entries(NAMES).map(([nodeId, name]): ConnectionString => ({
  nodeId,
  name,
  link: nodeId,
  url: `ws://${name}`,
  rune: 'r',
  color: null,
}));

/** Nodes that answer what real ones did; a payment happens when the test says so. */
class Nodes {
  readonly calls: string[] = [];
  readonly #waits = new Map<string, (index: number) => void>();
  readonly #sessions = new Map<string, Set<() => void>>();
  readonly away = new Set<string>();
  #height = 120;
  readonly #blocks = new Set<() => void>();

  /** Number of the last of Alice's payments that has ended. */
  #ended = 0;

  /** Alice's payment number `index` has ended. */
  end(index: number): void {
    this.#ended = index;
    this.#waits.get(ALICE)?.(index);
  }

  mine(): void {
    this.#height += 1;
    for (const heard of this.#blocks) heard();
    this.#blocks.clear();
  }

  leave(nodeId: string): void {
    this.away.add(nodeId);
    this.cut(nodeId);
  }

  cut(nodeId: string): void {
    for (const cut of this.#sessions.get(nodeId) ?? []) cut();
  }

  readonly dial: Dial = ({ nodeId }) => {
    if (this.away.has(nodeId)) return Promise.reject(new LinkError('unreachable'));
    let cut: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (cut = resolve));
    this.#sessions.set(nodeId, (this.#sessions.get(nodeId) ?? new Set()).add(cut));
    const session: Session = {
      ended,
      end: cut,
      call: (method, params) => {
        this.calls.push(method);
        return this.#answer(nodeId, method, params as Record<string, unknown>);
      },
    };
    return Promise.resolve(session);
  };

  close(): void {
    this.away.clear();
  }

  #answer(nodeId: string, method: string, params: Record<string, unknown>): Promise<unknown> {
    const page = (rows: unknown, key: string) => {
      const all = (rows as Record<string, Record<string, unknown>[]>)[key] ?? [];
      const index = params['index'] === 'updated' ? 'updated_index' : 'created_index';
      const start = Number(params['start'] ?? 0);
      return {
        [key]: all.filter(
          (row) =>
          params['payment_hash'] === undefined ? Number(row[index]) >= start : row['payment_hash'] === params['payment_hash'], // prettier-ignore
        ),
      };
    };
    switch (method) {
      case 'getinfo':
        return Promise.resolve({ blockheight: this.#height });
      case 'listpeerchannels':
        return Promise.resolve(CHANNELS[nodeId]);
      case 'listsendpays':
        return Promise.resolve(
          page({ payments: SENDPAYS.payments.filter((row) => row.updated_index <= this.#ended) }, 'payments'),
        );
      case 'listchannelmoves':
        return Promise.resolve(page(MOVES[nodeId], 'channelmoves'));
      case 'listhtlcs':
        return Promise.resolve(page(HTLCS[nodeId] ?? { htlcs: [] }, 'htlcs'));
      case 'listforwards':
        return Promise.resolve(page(FORWARDS[nodeId] ?? { forwards: [] }, 'forwards'));
      case 'wait': {
        const indexname = String(params['indexname']);
        // Bruno's forwards are from before the wall was opened.
        const last = params['subsystem'] === 'forwards' && nodeId === BRUNO ? 3 : 0;
        if (params['nextvalue'] === 0) return Promise.resolve({ [indexname]: last });
        if (nodeId === ALICE && this.#ended >= Number(params['nextvalue']))
          return Promise.resolve({ [indexname]: this.#ended });
        return new Promise((resolve) => {
          this.#waits.set(nodeId, (index) => {
            resolve({ [indexname]: index });
          });
        });
      }
      case 'waitblockheight':
        return new Promise((resolve, reject) => {
          this.#blocks.add(() => {
            resolve({ blockheight: this.#height });
          });
          setTimeout(
            () => {
              reject(new RpcError(2000, 'Timed out.'));
            },
            Number(params['timeout']) * 1000,
          );
        });
      default:
        return Promise.reject(new RpcError(-32601, `Unknown command '${method}'`));
    }
  }
}

let nodes: Nodes;
let room: Room;

beforeEach(async () => {
  vi.useFakeTimers();
  vi.stubGlobal('document', { hidden: false });
  nodes = new Nodes();
  room = new Room(CARDS, nodes);
  await vi.advanceTimersByTimeAsync(1000);
});

afterEach(() => {
  room.close();
  vi.useRealTimers();
});

const told = () =>
  room.happenings.map(({ event }) =>
    t
      .sentence(event, (nodeId) => NAMES[nodeId] ?? nodeId)
      .map((part) => (typeof part === 'string' ? part : NAMES[part.node]))
      .join(''),
  );

it('begins with what is there, and tells none of it', () => {
  expect(room.seats.map(({ presence }) => presence)).toEqual(['here', 'here', 'here']);
  expect(room.lanes).toHaveLength(2);
  expect(room.height).toBe(120);
  expect(told()).toEqual([]);
});

it('tells a payment with its route, and who routed it', async () => {
  nodes.end(1);
  await vi.advanceTimersByTimeAsync(2000);
  expect(told()).toEqual(['Alice paid Carol 21,000 sat through Bruno, fee 0.211 sat']);
  expect(room.lanes.find(({ channelId }) => channelId === ALICE_BRUNO)?.aMsat).toBe(
    10_000_000_000 - 21_000_211,
  );
  expect(room.standings.routed).toMatchObject([{ nodeId: BRUNO, more: 60_001 + 211 }]);
});

it('tells where a payment failed, and why', async () => {
  nodes.end(1);
  await vi.advanceTimersByTimeAsync(2000);
  nodes.end(3);
  await vi.advanceTimersByTimeAsync(2000);
  expect(told()[0]).toBe(
    'Alice could not pay Carol 2,000,000 sat: Bruno has too few coins in the channel to Carol',
  );
});

it('asks for all channels after a block', async () => {
  nodes.calls.length = 0;
  nodes.mine();
  await vi.advanceTimersByTimeAsync(1900);
  expect(room.height).toBe(121);
  expect(told()).toEqual(['Block 121']);
  expect(nodes.calls.filter((method) => method === 'listpeerchannels').length).toBeGreaterThanOrEqual(3);
});

it('hardly asks while nothing happens', async () => {
  nodes.calls.length = 0;
  await vi.advanceTimersByTimeAsync(60_000);
  expect([...new Set(nodes.calls)].sort()).toEqual(['listpeerchannels', 'waitblockheight']);
  expect(nodes.calls.length).toBeLessThanOrEqual(33);
});

it('goes on without a node that is away, and with it when it is back', async () => {
  nodes.leave(CAROL);
  await vi.advanceTimersByTimeAsync(1000);
  expect(told()).toEqual(['Carol does not answer']);
  nodes.end(1);
  await vi.advanceTimersByTimeAsync(3000);
  expect(told()[0]).toBe('Alice paid Carol 21,000 sat through Bruno, fee 0.211 sat');
  nodes.away.clear();
  await vi.advanceTimersByTimeAsync(40_000);
  expect(told()[0]).toBe('Carol is back');
});

it('tells a payment that ended while the connection was made again', async () => {
  nodes.cut(ALICE);
  nodes.end(1);
  await vi.advanceTimersByTimeAsync(3000);
  expect(told()[0]).toBe('Alice paid Carol 21,000 sat through Bruno, fee 0.211 sat');
});

it('goes on waiting for blocks when the node that was asked is away', async () => {
  nodes.leave(ALICE);
  await vi.advanceTimersByTimeAsync(2000);
  nodes.mine();
  await vi.advanceTimersByTimeAsync(1000);
  expect(room.height).toBe(121);
});

it('says nothing of nodes that it has left itself', async () => {
  room.close();
  await vi.advanceTimersByTimeAsync(5000);
  expect(told()).toEqual([]);
});
