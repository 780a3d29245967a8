import { expect, it } from 'vitest';
import { told, type Event, type Happening } from './happenings';

it('has the newest first, and of the blocks only the newest', () => {
  const events: Event[] = [
    { kind: 'away', nodeId: 'a' },
    { kind: 'block', height: 1 },
    { kind: 'back', nodeId: 'a' },
    { kind: 'block', height: 2 },
  ];
  const list = events.reduce<Happening[]>((before, event, at) => told(before, event, at), []);
  expect(list.map(({ id, event }) => [id, event.kind])).toEqual([
    [4, 'block'],
    [3, 'back'],
    [1, 'away'],
  ]);
});
