import { describe, expect, it } from 'vitest';
import { parseConnectionString } from '../../lib/connection-string';
import { clamsLink, olderClamsLink } from './clients';
import { parseCommand } from './command';
import { allowedBy } from './rune';
import { ALICE } from './data.fixtures';

/** As Clams reads what it is given (its src/lib/address.ts and coreln/index.ts), and lnmessage makes a URL of it. */
function websocketOf(address: string, { type, value }: { type: string; value: string }): string {
  const [ip = '', port = '9735'] = (address.split('@')[1] ?? '').split(':');
  return type === 'proxy' ? `${value}/${ip}:${port}` : `${value}//${ip}:${port}`;
}

const local = parseConnectionString(
  `https://shop.example/connect#address=${ALICE}@192.0.2.7:20001&type=direct&value=ws:&rune=abc-_=`,
);
const gateway = parseConnectionString(
  `https://shop.example/connect#address=${ALICE}@shop.example&type=direct&value=wss:&path=/e/abc/3&rune=abc-_=`,
);

describe('links for Clams', () => {
  it('lead to the same place, directly or through the gateway', () => {
    for (const [node, websocket] of [
      [local, 'ws://192.0.2.7:20001'],
      [gateway, 'wss://shop.example/e/abc/3?/shop.example:443'],
    ] as const) {
      const newer = new URL(clamsLink(node, 'Alice'));
      expect([newer.origin, newer.pathname]).toEqual(['https://remote.clams.tech', '/wallets/add']);
      expect([newer.searchParams.get('label'), newer.searchParams.get('type')]).toEqual(['Alice', 'coreln']);
      const configuration = JSON.parse(newer.searchParams.get('configuration') ?? '') as {
        address: string;
        token: string;
        connection: { type: string; value: string };
      };
      expect(configuration.token).toBe('abc-_=');
      expect(websocketOf(configuration.address, configuration.connection)).toBe(websocket);

      const { pathname, searchParams: older } = new URL(olderClamsLink(node));
      expect(pathname).toBe('/connect');
      const connection = { type: older.get('type') ?? '', value: older.get('value') ?? '' };
      expect(websocketOf(older.get('address') ?? '', connection)).toBe(websocket);
      expect(older.get('rune')).toBe('abc-_=');
    }
  });
});

describe('allowedBy', () => {
  const rune = (conditions: string) =>
    btoa(`${'\0'.repeat(32)}${conditions}`)
      .replace(/\+/g, '-')
      .replace(/\//g, '_');
  const isAllowed = allowedBy(
    rune('=0&method=getinfo|method^list|method~invoice|method$pay&method/listsecrets&pnum<3'),
  );

  it.each([
    ['getinfo', true],
    ['listpays', true],
    ['waitanyinvoice', true],
    ['xpay', true],
    ['listsecrets', false],
    ['plugin', false],
    ['getinfox', false],
  ])('%s: %s', (method, allowed) => {
    expect(isAllowed(method)).toBe(allowed);
  });

  it('leaves what it cannot read to the node', () => {
    expect(allowedBy('***')('stop')).toBe(true);
  });
});

describe('parseCommand', () => {
  it.each([
    ['getinfo', { method: 'getinfo', params: [] }],
    ['  listnodes 02ab ', { method: 'listnodes', params: ['02ab'] }],
    ['invoice 1000 a "two words"', { method: 'invoice', params: [1000, 'a', 'two words'] }],
    [
      'fundchannel id=02ab amount=100000 announce=false',
      { method: 'fundchannel', params: { id: '02ab', amount: 100_000, announce: false } },
    ],
    [
      'getroutes layers=["a", "b"] source=x',
      { method: 'getroutes', params: { layers: ['a', 'b'], source: 'x' } },
    ],
    ['listdatastore ["lnplay","room"]', { method: 'listdatastore', params: [['lnplay', 'room']] }],
  ])('reads %j', (line, command) => {
    expect(parseCommand(line)).toEqual(command);
  });

  it.each(['', 'a "open', 'x [1', 'UPPER', '{"method":"stop"}'])('does not read %j', (line) => {
    expect(parseCommand(line)).toBeNull();
  });
});
