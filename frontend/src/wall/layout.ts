/** Where nodes stand on the wall. The same nodes always stand at the same places, so that people find theirs again. */

/** A place, in units of the picture. */
export interface Spot {
  readonly x: number;
  readonly y: number;
  /** Radius of the node. */
  readonly r: number;
}

/** All places, and the size of names. */
export interface Layout {
  readonly spots: readonly Spot[];
  /** Size of the names' font. */
  readonly font: number;
}

/** Rings by number of nodes: the share of the outermost ring's size that each has. */
function ringsFor(count: number): readonly number[] {
  if (count <= 22) return [1];
  return count <= 40 ? [1, 0.56] : [1, 0.67, 0.34];
}

/** Shares a number out in proportion, rounded so that the sum is kept; the first gets what is left over. */
function shareOut(count: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  const parts = weights.map((weight) => Math.floor((count * weight) / sum));
  parts[0] = (parts[0] ?? 0) + count - parts.reduce((all, part) => all + part, 0);
  return parts;
}

/** Numbers of steps that an ellipse's length is added up in. */
const STEPS = 720;

/** Angles at which points on an ellipse are equally far apart along it. */
function evenAngles(rx: number, ry: number, count: number, start: number): number[] {
  const lengths = [0];
  for (let step = 1; step <= STEPS; step += 1) {
    const angle = (2 * Math.PI * (step - 0.5)) / STEPS + start;
    lengths.push((lengths[step - 1] ?? 0) + Math.hypot(rx * Math.sin(angle), ry * Math.cos(angle)));
  }
  const total = lengths[STEPS] ?? 0;
  return Array.from({ length: count }, (_, i) => {
    const step = lengths.findIndex((length) => length >= (total * i) / count);
    return start + (2 * Math.PI * Math.max(0, step)) / STEPS;
  });
}

/**
 * Places for `count` nodes in a picture of this size. `hub` is the node in the middle, or -1. One ring for few nodes, up
 * to three for 64.
 */
export function layout(count: number, hub: number, width: number, height: number): Layout {
  const scale = Math.min(width / 900, height / 620);
  const crowd = Math.max(1, count);
  const font = Math.max(11, Math.min(26, 66 / Math.sqrt(crowd) + 6) * scale);
  const r = Math.max(7, Math.min(34, 100 / Math.sqrt(crowd) + 3) * scale);
  // Names stand below their nodes and are wider than these.
  const [cx, cy] = [width / 2, (height - font * 1.3) / 2];
  const [outerX, outerY] = [width / 2 - Math.max(r, font * 2.7) - 6, cy - r - 8];
  const onRings = Array.from({ length: count }, (_, i) => i).filter((i) => i !== hub);
  const rings = ringsFor(onRings.length);
  const parts = shareOut(onRings.length, rings);
  const spots: Spot[] = Array.from({ length: count }, () => ({ x: cx, y: cy, r: r * 1.35 }));
  let placed = 0;
  rings.forEach((size, ring) => {
    const part = parts[ring] ?? 0;
    const [rx, ry] = [Math.max(1, outerX * size), Math.max(1, outerY * size)];
    // Rings are turned against each other, so that names do not stand in rows.
    const start = -Math.PI / 2 + (ring * Math.PI) / Math.max(1, part);
    evenAngles(rx, ry, part, start).forEach((angle, i) => {
      const node = onRings[placed + i];
      if (node !== undefined) spots[node] = { x: cx + rx * Math.cos(angle), y: cy + ry * Math.sin(angle), r };
    });
    placed += part;
  });
  return { spots, font };
}

/** A curve between two nodes. */
export interface Curve {
  readonly x0: number;
  readonly y0: number;
  /** The control point of a quadratic curve. */
  readonly cx: number;
  readonly cy: number;
  readonly x1: number;
  readonly y1: number;
}

/**
 * The curve of channel number `nth` between two places: bent a little towards the middle, where there is room, and each
 * further channel of the same two nodes beside the one before.
 */
export function curve(a: Spot, b: Spot, width: number, height: number, nth = 0): Curve {
  const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = Math.max(1, Math.hypot(dx, dy));
  const aside = nth === 0 ? 0 : (nth % 2 === 1 ? 1 : -1) * Math.ceil(nth / 2) * Math.max(a.r, b.r) * 1.6;
  const [inX, inY] = [width / 2 - mx, height / 2 - my];
  const pull = Math.min(0.16, (0.2 * length) / Math.max(1, Math.hypot(inX, inY)));
  return {
    x0: a.x,
    y0: a.y,
    cx: mx + inX * pull - (dy / length) * aside,
    cy: my + inY * pull + (dx / length) * aside,
    x1: b.x,
    y1: b.y,
  };
}

/** The point of a curve at `t`, from 0 at its beginning to 1 at its end. */
export function pointAt({ x0, y0, cx, cy, x1, y1 }: Curve, t: number): { x: number; y: number } {
  const u = 1 - t;
  return { x: u * u * x0 + 2 * u * t * cx + t * t * x1, y: u * u * y0 + 2 * u * t * cy + t * t * y1 };
}

/** The part of a curve from its beginning to `t`. */
export function upTo(whole: Curve, t: number): Curve {
  const end = pointAt(whole, t);
  const { x0, y0, cx, cy } = whole;
  return { x0, y0, cx: x0 + (cx - x0) * t, cy: y0 + (cy - y0) * t, x1: end.x, y1: end.y };
}

/** The same curve from its other end. */
export function reversed({ x0, y0, cx, cy, x1, y1 }: Curve): Curve {
  return { x0: x1, y0: y1, cx, cy, x1: x0, y1: y0 };
}
