/** Orders: the request, the shop's answers, and their presentation. */
import { list, maybeText, maybeTime, number, numberOr, object, text, texts, type Json } from './shape';

/** A request for an order. Optional parts are sent only if they were chosen. */
export interface OrderRequest {
  /** The product; without one the shop picks the first of that many nodes. */
  readonly sku?: string;
  readonly nodeCount: number;
  readonly hours: number;
  readonly coinDistribution?: string;
  readonly channelSetup?: string;
  /** One for each node. */
  readonly names?: readonly string[];
  /** Text for the cards. */
  readonly title?: string;
}

/** The parameters of `lnplaylive-createorder`. */
export function orderParams(request: OrderRequest): Json {
  return {
    ...(request.sku === undefined ? {} : { sku: request.sku }),
    node_count: request.nodeCount,
    hours: request.hours,
    ...(request.coinDistribution === undefined ? {} : { coin_distribution: request.coinDistribution }),
    ...(request.channelSetup === undefined ? {} : { channel_setup: request.channelSetup }),
    ...(request.names === undefined ? {} : { names: request.names }),
    ...(request.title === undefined ? {} : { title: request.title }),
  };
}

/** An order with its invoice, as returned by `lnplaylive-createorder`. Times are in milliseconds since 1970. */
export interface Invoice {
  readonly invoiceId: string;
  readonly bolt11: string;
  readonly amountMsat: number;
  /** Null of an order that an older page has kept. */
  readonly sku: string | null;
  readonly nodeCount: number;
  readonly hours: number;
  readonly expiresAt: number;
}

/** Parses the answer of `lnplaylive-createorder`. */
export function readInvoice(value: unknown): Invoice {
  const from = object(value, 'the order');
  return {
    invoiceId: text(from, 'invoice_id'),
    bolt11: text(from, 'bolt11_invoice'),
    amountMsat: number(from, 'amount_msat'),
    sku: maybeText(from, 'sku'),
    nodeCount: number(from, 'node_count'),
    hours: number(from, 'hours'),
    expiresAt: maybeTime(from, 'invoice_expires_at') ?? 0,
  };
}

/** The steps of a deployment that this page has words for. */
export const STEPS = [
  'unpaid',
  'queued',
  'queued-again',
  'queued-replacement',
  'placing',
  'booting',
  'start-bitcoind',
  'mature-chain',
  'start-nodes',
  'fund-nodes',
  'open-channels',
  'provisioned',
  'failed',
] as const;

/** A step of a deployment. */
export type StepName = (typeof STEPS)[number];

/** Progress of the deployment; `percent` covers all steps. */
export interface Progress {
  readonly percent: number;
  /** Null of a step that this page does not know, and of what an older page has saved. */
  readonly step?: StepName | null;
  /** The shop's own sentence, for a step that this page does not know. */
  readonly message: string | null;
}

/** The health of a network, as far as the shop knows. */
export interface Health {
  readonly state: 'ok' | 'degraded' | 'unknown';
  /** Since when it is so. */
  readonly since: number | null;
  /** Names of the nodes that do not answer; none if the network as a whole does not. */
  readonly nodesDown: readonly string[];
}

/** A network that is being replaced. Its links work until its successor is there; none if it is gone already. */
export interface Replacing {
  readonly endsAt: number | null;
  readonly connectionStrings: readonly string[];
}

/** The state of an order. Optional parts are missing from what an older page has saved. */
export type Stage =
  | { readonly kind: 'unpaid' }
  | { readonly kind: 'lapsed' }
  | { readonly kind: 'working'; readonly progress: Progress; readonly replacing?: Replacing | null }
  | {
      readonly kind: 'ready';
      readonly endsAt: number | null;
      readonly connectionStrings: readonly string[];
      readonly health?: Health | null;
      /** When it took the place of another network of this order. */
      readonly replacedAt?: number | null;
      /** When the operator paid the buyer back. */
      readonly refundedAt?: number | null;
    }
  | { readonly kind: 'over'; readonly endedAt: number | null }
  /** Failed, and refunded. */
  | {
      readonly kind: 'failed' | 'refunded';
      readonly contact: string | null;
      /** Whether the operator has cancelled it. */
      readonly cancelled?: boolean;
      /** When the operator paid the buyer back. */
      readonly refundedAt?: number | null;
    };

/** The status of an order, as returned by `lnplaylive-invoicestatus`. */
export interface Status {
  readonly invoiceId: string;
  readonly nodeCount: number;
  readonly hours: number;
  /** Changes whenever anything else changes. */
  readonly revision: number;
  /** The buyer's title for the cards. */
  readonly title: string | null;
  /** The initial channels; null if the shop does not say. */
  readonly channelSetup: string | null;
  readonly stage: Stage;
}

