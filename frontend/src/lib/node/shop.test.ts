import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Status } from '../order';
import type { Link } from './link';
import { LinkError, RpcError } from './node';
import { createOrder, watchOrder } from './shop';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const ORDER = { invoice_id: 'i', bolt11_invoice: 'lnbcrt1', amount_msat: 1, node_count: 8, hours: 1 };
const status = (revision: number, invoice_status: string) => ({
  invoice_id: 'i',
  node_count: 8,
  hours: 1,
  revision,
  invoice_status,
  deployment_details: 'not_deployed',
});

/** A link that gives these answers, one per call. */
function link(...answers: unknown[]) {
  const call = vi.fn((method: string, params: unknown, options?: { signal?: AbortSignal }) => {
    void method;
    void params;
    const answer = answers.shift();
    if (answer === undefined) {
      return new Promise<never>((_, reject) => {
        options?.signal?.addEventListener('abort', () => {
          reject(new LinkError('closed'));
        });
      });
    }
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  const close = vi.fn();
  const fork = vi.fn(() => ({ call, close }) as unknown as Link);
  return { call, fork, close, link: { call, fork } as unknown as Link };
}

/** A server that hands out these tickets. */
function tickets(...given: string[]) {
  const fetch = vi.fn(() => Promise.resolve(Response.json({ ticket: given.shift() })));
  vi.stubGlobal('fetch', fetch);
  return fetch;
}
const refused = (code: number, kind: string) => new RpcError(code, 'no', { kind });

it('orders with a ticket, and gets another one if that is refused, once', async () => {
  const { call, link: node } = link(refused(7010, 'ticket_spent'), ORDER);
  tickets('a', 'b');
  await expect(createOrder(node, { nodeCount: 8, hours: 1 })).resolves.toMatchObject({ invoiceId: 'i' });
  expect(call.mock.calls.map(([, params]) => (params as { ticket: string }).ticket)).toEqual(['a', 'b']);

  const refusals = [refused(7009, 'ticket_required'), refused(7009, 'ticket_required')];
  const twice = link(...refusals, ORDER);
  const fetch = tickets('a', 'b', 'c');
  await expect(createOrder(twice.link, { nodeCount: 8, hours: 1 })).rejects.toBe(refusals[1]);
  expect(fetch).toHaveBeenCalledTimes(2);
});

it('orders without a ticket where there are none', async () => {
  const { call, link: node } = link(ORDER);
  vi.stubGlobal('fetch', () => Promise.resolve(new Response('{}', { status: 404 })));
  await createOrder(node, { nodeCount: 8, hours: 1 });
  expect(call).toHaveBeenCalledWith('lnplaylive-createorder', { node_count: 8, hours: 1 });
});

it('does not repeat an order that may have been created', async () => {
  const { call, link: node } = link(new LinkError('lost'), ORDER);
  tickets('a', 'b');
  await expect(createOrder(node, { nodeCount: 8, hours: 1 })).rejects.toBeInstanceOf(LinkError);
  expect(call).toHaveBeenCalledTimes(1);
});

it('asks once, then waits for news, until there can be none', async () => {
  const { call, fork, close, link: node } = link(status(1, 'unpaid'), status(2, 'expired'));
  const seen: Status[] = [];
  const watcher = { onStatus: (s: Status) => void seen.push(s), onTrouble: vi.fn(), onMissing: vi.fn() };
  await watchOrder(node, 'i', watcher, new AbortController().signal);
  expect(seen.map(({ stage }) => stage.kind)).toEqual(['unpaid', 'lapsed']);
  expect(call.mock.calls.map(([method]) => method)).toEqual([
    'lnplaylive-invoicestatus',
    'lnplaylive-waitstatus',
  ]);
  expect(call.mock.calls[1]?.[1]).toMatchObject({ invoice_id: 'i', revision: 1 });
  expect(fork).toHaveBeenCalledTimes(1);
  expect(close).toHaveBeenCalledTimes(1);
});

it('closes the connection that waits when nobody watches any more', async () => {
  const { fork, close, link: node } = link(status(1, 'unpaid'));
  const stop = new AbortController();
  const watcher = { onStatus: vi.fn(), onTrouble: vi.fn(), onMissing: vi.fn() };
  const watching = watchOrder(node, 'i', watcher, stop.signal);
  await vi.advanceTimersByTimeAsync(100);
  expect(fork).toHaveBeenCalledTimes(1);
  expect(close).not.toHaveBeenCalled();
  stop.abort();
  await watching;
  expect(close).toHaveBeenCalledTimes(1);
  expect(watcher.onTrouble).not.toHaveBeenCalled();
});

it('goes on after trouble, and does not hammer a node that answers at once', async () => {
  const { call, link: node } = link(
    status(1, 'unpaid'),
    new LinkError('lost'),
    status(1, 'unpaid'),
    status(1, 'unpaid'),
  );
  const stop = new AbortController();
  const watcher = { onStatus: vi.fn(), onTrouble: vi.fn(), onMissing: vi.fn() };
  const watching = watchOrder(node, 'i', watcher, stop.signal);
  await vi.advanceTimersByTimeAsync(1000);
  expect(call).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(call).toHaveBeenCalledTimes(5);
  expect(watcher.onTrouble).toHaveBeenCalledTimes(1);
  stop.abort();
  void watching;
});

it('says when there is no such order', async () => {
  const { link: node } = link(new RpcError(7000, 'no such order', { kind: 'no_such_order' }));
  const watcher = { onStatus: vi.fn(), onTrouble: vi.fn(), onMissing: vi.fn() };
  await watchOrder(node, 'i', watcher, new AbortController().signal);
  expect(watcher.onMissing).toHaveBeenCalledTimes(1);
});
