import { describe, expect, it } from 'vitest';
import { channels, draw } from './network';
import { inkOn, luminance, NAMES, nodeColor } from './palette';

describe('channels', () => {
  it('has the shapes that environments get', () => {
    expect(channels('none', 8)).toEqual([]);
    expect(channels('star', 4)).toEqual([[0, 1], [0, 2], [0, 3]]); // prettier-ignore
    expect(channels('circular', 4)).toEqual([[0, 1], [1, 2], [2, 3], [3, 0]]); // prettier-ignore
    expect(channels('prism', 4)).toEqual([[0, 1], [1, 2], [1, 3]]); // prettier-ignore
    expect(channels('something new', 4)).toEqual([]);
  });
});

describe('draw', () => {
  it.each(['', 'star', 'circular', 'prism'])(
    'keeps all nodes in the picture and apart from each other: %s',
    (setup) => {
      for (const count of [1, 2, 8, 16, 32, 64]) {
        const { spots } = draw(setup, count);
        expect(spots).toHaveLength(count);
        spots.forEach((a, i) => {
          expect(Math.min(a.x - a.r, a.y - a.r)).toBeGreaterThanOrEqual(0);
          expect(Math.max(a.x + a.r, a.y + a.r)).toBeLessThanOrEqual(400);
          for (const b of spots.slice(i + 1))
            expect(Math.hypot(a.x - b.x, a.y - b.y)).toBeGreaterThan(a.r + b.r);
        });
      }
    },
  );
});

describe('palette', () => {
  it('has the colours that nodes get', () => {
    expect([0, 1, 2, 3, 4, 5].map(nodeColor)).toEqual([
      '#df2020',
      '#20df57',
      '#8f20df',
      '#dfc820',
      '#20bfdf',
      '#df2087',
    ]);
    expect(NAMES.slice(0, 3)).toEqual(['Alice', 'Bruno', 'Carol']);
  });

  it('writes on each of them so that it can be read', () => {
    for (let i = 0; i < 64; i += 1) {
      const [ground, ink] = [luminance(nodeColor(i)), luminance(inkOn(nodeColor(i)))];
      const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
      expect(contrast).toBeGreaterThanOrEqual(4.5);
    }
  });
});
