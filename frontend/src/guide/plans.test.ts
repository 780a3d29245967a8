import { beforeAll, describe, expect, it } from 'vitest';
import { PLAN_IDS } from '../lib/routes';
import { formats } from '../text/format';
import { LANGUAGES, TAGS, type Texts } from '../text/languages';

/** All texts of a catalogue that are no functions. */
function texts(from: object): string[] {
  return Object.values(from).flatMap((value: unknown) =>
    typeof value === 'string' ? [value] : typeof value === 'object' && value !== null ? texts(value) : [],
  );
}

const quoted = (text: string) => [...text.matchAll(/“([^”]+)”/g)].map((match) => match[1] ?? '');

describe.each(TAGS)('the plans in %s', (tag) => {
  let guide: Texts['guide'];
  let known: ReadonlySet<string>;

  beforeAll(async () => {
    const { load, locale } = LANGUAGES[tag];
    const f = formats(locale);
    guide = (await load.guide())(f);
    known = new Set([...texts((await load.wallet())(f)), ...texts((await load.wall())(f))]);
  });

  it('are those that there are pages for', () => {
    expect(guide.plans.map(({ id }) => id)).toEqual([...PLAN_IDS]);
  });

  it.each(PLAN_IDS)('take as long as they say: %s', (id) => {
    const plan = guide.plans.find((one) => one.id === id);
    expect(plan?.steps.reduce((sum, step) => sum + step.minutes, 0)).toBe(plan?.minutes);
  });

  it.each(PLAN_IDS)('use the words of the wallet and of the wall: %s', (id) => {
    const plan = guide.plans.find((one) => one.id === id);
    const words = (plan?.steps ?? []).flatMap((step) => [...step.all, step.say, step.wall].flatMap(quoted));
    expect(words.length).toBeGreaterThan(5);
    expect(words.filter((word) => !known.has(word))).toEqual([]);
  });

  it.each(PLAN_IDS)('have the same steps as in English: %s', async (id) => {
    const english = (await LANGUAGES.en.load.guide())(formats('en-US'));
    const shape = ({ plans }: Texts['guide']) =>
      plans
        .find((one) => one.id === id)
        ?.steps.map(({ minutes, all, say, wall }) => [
          minutes,
          ...[...all, say, wall].map((text) => quoted(text).length),
        ]);
    expect(shape(guide)).toEqual(shape(english));
  });
});
