/**
 * Draws the wall on three canvases, one above the other: channels, what moves along them, and nodes. Only what moves is drawn
 * again for each frame, and nothing while nothing moves, so that a laptop without a graphics card is not kept busy.
 */
import { inkOn, luminance } from '../lib/palette';
import type { Event } from './data/happenings';
import { ANNOUNCED, type Lane } from './data/picture';
import type { Step } from './data/route';
import type { Seat } from './data/seat';
import { curve, layout, pointAt, reversed, upTo, type Curve, type Layout, type Spot } from './layout';
import { t } from './text';

/** Time that a payment takes to pass a channel on the wall. Milliseconds. */
const HOP = 480;
/** Time that the end of a payment is shown. */
const ARRIVAL = 1100;
/** Time that a payment is shown where nothing may move. */
const STILL = 1800;
/** Time of a block's wave. */
const WAVE = 1300;
/** More payments than these at a time could not be told apart. */
const MOST = 60;

/** Colours of the scene, which depend on the theme. */
export interface Colors {
  readonly ground: string;
  readonly ink: string;
  readonly faint: string;
  readonly bolt: string;
  readonly danger: string;
  readonly isDark: boolean;
}

interface Moving {
  readonly begin: number;
  readonly steps: readonly { readonly curve: Curve; readonly depth: number }[];
  readonly hops: number;
  readonly end: Spot | null;
  readonly passed: readonly Spot[];
  readonly label: string;
  readonly failed: boolean;
}

/** A colour that can be told from the ground. */
function visible(color: string, isDark: boolean): string {
  const light = luminance(color);
  const [towards, share] = isDark ? [255, light < 0.12 ? 0.45 : 0.1] : [0, light > 0.3 ? 0.38 : 0.08];
  const mixed = [1, 3, 5].map((at) => {
    const part = parseInt(color.slice(at, at + 2), 16);
    return Math.round(part + (towards - part) * share)
      .toString(16)
      .padStart(2, '0');
  });
  return `#${mixed.join('')}`;
}

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const made = canvas.getContext('2d');
  if (made === null) throw new Error('this browser has no canvas');
  return made;
}

function trace(to: CanvasRenderingContext2D, { x0, y0, cx, cy, x1, y1 }: Curve): void {
  to.beginPath();
  to.moveTo(x0, y0);
  to.quadraticCurveTo(cx, cy, x1, y1);
  to.stroke();
}

/** A glow, drawn once: shadows are slow without a graphics card. */
function glow(color: string, size: number): HTMLCanvasElement {
  const made = document.createElement('canvas');
  made.width = made.height = size;
  const to = context(made);
  const half = size / 2;
  const fill = to.createRadialGradient(half, half, 0, half, half, half);
  fill.addColorStop(0, color);
  fill.addColorStop(0.25, `${color}cc`);
  fill.addColorStop(1, `${color}00`);
  to.fillStyle = fill;
  to.fillRect(0, 0, size, size);
  return made;
}

const ease = (x: number) => (x < 0.5 ? 2 * x * x : 1 - (2 - 2 * x) ** 2 / 2);

export class Scene {
  readonly #lower: HTMLCanvasElement;
  readonly #live: HTMLCanvasElement;
  readonly #upper: HTMLCanvasElement;
  #colors: Colors;
  #width = 0;
  #height = 0;
  #seats: readonly Seat[] = [];
  #lanes: readonly Lane[] = [];
  #hub = -1;
  #layout: Layout = { spots: [], font: 16 };
  #spots = new Map<string, Spot>();
  #curves = new Map<string, Curve>();
  #moving: Moving[] = [];
  #wave: number | null = null;
  #frame: number | null = null;
  #redraw: ReturnType<typeof setTimeout> | null = null;
  #glows: { readonly paid: HTMLCanvasElement; readonly failed: HTMLCanvasElement };
  /** Whether nothing may move. */
  isStill = false;
  /** Times of frames, for the measurement: called with each frame's time in milliseconds. */
  onFrame: ((time: number) => void) | null = null;

  constructor(lower: HTMLCanvasElement, live: HTMLCanvasElement, upper: HTMLCanvasElement, colors: Colors) {
    this.#lower = lower;
    this.#live = live;
    this.#upper = upper;
    this.#colors = colors;
    this.#glows = this.#makeGlows();
  }