function readProgress(details: Json): Progress {
  const given = details['progress'];
  const progress = typeof given === 'object' && given !== null ? (given as Json) : {};
  const total = Math.max(1, numberOr(progress, 'total', 100));
  const percent = (100 * numberOr(progress, 'done', 0)) / total;
  const name = maybeText(progress, 'step');
  return {
    percent: Math.round(Math.min(100, Math.max(0, percent))),
    step: STEPS.find((step) => step === name) ?? null,
    message: maybeText(progress, 'message'),
  };
}

function part(from: Json, key: string): Json | null {
  const value = from[key];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function readHealth(details: Json): Health | null {
  const health = part(details, 'health');
  if (health === null) return null;
  const state = health['state'];
  const names = list(health, 'nodes_down').map((node) =>
    typeof node === 'object' && node !== null ? maybeText(node as Json, 'name') : null,
  );
  return {
    state: state === 'ok' || state === 'degraded' ? state : 'unknown',
    since: maybeTime(health, 'since'),
    nodesDown: names.filter((name) => name !== null),
  };
}

function readReplacing(details: Json): Replacing | null {
  const replacing = part(details, 'replacing');
  if (replacing === null) return null;
  return {
    endsAt: maybeTime(replacing, 'vm_expiration_date'),
    connectionStrings: texts(replacing, 'connection_strings'),
  };
}

function readStage(invoiceStatus: string, given: unknown): Stage {
  if (invoiceStatus === 'expired') return { kind: 'lapsed' };
  if (invoiceStatus !== 'paid') return { kind: 'unpaid' };
  if (typeof given !== 'object' || given === null) {
    return { kind: 'working', progress: { percent: 0, step: 'queued', message: null } };
  }
  const details = given as Json;
  switch (details['status']) {
    case 'provisioned':
      return {
        kind: 'ready',
        endsAt: maybeTime(details, 'vm_expiration_date'),
        connectionStrings: texts(details, 'connection_strings'),
        health: readHealth(details),
        replacedAt: maybeTime(details, 'replaced_at'),
        refundedAt: maybeTime(details, 'refunded_at'),
      };
    case 'expired':
      return { kind: 'over', endedAt: maybeTime(details, 'vm_expiration_date') };
    case 'failed':
      return {
        kind: maybeTime(details, 'refunded_at') === null ? 'failed' : 'refunded',
        contact: maybeText(details, 'contact'),
        cancelled: details['cancelled'] === true,
        refundedAt: maybeTime(details, 'refunded_at'),
      };
    default:
      return { kind: 'working', progress: readProgress(details), replacing: readReplacing(details) };
  }
}

/** Parses the answer of `lnplaylive-invoicestatus` and `lnplaylive-waitstatus`. */
export function readStatus(value: unknown): Status {
  const from = object(value, 'the order’s status');
  return {
    invoiceId: text(from, 'invoice_id'),
    nodeCount: number(from, 'node_count'),
    hours: number(from, 'hours'),
    revision: number(from, 'revision'),
    title: maybeText(from, 'title'),
    channelSetup: maybeText(from, 'channel_setup'),
    stage: readStage(text(from, 'invoice_status'), from['deployment_details']),
  };
}

/** Returns whether the order cannot change any more. */
export function isFinal(stage: Stage): boolean {
  // The operator can retry a failed order.
  return stage.kind === 'over' || stage.kind === 'lapsed' || stage.kind === 'refunded';
}

/** What is wrong with names: one has more than `most` bytes; one is there twice; there are not as many as nodes. */
export type NamesProblem =
  | { readonly kind: 'long'; readonly name: string; readonly most: number }
  | { readonly kind: 'twice' }
  | { readonly kind: 'count'; readonly given: number; readonly nodes: number };

/** Names from a text area. */
export type NamesInput =
  | { readonly ok: true; readonly names: readonly string[] }
  | { readonly ok: false; readonly problem: NamesProblem };

/** Maximum length of an alias in bytes, by the Lightning protocol. */
const MAX_ALIAS = 32;

/** Parses names for `nodes` nodes, one per line or separated by commas. Without any, the shop chooses them. */
export function readNames(typed: string, nodes: number): NamesInput {
  const names = typed
    .split(/[\n,;]/)
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) return { ok: true, names };
  const long = names.find((name) => new TextEncoder().encode(name).length > MAX_ALIAS);
  if (long !== undefined) return { ok: false, problem: { kind: 'long', name: long, most: MAX_ALIAS } };
  if (new Set(names.map((name) => name.toLowerCase())).size < names.length)
    return { ok: false, problem: { kind: 'twice' } };
  if (names.length !== nodes) return { ok: false, problem: { kind: 'count', given: names.length, nodes } };
  return { ok: true, names };
}
