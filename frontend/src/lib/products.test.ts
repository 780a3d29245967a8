import { afterEach, expect, it, vi } from 'vitest';
import {
  availability,
  choices,
  chosenProduct,
  hoursWithin,
  presets,
  readCatalogue,
  servedCatalogue,
  slider,
} from './products';
import { ShapeError } from './shape';

afterEach(() => {
  vi.unstubAllGlobals();
});

const A = { sku: 'A', node_count: 8, msat_per_node_hour: 200000, available: true };

it('reads a catalogue without the newer keys', () => {
  const catalogue = readCatalogue({
    products: [{ ...A, sku: 'B', node_count: 16 }, A],
    min_hours: 1,
    max_hours: 504,
  });
  expect(catalogue.products.map(({ nodeCount }) => nodeCount)).toEqual([8, 16]);
  expect(catalogue.products[0]).toMatchObject({
    available: true,
    availableCount: null,
    nextAvailableAt: null,
  });
  expect(catalogue).toMatchObject({ coinDistributions: [], channelSetups: [], contact: null });
});

it('reads availability, options and contact', () => {
  const next = '2026-11-24T15:46:10Z';
  const catalogue = readCatalogue({
    products: [{ ...A, available: false, available_count: 0, next_available_at: next }],
    min_hours: 2,
    max_hours: 24,
    coin_distributions: ['pow'],
    channel_setups: ['star'],
    contact: 'help@shop.example',
  });
  expect(catalogue.products[0]).toMatchObject({ available: false, nextAvailableAt: Date.parse(next) });
  expect(catalogue).toMatchObject({ minHours: 2, coinDistributions: ['pow'], contact: 'help@shop.example' });
  const [product] = catalogue.products;
  if (product === undefined) throw new Error('no product');
  expect(availability(product)).toEqual({ kind: 'sold_out', until: Date.parse(next) });
  const some = { ...product, available: true };
  expect(availability({ ...some, availableCount: 2 })).toEqual({ kind: 'available', count: 2 });
  expect(availability({ ...some, availableCount: 9 })).toEqual({ kind: 'available', count: null });
});

it('reads whether the shop can be paid, and how much', () => {
  const closed = { awaited: 'bitcoind_sync', blocks: 310000, headers: 870000 };
  const catalogue = readCatalogue({
    open: false,
    not_open_yet: closed,
    products: [{ ...A, available: false, payable_hours: 0 }],
  });
  expect(catalogue.awaited).toEqual({ kind: 'bitcoind_sync', blocks: 310000, headers: 870000 });
  expect(catalogue.products[0]).toMatchObject({ available: false, payableHours: 0 });
  const open = readCatalogue({
    open: true,
    not_open_yet: null,
    products: [
      { ...A, payable_hours: 5 },
      { ...A, sku: 'D', node_count: 64, payable_hours: 0 },
    ],
  });
  expect(open.awaited).toBeNull();
  expect(open.products.map(({ available, payableHours }) => [available, payableHours])).toEqual([
    [true, 5],
    [false, 0],
  ]);
  expect(open.products.map((product) => availability(product).kind)).toEqual(['available', 'not_payable']);
  // A shop from before this.
  expect(readCatalogue({ products: [A] })).toMatchObject({
    awaited: null,
    products: [{ payableHours: null }],
  });
});

it.each([null, 'x', { products: ['x'] }, { products: [{ ...A, node_count: '8' }] }])(
  'refuses %j',
  (value) => {
    expect(() => readCatalogue(value)).toThrow(ShapeError);
  },
);

it('takes the catalogue that is served, and nothing that is not one', async () => {
  const served = (response: () => Promise<Response>) => {
    vi.stubGlobal('fetch', response);
    return servedCatalogue();
  };
  const body = { products: [A], min_hours: 1, max_hours: 504, as_of: '2026-11-24T15:46:10Z' };
  const catalogue = await served(() => Promise.resolve(Response.json(body)));
  expect(catalogue?.products[0]?.sku).toBe('A');
  for (const response of [
    () => Promise.reject(new TypeError('failed')),
    () => Promise.resolve(Response.json({ error: 'later' }, { status: 503 })),
    () => Promise.resolve(new Response('<html>')),
    () => Promise.resolve(Response.json({ products: ['x'] })),
  ]) {
    await expect(served(response)).resolves.toBeNull();
  }
});

it('offers the presets that are sold', () => {
  expect(presets({ minHours: 1, maxHours: 504 }).map(({ hours }) => hours)).toEqual([4, 24, 48, 168]);
  expect(presets({ minHours: 5, maxHours: 24 }).map(({ hours }) => hours)).toEqual([24]);
});

it('makes typed hours into hours that are sold', () => {
  const limits = { minHours: 1, maxHours: 504 };
  expect([NaN, -4, 0, 3.6, 504, 505, Infinity].map((hours) => hoursWithin(hours, limits))).toEqual([
    1, 1, 1, 4, 504, 504, 1,
  ]);
});

it('has a slider that reaches both ends, never goes back, and finds the presets', () => {
  const at = (position: number) => slider.hours(position, 1, 504);
  expect([at(0), at(1000)]).toEqual([1, 504]);
  const all = Array.from({ length: 1001 }, (_, position) => at(position));
  expect(all.every((hours, i) => i === 0 || hours >= (all[i - 1] ?? 0))).toBe(true);
  expect([4, 24, 48, 168].every((hours) => at(slider.position(hours, 1, 504)) === hours)).toBe(true);
});

it('tells products of one size apart by name', () => {
  const D = { ...A, sku: 'D', node_count: 64 };
  const catalogue = readCatalogue({ products: [A, D, { ...D, sku: 'E', msat_per_node_hour: 1 }] });
  expect(choices(catalogue)).toEqual([
    { sku: 'A', nodeCount: 8, label: '8' },
    { sku: 'D', nodeCount: 64, label: '64 D' },
    { sku: 'E', nodeCount: 64, label: '64 E' },
  ]);
  const sku = (chosen: { sku: string | null; nodeCount: number }) =>
    chosenProduct(catalogue.products, chosen)?.sku;
  expect(sku({ sku: 'E', nodeCount: 64 })).toBe('E');
  expect(sku({ sku: null, nodeCount: 64 })).toBe('D');
  expect(sku({ sku: 'gone', nodeCount: 64 })).toBe('D');
  expect(sku({ sku: 'E', nodeCount: 9 })).toBeUndefined();
  expect(choices(null).map(({ label }) => label)).toEqual(['8', '16', '32', '64']);
});
