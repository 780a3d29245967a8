import { beforeEach, expect, it } from 'vitest';
import type { Invoice, Stage, Status } from './order';
import { currentOrder, forget, keep, openInvoice, savedOrder, savedOrders, type OrderStorage } from './saved';

let content: Map<string, string>;
let storage: OrderStorage;

beforeEach(() => {
  content = new Map();
  storage = {
    getItem: (key) => content.get(key) ?? null,
    setItem: (key, value) => void content.set(key, value),
    removeItem: (key) => void content.delete(key),
  };
});

const invoice = (invoiceId: string, expiresAt: number): Invoice => ({
  invoiceId,
  bolt11: 'lnbcrt1',
  amountMsat: 1,
  sku: 'A',
  nodeCount: 8,
  hours: 1,
  expiresAt,
});
const status = (invoiceId: string, stage: Stage): Status => ({
  invoiceId,
  nodeCount: 8,
  hours: 1,
  revision: 1,
  title: null,
  channelSetup: null,
  stage,
});

it('adds what is new to what was known, the last one first', () => {
  keep(storage, { invoiceId: 'a', invoice: invoice('a', 9), seenAt: 1 });
  keep(storage, { invoiceId: 'b', seenAt: 2 });
  keep(storage, { invoiceId: 'a', status: status('a', { kind: 'unpaid' }), seenAt: 3 });
  expect(savedOrders(storage).map(({ invoiceId }) => invoiceId)).toEqual(['a', 'b']);
  expect(savedOrder(storage, 'a')).toMatchObject({ invoice: { expiresAt: 9 }, seenAt: 3 });
});

it('forgets, and leaves nothing behind', () => {
  keep(storage, { invoiceId: 'a', seenAt: 1 });
  forget(storage, 'a');
  expect(content.size).toBe(0);
});

it('keeps a few orders only', () => {
  for (let i = 0; i < 50; i += 1) keep(storage, { invoiceId: String(i), seenAt: i });
  expect(savedOrders(storage).length).toBeLessThan(10);
  expect(savedOrder(storage, '49')).not.toBeNull();
});

it.each(['', '{', 'null', '{"a":1}', '[1,null,{}]'])('takes %s in its place for nothing', (text) => {
  content.set('lnplaylive.orders', text);
  expect(savedOrders(storage)).toEqual([]);
});

it('lives with a store that refuses', () => {
  storage.setItem = () => {
    throw new Error('full');
  };
  expect(() => {
    keep(storage, { invoiceId: 'a', seenAt: 1 });
  }).not.toThrow();
});

it('finds the invoice that can still be paid', () => {
  keep(storage, { invoiceId: 'late', invoice: invoice('late', 10), seenAt: 1 });
  expect(openInvoice(storage, 9)?.invoiceId).toBe('late');
  expect(openInvoice(storage, 10)).toBeNull();
  keep(storage, {
    invoiceId: 'late',
    status: status('late', { kind: 'working', progress: { percent: 1, message: '' } }),
    seenAt: 2,
  });
  expect(openInvoice(storage, 9)).toBeNull();
});

it('offers the order that is not over', () => {
  keep(storage, {
    invoiceId: 'a',
    status: status('a', { kind: 'ready', endsAt: 10, connectionStrings: [] }),
    seenAt: 1,
  });
  keep(storage, { invoiceId: 'b', status: status('b', { kind: 'over', endedAt: 5 }), seenAt: 2 });
  expect(currentOrder(storage, 9)?.invoiceId).toBe('a');
  expect(currentOrder(storage, 10)).toBeNull();
});
