/** The organiser's desk: actions on the network of an order, and the shop's answers. */
import { list, maybeText, number, numberOr, object, text, type Json } from './shape';

/** Bounds of an amount, as the shop has them. */
export const MIN_SAT = 10_000;
export const MAX_SAT = 100_000_000;

/** The channel set-ups that can be opened. */
export const SETUPS = ['star', 'circular', 'prism'] as const;

/** The name of one of them. */
export type Setup = (typeof SETUPS)[number];

/** An action. Nodes are numbered from 0, as their links are. */
export type DeskAction =
  | { readonly kind: 'look' }
  | { readonly kind: 'new_card'; readonly node: number }
  /** Null: to all nodes. */
  | { readonly kind: 'send_coins'; readonly node: number | null; readonly sat: number }
  | { readonly kind: 'open_channels'; readonly setup: Setup }
  | { readonly kind: 'mine'; readonly blocks: number }
  | { readonly kind: 'pause_blocks' | 'resume_blocks' }
  | { readonly kind: 'switch_off' | 'switch_on'; readonly node: number };

/** A node, as the network says. */
export interface DeskNode {
  readonly index: number;
  readonly name: string | null;
  readonly state: 'running' | 'off' | 'down';
  readonly blockHeight: number | null;
}

/** A node that an action on several nodes left out. */
export interface LeftOut {
  readonly node: number;
  readonly why: 'off' | 'no_answer' | 'no_coins' | 'failed';
}

/** What was done. */
export type Did =
  | { readonly what: 'looked' | 'blocks_paused' | 'blocks_resumed' }
  | { readonly what: 'new_card' | 'switched_off' | 'switched_on'; readonly node: number }
  | {
      readonly what: 'coins_sent';
      readonly nodes: readonly number[];
      readonly sat: number;
      readonly leftOut: readonly LeftOut[];
    }
  | {
      readonly what: 'channels_opened';
      readonly opened: number;
      readonly openAlready: number;
      readonly leftOut: readonly LeftOut[];
    }
  | { readonly what: 'mined'; readonly blocks: number };

/** The answer to an action: what was done, and the network after it. */
export interface DeskAnswer {
  readonly did: Did;
  readonly blockHeight: number | null;
  readonly blocksPaused: boolean;
  readonly nodes: readonly DeskNode[];
}

/** The parameters of `lnplaylive-desk`. With the same `request`, an action that was carried out is not carried out again. */
export function deskParams(invoiceId: string, action: DeskAction, request: string): Json {
  const { kind, ...rest } = action;
  const repeatable = kind === 'new_card' || kind === 'send_coins' || kind === 'mine';
  const given = Object.entries(rest).filter(([, value]) => value !== null);
  return {
    invoice_id: invoiceId,
    action: kind,
    ...Object.fromEntries(given),
    ...(repeatable ? { request } : {}),
  };
}

/** Milliseconds that an action may take: opening the channels of 64 nodes is the longest. */
export function limitOf(action: DeskAction): number {
  return action.kind === 'look' ? 45_000 : 100_000;
}

function orNull(from: Json, key: string): number | null {
  const value = numberOr(from, key, NaN);
  return Number.isNaN(value) ? null : value;
}

function readNode(value: unknown): DeskNode {
  const from = object(value, 'a node');
  const state = from['state'];
  return {
    index: number(from, 'index'),
    name: maybeText(from, 'name'),
    state: state === 'running' || state === 'off' ? state : 'down',
    blockHeight: orNull(from, 'block_height'),
  };
}

function readLeftOut(from: Json): LeftOut[] {
  return list(from, 'left_out').map((value) => {
    const one = object(value, 'a node that was left out');
    const why = one['why'];
    const known = why === 'off' || why === 'no_answer' || why === 'no_coins';
    return { node: number(one, 'node'), why: known ? why : 'failed' };
  });
}

function readDid(value: unknown): Did {
  const from = object(value, 'what was done');
  const what = text(from, 'what');
  switch (what) {
    case 'new_card':
    case 'switched_off':
    case 'switched_on':
      return { what, node: number(from, 'node') };
    case 'coins_sent': {
      const nodes = list(from, 'nodes').filter((node): node is number => typeof node === 'number');
      return { what, nodes, sat: number(from, 'sat'), leftOut: readLeftOut(from) };
    }
    case 'channels_opened': {
      const [opened, openAlready] = [number(from, 'opened'), numberOr(from, 'open_already', 0)];
      return { what, opened, openAlready, leftOut: readLeftOut(from) };
    }
    case 'mined':
      return { what, blocks: number(from, 'blocks') };
    case 'blocks_paused':
    case 'blocks_resumed':
      return { what };
    default:
      return { what: 'looked' };
  }
}

/** Parses the answer of `lnplaylive-desk`. */
export function readDesk(value: unknown): DeskAnswer {
  const from = object(value, 'the desk’s answer');
  return {
    did: readDid(from['did']),
    blockHeight: orNull(from, 'block_height'),
    blocksPaused: from['blocks_paused'] === true,
    nodes: list(from, 'nodes')
      .map(readNode)
      .sort((a, b) => a.index - b.index),
  };
}