  close(): void {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    if (this.#redraw !== null) clearTimeout(this.#redraw);
  }

  paint(colors: Colors): void {
    this.#colors = colors;
    this.#glows = this.#makeGlows();
    this.#drawRest();
  }

  /** Sets the size in CSS pixels. `density` is the number of device pixels for each. */
  resize(width: number, height: number, density: number): void {
    if (width <= 0 || height <= 0) return;
    this.#width = width;
    this.#height = height;
    for (const canvas of [this.#lower, this.#live, this.#upper]) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
      context(canvas).scale(density, density);
    }
    this.#moving = [];
    this.#place();
  }

  /** Shows these nodes and channels. `hub` is the node in the middle, or -1. */
  show(seats: readonly Seat[], lanes: readonly Lane[], hub: number): void {
    const isSame = seats.length === this.#seats.length && hub === this.#hub;
    this.#seats = seats;
    this.#lanes = lanes;
    this.#hub = hub;
    if (isSame && this.#layout.spots.length > 0) {
      this.#name();
      this.#drawSoon();
    } else this.#place();
  }

  /** Shows an event. */
  play(event: Event): void {
    if (document.hidden) return;
    if (event.kind === 'block') this.#wave = performance.now();
    else if (event.kind === 'paid') this.#move(event.steps, event.to, t.amount(event.msat), false);
    else if (event.kind === 'failed') this.#move(event.steps, event.stoppedAt, '✕', true);
    else return;
    this.#run();
  }

  #makeGlows() {
    return { paid: glow(this.#colors.bolt, 64), failed: glow(this.#colors.danger, 64) };
  }

  #place(): void {
    if (this.#width === 0) return;
    this.#layout = layout(this.#seats.length, this.#hub, this.#width, this.#height);
    this.#name();
    this.#drawRest();
  }

  #name(): void {
    this.#spots = new Map(
      this.#seats.flatMap(({ nodeId }, at) => {
        const spot = this.#layout.spots[at];
        return spot === undefined ? [] : [[nodeId, spot] as const];
      }),
    );
    this.#curves = new Map();
    const pairs = new Map<string, number>();
    for (const { channelId, a, b } of this.#lanes) {
      const [from, to] = [this.#spots.get(a), this.#spots.get(b)];
      if (from === undefined || to === undefined) continue;
      const nth = pairs.get(a + b) ?? 0;
      pairs.set(a + b, nth + 1);
      this.#curves.set(channelId, curve(from, to, this.#width, this.#height, nth));
    }
  }

