import { describe, expect, it } from 'vitest';
import { curve, layout, pointAt, reversed, upTo } from './layout';

describe.each([
  [900, 620],
  [1400, 950],
  [360, 400],
])('in a picture of %d by %d', (width, height) => {
  it.each([1, 2, 8, 16, 32, 64])('has room for %d nodes', (count) => {
    for (const hub of [-1, 0]) {
      const { spots, font } = layout(count, hub, width, height);
      expect(spots).toHaveLength(count);
      for (const { x, y, r } of spots) {
        expect(x - r).toBeGreaterThanOrEqual(0);
        expect(x + r).toBeLessThanOrEqual(width);
        expect(y - r).toBeGreaterThanOrEqual(0);
        // The name stands below.
        expect(y + r + font).toBeLessThanOrEqual(height);
      }
    }
  });

  it.skipIf(width < 900).each([8, 16, 32, 64])('keeps %d nodes apart', (count) => {
    const { spots } = layout(count, 0, width, height);
    spots.forEach((one, i) => {
      for (const other of spots.slice(i + 1))
        expect(Math.hypot(one.x - other.x, one.y - other.y)).toBeGreaterThan(one.r + other.r + 4);
    });
  });
});

it('puts the same nodes at the same places', () => {
  expect(layout(64, -1, 900, 620)).toEqual(layout(64, -1, 900, 620));
});

it('puts the hub in the middle', () => {
  const { spots } = layout(8, 3, 900, 620);
  expect(spots[3]?.x).toBe(450);
});

describe('curves', () => {
  const [a, b] = [
    { x: 0, y: 0, r: 10 },
    { x: 100, y: 0, r: 10 },
  ];
  const whole = curve(a, b, 400, 400);

  it('begin and end at the nodes', () => {
    expect(pointAt(whole, 0)).toEqual({ x: 0, y: 0 });
    expect(pointAt(whole, 1)).toEqual({ x: 100, y: 0 });
  });

  it('can be cut, and turned', () => {
    const cut = upTo(whole, 0.3);
    const [end, same] = [pointAt(cut, 1), pointAt(whole, 0.3)];
    expect(end.x).toBeCloseTo(same.x);
    expect(pointAt(cut, 0.5).y).toBeCloseTo(pointAt(whole, 0.15).y);
    expect(pointAt(reversed(whole), 0.25).x).toBeCloseTo(pointAt(whole, 0.75).x);
  });

  it('do not lie on each other between the same nodes', () => {
    const middle = (nth: number) => pointAt(curve(a, b, 400, 400, nth), 0.5).y;
    expect(Math.abs(middle(1) - middle(0))).toBeGreaterThan(5);
    expect(Math.abs(middle(2) - middle(1))).toBeGreaterThan(5);
  });
});
