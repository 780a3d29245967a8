import { beforeEach, expect, it } from 'vitest';
import type { Invoice, Stage, Status } from './order';
import { currentOrder, forget, keep, openInvoice, savedOrder, savedOrders, type Shelf } from './saved';

let content: Map<string, string>;
let shelf: Shelf;

beforeEach(() => {
  content = new Map();
  shelf = {
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
  keep(shelf, { invoiceId: 'a', invoice: invoice('a', 9), seenAt: 1 });
  keep(shelf, { invoiceId: 'b', seenAt: 2 });
  keep(shelf, { invoiceId: 'a', status: status('a', { kind: 'unpaid' }), seenAt: 3 });
  expect(savedOrders(shelf).map(({ invoiceId }) => invoiceId)).toEqual(['a', 'b']);
  expect(savedOrder(shelf, 'a')).toMatchObject({ invoice: { expiresAt: 9 }, seenAt: 3 });
});

it('forgets, and leaves nothing behind', () => {
  keep(shelf, { invoiceId: 'a', seenAt: 1 });
  forget(shelf, 'a');
  expect(content.size).toBe(0);
});

it('keeps a few orders only', () => {
  for (let i = 0; i < 50; i += 1) keep(shelf, { invoiceId: String(i), seenAt: i });
  expect(savedOrders(shelf).length).toBeLessThan(10);
  expect(savedOrder(shelf, '49')).not.toBeNull();
});

it.each(['', '{', 'null', '{"a":1}', '[1,null,{}]'])('takes %s in its place for nothing', (text) => {
  content.set('lnplaylive.orders', text);
  expect(savedOrders(shelf)).toEqual([]);
});

it('lives with a store that refuses', () => {
  shelf.setItem = () => {
    throw new Error('full');
  };
  expect(() => {
    keep(shelf, { invoiceId: 'a', seenAt: 1 });
  }).not.toThrow();
});

it('finds the invoice that can still be paid', () => {
  keep(shelf, { invoiceId: 'late', invoice: invoice('late', 10), seenAt: 1 });
  expect(openInvoice(shelf, 9)?.invoiceId).toBe('late');
  expect(openInvoice(shelf, 10)).toBeNull();
  keep(shelf, {
    invoiceId: 'late',
    status: status('late', { kind: 'working', progress: { percent: 1, message: '' } }),
    seenAt: 2,
  });
  expect(openInvoice(shelf, 9)).toBeNull();
});

it('offers the order that is not over', () => {
  keep(shelf, {
    invoiceId: 'a',
    status: status('a', { kind: 'ready', endsAt: 10, connectionStrings: [] }),
    seenAt: 1,
  });
  keep(shelf, { invoiceId: 'b', status: status('b', { kind: 'over', endedAt: 5 }), seenAt: 2 });
  expect(currentOrder(shelf, 9)?.invoiceId).toBe('a');
  expect(currentOrder(shelf, 10)).toBeNull();
});
