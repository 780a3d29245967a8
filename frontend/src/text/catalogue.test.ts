/** Every language says everything, with all forms of its words. */
import { beforeAll, describe, expect, it } from 'vitest';
import { readAwaited } from '../lib/products';
import { STEPS } from '../lib/order';
import { formats } from './format';
import { AREAS, LANGUAGES, TAGS, type Area, type Tag } from './languages';

/** Numbers of every plural form of our languages. */
const NUMBERS = [0, 1, 2, 5, 21, 1_000_000];
const AT = Date.parse('2026-11-24T15:46:10Z');

const name = (node: number) => ['Ana', 'Bruno', 'Imani'][node] ?? 'Ana';
const leftOut = [{ node: 1, why: 'off' }];
const lane = { a: 'Ana', b: 'Bruno', opener: 'Bruno', closer: 'Ana', isForced: true, totalMsat: 1e9 };
const step = (from: string, to: string, depth: number) => ({
  from,
  to,
  channelId: from + to,
  msat: 1,
  depth,
});
const paid = { kind: 'paid', from: 'Ana', to: 'Imani', msat: 21e6, feeMsat: 1000, steps: [step('Ana', 'Bruno', 0), step('Bruno', 'Imani', 1)] }; // prettier-ignore
const failed = { ...paid, kind: 'failed', stoppedAt: 'Bruno', towards: 'Imani', reason: null };
const numbers = NUMBERS.map((n) => [n]);
const pairs = NUMBERS.map((n) => [n, n]);
const tags = ['node', 'place', 'type', 'scheme', 'path', 'rune'].map((fault) => [fault, 'proxy']);
const ACTIONS = ['new_card', 'switch_off', 'switch_on', 'open_channels', 'mine', 'pause_blocks', 'resume_blocks', 'look', 'send_coins'].map((kind) => ({ kind, node: null })); // prettier-ignore
const awaited = ['starting', 'bitcoind_sync', 'lightningd_sync', 'no_channels', 'peers_offline', 'new'].map((kind) => [readAwaited({ awaited: kind, blocks: 5, headers: 9 })]); // prettier-ignore

/** Arguments for functions that take something else than numbers and texts, by their path; several calls each. */
const SAMPLES: Readonly<Record<string, readonly (readonly unknown[])[]>> = {
  'common.help': [['a@b.c']],
  'landing.questions.list.contact': [['a@b.c']],
  'shop.waiting': awaited,
  'shop.errors.notOpenYet': awaited,
  'shop.availability.soldOutUntil': [[AT]],
  'shop.errors.soldOut': [[null], [AT]],
  'shop.errors.notSupported': [[null], ['bolt12']],
  'shop.errors.oneOf': [[['8', '16']]],
  'shop.form.soldOut': [...NUMBERS.map((n) => [n, null]), [8, AT]],
  'shop.form.tooLarge': [...pairs.map(([a, b]) => [a, b, a]), [8, 9, 0]],
  'shop.what': pairs,
  'shop.find.lastSeen': [[AT]],
  'shop.names': [
    [{ kind: 'long', name: 'x', most: 32 }],
    [{ kind: 'twice' }],
    ...NUMBERS.map((n) => [{ kind: 'count', given: n, nodes: n }]),
  ],
  'status.ends': [[AT, '4 h']],
  'status.failed': [[true], [false]],
  'status.refunded': [
    [null, true],
    [AT, false],
  ],
  'status.offline': [[AT]],
  'status.knew': [[AT]],
  'status.refundedOn': [[AT]],
  'status.replaced': [[AT]],
  'status.health.since': [[AT]],
  'status.health.nodes': [[['Ana']], [['Ana', 'Imani']]],
  'status.desk.height': [[null], [1144]],
  'status.desk.pace': [[true], [false]],
  'status.desk.question': ACTIONS.slice(0, 2).map((action) => [action, 'Ana']),
  'status.desk.working': [...ACTIONS.map((a) => [a, 'Ana']), [{ kind: 'send_coins', node: 1 }, 'Ana']],
  'status.desk.done': [
    ...['new_card', 'switched_off', 'switched_on', 'blocks_paused', 'blocks_resumed'].map((what) => [{ what, node: 0 }, name]), // prettier-ignore
    ...NUMBERS.flatMap((n) => [
      [{ what: 'mined', blocks: n }, name],
      [{ what: 'coins_sent', nodes: [0], sat: n, leftOut: [] }, name],
      [{ what: 'coins_sent', nodes: [0, 2], sat: n, leftOut }, name],
      [{ what: 'channels_opened', opened: n, openAlready: n, leftOut }, name],
    ]),
  ],
  'wall.sentence': [
    paid,
    { ...paid, to: null },
    { ...paid, to: 'Ana' },
    failed,
    { ...failed, to: null },
    { ...failed, stoppedAt: 'Imani' },
    ...['TEMPORARY_CHANNEL_FAILURE', 'FEE_INSUFFICIENT', 'UNKNOWN_NEXT_PEER', 'AMOUNT_BELOW_MINIMUM', 'CHANNEL_DISABLED'].map((reason) => ({ ...failed, reason: `WIRE_${reason}` })), // prettier-ignore
    { kind: 'block', height: 1144 },
    ...['opening', 'opened', 'closing', 'closed'].map((kind) => ({ kind, lane })),
    { kind: 'closing', lane: { ...lane, isForced: false } },
    { kind: 'away', nodeId: 'Ana' },
    { kind: 'back', nodeId: 'Ana' },
  ].map((event) => [event, (nodeId: string) => nodeId]),
  'wall.theme': [[true], [false]],
  'wall.away': [
    [['Ana'], 0],
    [['Ana', 'Bruno'], 3],
  ],
  'wall.nodeLine': NUMBERS.flatMap((n) => [
    ['Ana', n, true],
    ['Ana', n, false],
  ]),
  'wallet.link.damaged': tags,
};

