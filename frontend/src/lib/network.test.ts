import { describe, expect, it } from 'vitest';
import lnplay from './lnplay.fixture.json';
import { channels, draw } from './network';
import { inkOn, luminance, NAMES, nodeColor } from './palette';

describe('channels', () => {
  it('has the shapes that environments get', () => {
    for (const [setup, bySize] of Object.entries(lnplay.channels))
      for (const [count, expected] of Object.entries(bySize))
        expect(channels(setup, Number(count)), `${setup}, ${count} nodes`).toEqual(expected);
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
    expect(lnplay.colors.map((_, i) => nodeColor(i))).toEqual(lnplay.colors);
    expect(NAMES).toEqual(lnplay.names.slice(0, NAMES.length));
  });

  it('writes on each of them so that it can be read', () => {
    for (let i = 0; i < 64; i += 1) {
      const [ground, ink] = [luminance(nodeColor(i)), luminance(inkOn(nodeColor(i)))];
      const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
      expect(contrast).toBeGreaterThanOrEqual(4.5);
    }
  });
});
