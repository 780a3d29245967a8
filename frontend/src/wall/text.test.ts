import { expect, it } from 'vitest';
import type { Event } from './data/happenings';
import type { Lane } from './data/picture';
import { t } from './text';

const said = (event: Event) =>
  t
    .sentence(event, (nodeId) => nodeId)
    .map((part) => (typeof part === 'string' ? part : part.node))
    .join('');

const step = (from: string, to: string, depth: number) => ({ from, to, channelId: `${from}${to}`, msat: 1, depth }); // prettier-ignore
const steps = [step('Greta', 'Alice', 0), step('Alice', 'Hugo', 1)];
const paid = { kind: 'paid', from: 'Greta', to: 'Hugo', msat: 21_000_000, feeMsat: 12_000, steps } as const;
const lane: Lane = {
  channelId: 'c',
  scid: null,
  a: 'Alice',
  b: 'Bruno',
  aMsat: 0,
  totalMsat: 1_000_000_000,
  phase: 'open',
  opener: 'Bruno',
  closer: 'Alice',
  isForced: true,
  confirmations: 1,
};

it.each<[Event, string]>([
  [paid, 'Greta paid Hugo 21,000 sat through Alice, fee 12 sat'],
  [{ ...paid, steps: [step('Greta', 'Hugo', 0)], feeMsat: 0 }, 'Greta paid Hugo 21,000 sat'],
  [{ ...paid, to: null }, 'Greta paid 21,000 sat through Alice and Hugo, fee 12 sat'],
  [{ ...paid, to: 'Greta', steps: [...steps, step('Hugo', 'Greta', 2)] }, 'Greta moved 21,000 sat through Alice and Hugo, fee 12 sat'],
  [
    { ...paid, kind: 'failed', stoppedAt: 'Alice', towards: 'Hugo', reason: 'WIRE_TEMPORARY_CHANNEL_FAILURE' },
    'Greta could not pay Hugo 21,000 sat: Alice has too few coins in the channel to Hugo',
  ],
  [{ ...paid, kind: 'failed', stoppedAt: 'Hugo', towards: null, reason: null }, 'Greta could not pay Hugo 21,000 sat: Hugo refused it'],
  [{ kind: 'opening', lane }, 'Bruno opens a channel to Alice, 1,000,000 sat'],
  [{ kind: 'closing', lane }, 'Alice closes by force the channel with Bruno'],
  [{ kind: 'closed', lane }, 'The channel of Bruno and Alice is closed'],
  [{ kind: 'block', height: 1144 }, 'Block 1,144'],
])('tells %#', (event, sentence) => {
  expect(said(event)).toBe(sentence);
}); // prettier-ignore
