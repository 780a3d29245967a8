import { afterEach, expect, it, vi } from 'vitest';
import { builtIn, ConfigError, loadConfig, readConfig } from './config';

const GIVEN = {
  node_id: `02${'ab'.repeat(32)}`,
  websocket_url: 'wss://node.example/ws',
  rune: 'r',
  contact: null,
};

afterEach(() => {
  vi.unstubAllGlobals();
});

it('reads what is served, and finds the socket beside itself if no other is named', () => {
  const here = new URL('https://shop.example/order');
  expect(readConfig(GIVEN, here)).toMatchObject({ websocketUrl: 'wss://node.example/ws', demoWallet: null });
  expect(readConfig({ ...GIVEN, websocket_url: null }, here).websocketUrl).toBe('wss://shop.example/ws');
  const local = new URL('http://127.0.0.1:3000/');
  expect(readConfig({ ...GIVEN, websocket_url: undefined }, local).websocketUrl).toBe(
    'ws://127.0.0.1:3000/ws',
  );
});

it('lets the demo wallet be on this site only', () => {
  const wallet = (demo_wallet: string) =>
    readConfig({ ...GIVEN, demo_wallet }, new URL('http://h/')).demoWallet;
  expect(wallet('/demo/pay')).toBe('/demo/pay');
  expect(wallet('//evil.example/pay')).toBeNull();
  expect(wallet('https://evil.example/pay')).toBeNull();
});

it.each([
  null,
  {},
  { ...GIVEN, node_id: 'x' },
  { ...GIVEN, rune: 7 },
  { ...GIVEN, websocket_url: 'https://h' },
])('refuses %j, and says what is wrong', (value) => {
  expect(() => readConfig(value, new URL('http://h/'))).toThrow(ConfigError);
});

it('takes what was built in only if it is complete', () => {
  expect(builtIn({ VITE_LNPLAYLIVE_NODE_ID: 'x' })).toBeNull();
  expect(builtIn({ VITE_LNPLAYLIVE_NODE_ID: 'x', VITE_LNPLAYLIVE_RUNE: 'r' })).toMatchObject({
    node_id: 'x',
  });
});

it.each([
  ['no network', () => Promise.reject(new TypeError('failed'))],
  ['an error page', () => Promise.resolve(new Response('<html>', { status: 502 }))],
  ['something else than JSON', () => Promise.resolve(new Response('<html>'))],
])('says so when there is %s', async (_, fetch) => {
  vi.stubGlobal('fetch', fetch);
  await expect(loadConfig(new URL('http://h/'))).rejects.toBeInstanceOf(ConfigError);
});

it('tells a node that has not started yet from a server that does not answer', async () => {
  const problem = async (response: () => Promise<Response>) => {
    vi.stubGlobal('fetch', response);
    return loadConfig(new URL('https://shop.example/')).catch((error: unknown) => error);
  };
  const starting = () => Promise.resolve(Response.json({ error: 'x', kind: 'starting' }, { status: 503 }));
  expect(await problem(starting)).toMatchObject({ fault: 'starting' });
  for (const response of [
    () => Promise.resolve(Response.json({ error: 'x' }, { status: 503 })),
    () => Promise.resolve(new Response('<html>', { status: 503 })),
    () => Promise.resolve(Response.json({ kind: 'starting' }, { status: 500 })),
    () => Promise.reject(new TypeError('failed')),
  ]) {
    expect(await problem(response)).toMatchObject({ name: 'ConfigError', fault: 'unreachable' });
  }
  vi.unstubAllGlobals();
});