  #drawSoon(): void {
    // Many nodes may tell of something at once.
    this.#redraw ??= setTimeout(() => {
      this.#redraw = null;
      this.#drawRest();
    }, 120);
  }

  #colorOf(nodeId: string): string {
    const color = this.#seats.find((seat) => seat.nodeId === nodeId)?.color ?? '#888888';
    return visible(color, this.#colors.isDark);
  }

  /** Draws everything that stands still. */
  #drawRest(): void {
    const [below, above] = [context(this.#lower), context(this.#upper)];
    for (const to of [below, above]) to.clearRect(0, 0, this.#width, this.#height);
    for (const lane of this.#lanes) this.#drawLane(below, lane);
    for (const seat of this.#seats) this.#drawSeat(above, seat);
  }

  #drawLane(to: CanvasRenderingContext2D, lane: Lane): void {
    const whole = this.#curves.get(lane.channelId);
    if (whole === undefined) return;
    const unit = this.#layout.font / 16;
    // From thin for 10,000 sat to thick for a whole bitcoin.
    const thick = Math.min(8, Math.max(2.5, 1.4 * Math.log10(lane.totalMsat / 1_000_000)));
    const isOpen = lane.phase === 'open';
    to.lineCap = 'butt';
    to.globalAlpha = lane.phase === 'closing' ? 0.45 : isOpen ? 0.95 : 0.8;
    to.setLineDash(isOpen ? [] : [8 * unit, 7 * unit]);
    const share = lane.totalMsat > 0 ? lane.aMsat / lane.totalMsat : 0;
    to.lineWidth = thick * unit;
    if (lane.phase === 'closing') {
      to.strokeStyle = this.#colors.danger;
      trace(to, whole);
    } else {
      if (share > 0.005) {
        to.strokeStyle = this.#colorOf(lane.a);
        trace(to, upTo(whole, share));
      }
      if (share < 0.995) {
        to.strokeStyle = this.#colorOf(lane.b);
        trace(to, upTo(reversed(whole), 1 - share));
      }
    }
    to.setLineDash([]);
    to.globalAlpha = 1;
    // Where the balance lies.
    if (isOpen && share > 0.005 && share < 0.995) {
      const { x, y } = pointAt(whole, share);
      to.fillStyle = this.#colors.ground;
      to.beginPath();
      to.arc(x, y, (thick / 2 + 3) * unit, 0, 2 * Math.PI);
      to.fill();
      to.fillStyle = this.#colors.ink;
      to.beginPath();
      to.arc(x, y, (thick / 2 + 1) * unit, 0, 2 * Math.PI);
      to.fill();
    }
    if (lane.phase !== 'closing' && lane.confirmations < ANNOUNCED) {
      const { x, y } = pointAt(whole, 0.5);
      this.#write(to, `${lane.confirmations}/${ANNOUNCED}`, x, y, this.#layout.font * 0.9, this.#colors.ink);
    }
  }

  #drawSeat(to: CanvasRenderingContext2D, seat: Seat): void {
    const spot = this.#spots.get(seat.nodeId);
    if (spot === undefined) return;
    const { x, y, r } = spot;
    const isHere = seat.presence === 'here';
    to.fillStyle = this.#colors.ground;
    to.beginPath();
    to.arc(x, y, r + 3, 0, 2 * Math.PI);
    to.fill();
    to.beginPath();
    to.arc(x, y, r, 0, 2 * Math.PI);
    if (isHere) {
      to.fillStyle = seat.color;
      to.fill();
    } else {
      to.strokeStyle = visible(seat.color, this.#colors.isDark);
      to.lineWidth = Math.max(2, r / 8);
      to.setLineDash([r / 3, r / 4]);
      to.stroke();
      to.setLineDash([]);
    }
    to.fillStyle = isHere ? inkOn(seat.color) : this.#colors.ink;
    to.font = `700 ${r}px Bricolage, system-ui, sans-serif`;
    to.textAlign = 'center';
    to.textBaseline = 'middle';
    to.fillText(isHere ? ([...seat.name][0] ?? '') : '?', x, y + r * 0.06);
    this.#write(
      to,
      seat.name,
      x,
      y + r + this.#layout.font * 0.82,
      this.#layout.font,
      isHere ? this.#colors.ink : this.#colors.faint,
    );
  }

  /** Text that can be read above lines. */
  #write(
    to: CanvasRenderingContext2D,
    text: string,
    x: number,
    y: number,
    size: number,
    color: string,
  ): void {
    to.font = `600 ${size}px Bricolage, system-ui, sans-serif`;
    to.textAlign = 'center';
    to.textBaseline = 'middle';
    to.lineJoin = 'round';
    to.lineWidth = size / 3.2;
    to.strokeStyle = this.#colors.ground;
    const widest = this.#layout.font * 7.5;
    to.strokeText(text, x, y, widest);
    to.fillStyle = color;
    to.fillText(text, x, y, widest);
  }

  #move(steps: readonly Step[], end: string | null, label: string, failed: boolean): void {
    const drawn = steps.flatMap((step) => {
      const whole = this.#curves.get(step.channelId);
      const lane = this.#lanes.find((one) => one.channelId === step.channelId);
      if (whole === undefined || lane === undefined) return [];
      return [{ curve: lane.a === step.from ? whole : reversed(whole), depth: step.depth }];
    });
    const last = steps.at(-1);
    const passed = steps.filter((step) => step.to !== end).flatMap((step) => this.#spots.get(step.to) ?? []);
    this.#moving.push({
      begin: performance.now(),
      steps: drawn,
      hops: last === undefined ? 0 : Math.max(...steps.map((step) => step.depth)) + 1,
      end: this.#spots.get(end ?? last?.to ?? '') ?? null,
      passed,
      label,
      failed,
    });
    this.#moving = this.#moving.slice(-MOST);
  }

  #run(): void {
    this.#frame ??= requestAnimationFrame((time) => {
      this.#drawFrame(time);
    });
  }

  #drawFrame(time: number): void {
    this.#frame = null;
    this.onFrame?.(time);
    const to = context(this.#live);
    to.clearRect(0, 0, this.#width, this.#height);
    const now = performance.now();
    const lasts = (moving: Moving) => (this.isStill ? STILL : moving.hops * HOP + ARRIVAL);
    this.#moving = this.#moving.filter((moving) => now - moving.begin < lasts(moving));
    for (const moving of this.#moving) {
      if (this.isStill) this.#drawStill(to, moving);
      else this.#drawMoving(to, moving, now - moving.begin);
    }
    if (this.#wave !== null && !this.isStill) this.#drawWave(to, (now - this.#wave) / WAVE);
    if (this.#wave !== null && now - this.#wave >= WAVE) this.#wave = null;
    if (this.#moving.length === 0 && this.#wave === null) return;
    // Where nothing moves, a few pictures a second are enough to take them away in time.
    if (this.isStill)
      setTimeout(() => { this.#run(); }, 300); // prettier-ignore
    else this.#run();
  }

  #drawStill(to: CanvasRenderingContext2D, { steps, end, label, failed }: Moving): void {
    const color = failed ? this.#colors.danger : this.#colors.bolt;
    to.strokeStyle = color;
    to.lineWidth = this.#layout.font / 2.2;
    to.globalAlpha = 0.7;
    for (const step of steps) trace(to, step.curve);
    to.globalAlpha = 1;
    if (end !== null) this.#label(to, end, label, 0, failed);
  }

  #drawMoving(to: CanvasRenderingContext2D, moving: Moving, age: number): void {
    const { steps, hops, end, passed, label, failed } = moving;
    const color = failed ? this.#colors.danger : this.#colors.bolt;
    const size = this.#layout.font * 2.1;
    const sprite = failed ? this.#glows.failed : this.#glows.paid;
    const fade = Math.min(1, Math.max(0, 1 - (age - hops * HOP) / ARRIVAL));
    to.strokeStyle = color;
    to.lineCap = 'round';
    for (const { curve: whole, depth } of steps) {
      const progress = (age - depth * HOP) / HOP;
      if (progress <= 0) continue;
      to.globalAlpha = 0.55 * fade;
      to.lineWidth = this.#layout.font / 3;
      trace(to, progress >= 1 ? whole : upTo(whole, ease(progress)));
      if (progress >= 1) continue;
      for (let back = 0; back < 5; back += 1) {
        const at = progress - back * 0.05;
        if (at < 0) break;
        const { x, y } = pointAt(whole, ease(at));
        const small = size * (1 - back * 0.15);
        to.globalAlpha = 1 - back * 0.2;
        to.drawImage(sprite, x - small / 2, y - small / 2, small, small);
      }
    }
    to.globalAlpha = 1;
    passed.forEach((spot, at) => {
      this.#ring(to, spot, (age - (at + 1) * HOP) / 600, color);
    });
    const arrived = (age - hops * HOP) / ARRIVAL;
    if (end === null || arrived < 0) return;
    this.#ring(to, end, arrived * 1.6, color);
    this.#label(to, end, label, arrived, failed);
  }

  #ring(to: CanvasRenderingContext2D, { x, y, r }: Spot, progress: number, color: string): void {
    if (progress <= 0 || progress >= 1) return;
    to.globalAlpha = 1 - progress;
    to.strokeStyle = color;
    to.lineWidth = Math.max(2, (r / 3) * (1 - progress));
    to.beginPath();
    to.arc(x, y, r + r * 0.9 * ease(progress), 0, 2 * Math.PI);
    to.stroke();
    to.globalAlpha = 1;
  }

  #label(to: CanvasRenderingContext2D, spot: Spot, label: string, progress: number, failed: boolean): void {
    to.globalAlpha = Math.min(1, Math.max(0, 2.4 - 2.4 * progress));
    const { font } = this.#layout;
    const above = spot.y - spot.r - font * (0.7 + progress);
    // At the upper edge there is room below the name only.
    const y = spot.y - spot.r - font * 2.2 < 0 ? spot.y + spot.r + font * (2.1 + progress) : above;
    const ink = failed ? this.#colors.danger : this.#colors.ink;
    this.#write(to, label, spot.x, y, this.#layout.font * (failed ? 1.5 : 1.05), ink);
    to.globalAlpha = 1;
  }

  /** A ring that runs through the room with each block. */
  #drawWave(to: CanvasRenderingContext2D, progress: number): void {
    if (progress >= 1) return;
    const [cx, cy] = [this.#width / 2, this.#height / 2];
    to.globalAlpha = 0.4 * (1 - progress);
    to.strokeStyle = this.#colors.bolt;
    to.lineWidth = 2 + 10 * (1 - progress);
    to.beginPath();
    to.ellipse(cx, cy, cx * ease(progress), cy * ease(progress), 0, 0, 2 * Math.PI);
    to.stroke();
    to.globalAlpha = 1;
  }
}
