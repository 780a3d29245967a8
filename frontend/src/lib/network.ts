/** The layout of pictures of networks. */

/** A node in the picture, which is 400 units wide and high. */
export interface Spot {
  readonly x: number;
  readonly y: number;
  readonly r: number;
}

/** A picture: nodes by their number, and pairs of nodes with a channel. */
export interface Drawing {
  readonly spots: readonly Spot[];
  readonly channels: readonly (readonly [number, number])[];
}

/** Half the size of the picture. */
export const CENTRE = 200;

/** The channels of a channel set-up, as `lnplay` opens them (crates/lnplay-agent/src/channels.rs). */
export function channels(setup: string, count: number): readonly (readonly [number, number])[] {
  const to = (from: number, first: number) =>
    Array.from({ length: Math.max(0, count - first) }, (_, i) => [from, first + i] as const);
  switch (setup) {
    case 'star':
      return to(0, 1);
    case 'circular':
      return count <= 2 ? to(0, 1) : Array.from({ length: count }, (_, i) => [i, (i + 1) % count] as const);
    case 'prism':
      return count < 2 ? [] : [[0, 1] as const, ...to(1, 2)];
    default:
      return [];
  }
}

/** Lays out a network: its hub, if there is one, in the middle, all other nodes in a circle. */
export function draw(setup: string, count: number): Drawing {
  const hub = setup === 'star' ? 0 : setup === 'prism' ? 1 : -1;
  const onCircle = Array.from({ length: count }, (_, i) => i).filter((i) => i !== hub);
  const orbit = 158;
  const r = Math.min(23, (Math.PI * orbit * 0.68) / Math.max(1, onCircle.length));
  const round = (n: number) => Math.round(n * 10) / 10;
  const spots = Array.from({ length: count }, (_, i): Spot => {
    if (i === hub) return { x: CENTRE, y: CENTRE, r: round(Math.max(r * 1.4, 20)) };
    const turn = (onCircle.indexOf(i) / onCircle.length) * 2 * Math.PI - Math.PI / 2;
    return {
      x: round(CENTRE + orbit * Math.cos(turn)),
      y: round(CENTRE + orbit * Math.sin(turn)),
      r: round(r),
    };
  });
  return { spots, channels: channels(setup, count) };
}
