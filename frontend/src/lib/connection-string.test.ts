import { expect, it } from 'vitest';
import { isBlockedAsMixed, LinkFormatError, parseConnectionString } from './connection-string';

const ID = `02${'ab'.repeat(32)}`;
const BASE = `https://shop.example/connect#address=${ID}@`;

it('reads a link as the shop writes it', () => {
  const link = `${BASE}203.0.113.7:20001&type=direct&value=ws:&rune=yr-B_9w==&name=Zo%C3%AB+K&color=DF2020`;
  expect(parseConnectionString(link)).toEqual({
    link,
    nodeId: ID,
    url: 'ws://203.0.113.7:20001/',
    rune: 'yr-B_9w==',
    name: 'Zoë K',
    color: '#df2020',
  });
});

it('reads a node behind the gateway, on IPv6, and a bare fragment', () => {
  const behind = `${BASE}shop.example:443&type=direct&value=wss:&rune=r&path=%2Fe%2Fabc%2F0`;
  expect(parseConnectionString(behind).url).toBe('wss://shop.example/e/abc/0');
  expect(parseConnectionString(`#address=${ID}@[2001:db8::1]:9&value=ws:&rune=r`).url).toBe(
    'ws://[2001:db8::1]:9/',
  );
});

/** What is wrong with a link. */
function refusal(link: string): string {
  try {
    parseConnectionString(link);
    return 'accepted';
  } catch (error) {
    return error instanceof LinkFormatError ? error.fault : 'another error';
  }
}

it.each([
  ['no fragment', 'https://shop.example/connect', 'node'],
  ['no node', '#address=@h:1&value=ws:&rune=r', 'node'],
  ['a short node id', '#address=02ab@h:1&value=ws:&rune=r', 'node'],
  ['no host', `#address=${ID}&value=ws:&rune=r`, 'place'],
  ['a path in the address', `#address=${ID}@h:1/x&value=ws:&rune=r`, 'place'],
  ['two hosts', `#address=${ID}@a@b:1&value=ws:&rune=r`, 'place'],
  ['another scheme', `#address=${ID}@h:1&value=https:&rune=r`, 'scheme'],
  ['another type', `#address=${ID}@h:1&type=proxy&value=ws:&rune=r`, 'type'],
  ['no rune', `#address=${ID}@h:1&value=ws:`, 'rune'],
  ['an invalid rune', `#address=${ID}@h:1&value=ws:&rune=a b`, 'rune'],
  ['an invalid port', `#address=${ID}@h:99999&value=ws:&rune=r`, 'place'],
  ['a path without slash', `#address=${ID}@h:1&value=ws:&rune=r&path=x`, 'path'],
  ['a query in the path', `#address=${ID}@h:1&value=ws:&rune=r&path=/x?y`, 'path'],
])('refuses a link with %s, and says what is wrong', (_, link, fault) => {
  expect(refusal(link)).toBe(fault);
});

it('leaves out an invalid colour', () => {
  expect(parseConnectionString(`#address=${ID}@h:1&value=ws:&rune=r&color=red`).color).toBeNull();
});

it('knows what browsers refuse', () => {
  const secure = new URL('https://shop.example/connect');
  expect(isBlockedAsMixed('ws://203.0.113.7:1/', secure)).toBe(true);
  expect(isBlockedAsMixed('wss://203.0.113.7:1/', secure)).toBe(false);
  expect(isBlockedAsMixed('ws://127.0.0.1:1/', secure)).toBe(false);
  expect(isBlockedAsMixed('ws://203.0.113.7:1/', new URL('http://shop.example'))).toBe(false);
});
