import { describe, expect, it } from 'vitest';
import { mergePeople, nameOf, readGossip, readRoom } from './people';
import { ALICE, BRUNO, CAROL } from './data.fixtures';

const stored = (value: unknown) => ({
  datastore: [{ key: ['lnplay', 'room'], string: JSON.stringify(value) }],
});
const room = {
  version: 1,
  nodes: [
    { id: ALICE, name: 'Alice', color: 'df2020', address: '127.0.0.1:9735' },
    { id: BRUNO, name: 'Bruno', color: '20df57', address: '127.0.0.1:9736' },
  ],
};

describe('readRoom', () => {
  it('reads the directory', () => {
    expect(readRoom(stored(room))[1]).toEqual({
      nodeId: BRUNO,
      name: 'Bruno',
      color: '#20df57',
      address: '127.0.0.1:9736',
    });
  });

  it('is empty where there is none, a damaged one or one of a later version', () => {
    expect(readRoom({ datastore: [] })).toEqual([]);
    expect(readRoom({ datastore: [{ string: '{"version":' }] })).toEqual([]);
    expect(readRoom(stored({ ...room, version: 2 }))).toEqual([]);
  });
});

describe('mergePeople', () => {
  it('takes what gossip knows, and keeps what it does not', () => {
    const gossip = readGossip({
      nodes: [
        { nodeid: BRUNO, alias: 'Bruno the Great', color: '000000', addresses: [] },
        // Heard of in a channel, but never from itself.
        { nodeid: ALICE },
        { nodeid: CAROL, alias: 'Carol', addresses: [{ type: 'ipv4', address: '127.0.0.1', port: 9737 }] },
      ],
    });
    const people = mergePeople(readRoom(stored(room)), gossip);
    expect(people.map(({ name, address }) => [name, address])).toEqual([
      ['Alice', '127.0.0.1:9735'],
      ['Bruno the Great', '127.0.0.1:9736'],
      ['Carol', '127.0.0.1:9737'],
    ]);
    expect(nameOf(people, CAROL)).toBe('Carol');
    expect(nameOf(people, `02${'00'.repeat(32)}`)).toBe('0200000000…');
  });
});
