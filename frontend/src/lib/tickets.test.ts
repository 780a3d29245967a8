import { afterEach, expect, it, vi } from 'vitest';
import { sentence } from './errors';
import { fetchTicket, TicketError } from './tickets';

afterEach(() => {
  vi.unstubAllGlobals();
});

const serve = (fetch: () => Promise<Response>) => {
  vi.stubGlobal('fetch', fetch);
};

it('gets a ticket', async () => {
  const fetch = vi.fn(() => Promise.resolve(Response.json({ ticket: 't', expires_at: 'later' })));
  serve(fetch);
  await expect(fetchTicket()).resolves.toBe('t');
  expect(fetch).toHaveBeenCalledWith('/tickets', expect.objectContaining({ method: 'POST' }));
});

it.each([
  ['no network', () => Promise.reject(new TypeError('failed'))],
  ['a shop without tickets', () => Promise.resolve(new Response('{}', { status: 404 }))],
  ['a key that is not there yet', () => Promise.resolve(new Response('{}', { status: 503 }))],
  ['pages on a plain file server', () => Promise.resolve(new Response('<html>'))],
])('orders without one where there is %s', async (_, fetch) => {
  serve(fetch);
  await expect(fetchTicket()).resolves.toBeNull();
});

it('says how long to wait when it has had its share', async () => {
  serve(() => Promise.resolve(new Response('{}', { status: 429, headers: { 'retry-after': '9' } })));
  const error: unknown = await fetchTicket().catch((e: unknown) => e);
  expect(error).toBeInstanceOf(TicketError);
  expect(sentence(error)).toContain('in 9 seconds.');
});
