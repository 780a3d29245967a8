import { expect, it } from 'vitest';
import { deskParams, readDesk, type DeskAction, type Did } from './desk';
import { textsOf } from '../text/index.svelte';

const { desk: deskText } = textsOf('status');
const name = (node: number) => ['Alice', 'Bruno', 'Clara'][node] ?? '?';

it('sends what the shop’s method takes', () => {
  expect(deskParams('id', { kind: 'look' }, 'r')).toEqual({ invoice_id: 'id', action: 'look' });
  expect(deskParams('id', { kind: 'new_card', node: 0 }, 'r')).toEqual({
    invoice_id: 'id',
    action: 'new_card',
    node: 0,
    request: 'r',
  });
  expect(deskParams('id', { kind: 'send_coins', node: null, sat: 50_000 }, 'r')).toEqual({
    invoice_id: 'id',
    action: 'send_coins',
    sat: 50_000,
    request: 'r',
  });
  expect(deskParams('id', { kind: 'open_channels', setup: 'star' }, 'r')).toEqual({
    invoice_id: 'id',
    action: 'open_channels',
    setup: 'star',
  });
});

it('reads an answer, in the order of the nodes', () => {
  const answer = readDesk({
    did: { what: 'coins_sent', nodes: [0], sat: 20_000, left_out: [{ node: 1, why: 'off' }] },
    block_height: 111,
    blocks_paused: true,
    nodes: [
      { index: 1, name: 'Bruno', state: 'off', block_height: null },
      { index: 0, name: 'Alice', state: 'running', block_height: 111 },
      { index: 2, name: null, state: 'something newer', block_height: null },
    ],
  });
  expect(answer.nodes.map(({ state }) => state)).toEqual(['running', 'off', 'down']);
  expect([answer.blockHeight, answer.blocksPaused]).toEqual([111, true]);
  expect(deskText.done(answer.did, name)).toBe('Alice got 20,000 sat. Left out: Bruno (switched off).');
  expect(() => readDesk({ did: { what: 'mined' } })).toThrow('blocks');
  expect(() => readDesk('nonsense')).toThrow();
});

it.each<[Did, string]>([
  [
    { what: 'coins_sent', nodes: [0, 1, 2], sat: 1000, leftOut: [] },
    'Alice, Bruno, and Clara got 1,000 sat each.',
  ],
  [
    { what: 'channels_opened', opened: 1, openAlready: 2, leftOut: [] },
    'One channel was opened. 2 of this set-up were open before.',
  ],
  [
    { what: 'channels_opened', opened: 0, openAlready: 0, leftOut: [{ node: 2, why: 'no_coins' }] },
    '0 channels were opened. Left out: Clara (not enough coins; send some first).',
  ],
  [{ what: 'mined', blocks: 6 }, '6 blocks were mined.'],
  [{ what: 'switched_off', node: 1 }, 'Bruno is switched off, and stays off until you switch it on.'],
])('says what was done: %j', (did, sentence) => {
  expect(deskText.done(did, name)).toBe(sentence);
});

it('asks once more before what somebody will notice', () => {
  const asks = (action: DeskAction) => deskText.question(action, 'Alice') !== null;
  expect([{ kind: 'new_card', node: 0 } as const, { kind: 'switch_off', node: 0 } as const].every(asks)).toBe(
    true,
  );
  const others: DeskAction[] = [
    { kind: 'look' },
    { kind: 'switch_on', node: 0 },
    { kind: 'mine', blocks: 1 },
    { kind: 'send_coins', node: null, sat: 10_000 },
    { kind: 'pause_blocks' },
  ];
  expect(others.some(asks)).toBe(false);
});