/** The words of what a text gives: a text, a sentence with marks, or a dialogue. */
function words(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  if (typeof value !== 'object' || value === null) return '';
  return Object.values(value)
    .map(words)
    .join(Array.isArray(value) ? '' : ' ');
}

/** All texts of a catalogue by their path, functions called with samples. */
function all(from: unknown, path: string): (readonly [string, string])[] {
  if (typeof from === 'string') return [[path, from]];
  if (typeof from === 'function') {
    const call = from as (...given: unknown[]) => unknown;
    const samples = SAMPLES[path] ?? (from.length > 1 ? pairs.map((p) => [...p, ...p]) : numbers);
    return samples.map((given) => [path, words(call(...given))] as const);
  }
  if (typeof from !== 'object' || from === null) return [];
  // Entries of lists share a path.
  return Object.entries(from).flatMap(([key, value]) =>
    all(value, Array.isArray(from) ? path : `${path}.${key}`),
  );
}

async function read(tag: Tag, area: Area): Promise<(readonly [string, string])[]> {
  const { load, locale } = LANGUAGES[tag];
  return all((await load[area]())(formats(locale, 'UTC')), area);
}

/** Texts that are the same in Spanish: names, units and formats. */
const SAME =
  /^(shop\.price|wallet\.(more\.version|other\.remote|console\.error)|status\.cards\.papers\.a4|wallet\.home\.at|guide\.plans\.id)$/;

describe.each(TAGS)('%s', (tag) => {
  const texts = new Map<Area, (readonly [string, string])[]>();
  beforeAll(async () => {
    for (const area of AREAS) texts.set(area, await read(tag, area));
  });

  it.each(AREAS)('says everything: %s', (area) => {
    const said = texts.get(area) ?? [];
    expect(said.length).toBeGreaterThan(10);
    const bad = said.filter(([, text]) => text.trim() === '' || /undefined|NaN|null|\[object/.test(text));
    // Keys whose value depends on the argument may give nothing, such as a reason that is not known.
    expect(bad).toEqual([]);
  });

  it('has words for every step of a deployment', () => {
    const said = new Set((texts.get('status') ?? []).map(([path]) => path));
    expect(STEPS.filter((one) => !said.has(`status.progress.steps.${one}`))).toEqual([]);
  });

  it.runIf(tag !== 'en')('leaves nothing in English', async () => {
    const same: string[] = [];
    for (const area of AREAS) {
      const english = await read('en', area);
      (texts.get(area) ?? []).forEach(([path, text], at) => {
        if (/\p{L}{3}/u.test(text) && english[at]?.[1] === text && !SAME.test(path))
          same.push(`${path}: ${text}`);
      });
    }
    expect(same).toEqual([]);
  });

  it('writes as the field does: typographic quotes and dashes, no straight ones', () => {
    const odd = [...texts.values()].flat().filter(([, text]) => /["]|--|\.\.\.| {2}/.test(text));
    expect(odd).toEqual([]);
  });
});
