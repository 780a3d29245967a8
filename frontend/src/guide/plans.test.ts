import { describe, expect, it } from 'vitest';
import { PLAN_IDS } from '../lib/routes';
import { t as wall } from '../wall/text';
import { en } from '../wallet/text/en';
import { PLANS } from './plans';

/** All texts of a catalogue that are no functions. */
function texts(from: object): string[] {
  return Object.values(from).flatMap((value: unknown) =>
    typeof value === 'string' ? [value] : typeof value === 'object' && value !== null ? texts(value) : [],
  );
}

const quoted = (text: string) => [...text.matchAll(/“([^”]+)”/g)].map((match) => match[1] ?? '');

describe.each(PLANS)('$title', (plan) => {
  it('takes as long as it says', () => {
    expect(plan.steps.reduce((sum, step) => sum + step.minutes, 0)).toBe(plan.minutes);
  });

  it('uses the words of the wallet and of the wall', () => {
    const known = new Set([...texts(en), ...texts(wall)]);
    const words = plan.steps.flatMap((step) => [...step.all, step.say, step.wall].flatMap(quoted));
    expect(words.length).toBeGreaterThan(5);
    expect(words.filter((word) => !known.has(word))).toEqual([]);
  });
});

it('has the plans that there are pages for', () => {
  expect(PLANS.map(({ id }) => id)).toEqual([...PLAN_IDS]);
});
