/**
 * Why a payment failed: Core Lightning's error, sorted by what a beginner can do about it.
 *
 * `xpay` and `keysend` tell what happened on the way in a sentence only. The names of failures in it are those of BOLT 4, and channels
 * are named as everywhere; where none is found, the code alone decides.
 */
import { list } from '../../lib/shape';
import { isUsable, type Channel } from './channels';

/** An error as it came. Code 0: it never came from the node. */
export interface Trouble {
  readonly code: number;
  readonly message: string;
  readonly raw: unknown;
}

/** What went wrong. */
export type Cause =
  | 'already-paid'
  | 'expired'
  | 'no-channels'
  | 'own-balance'
  | 'unknown-destination'
  | 'no-route'
  | 'channel-empty'
  | 'hop-away'
  | 'fee'
  | 'too-expensive'
  | 'too-small'
  | 'refused'
  | 'late'
  | 'no-answer-to-offer'
  | 'coins'
  | 'peer-away'
  | 'not-allowed'
  | 'unknown';

/** What could be tried. */
export type Tip =
  | 'smaller'
  | 'again'
  | 'wait-blocks'
  | 'wait-peer'
  | 'open-channel'
  | 'open-to-payee'
  | 'payee-receive'
  | 'rebalance'
  | 'other-way'
  | 'new-invoice'
  | 'ask-payee'
  | 'new-card';

/** A failure, explained. */
export interface Explanation {
  readonly cause: Cause;
  /** The channel that stood in the way, and in which direction. */
  readonly channel: { readonly scid: string; readonly direction: number | null } | null;
  /** Whether that is one of the node's own. */
  readonly isOwnChannel: boolean;
  /** BOLT 4's name of the failure. */
  readonly failure: string | null;
  readonly tips: readonly Tip[];
}

/** What the explanation needs to know besides the error. */
export interface Circumstances {
  readonly msat: number;
  readonly channels: readonly Channel[];
}

/** BOLT 4's failures, by what they mean to somebody who pays. */
const FAILURES: readonly (readonly [string, Cause])[] = [
  ['temporary_channel_failure', 'channel-empty'],
  ['unknown_next_peer', 'hop-away'],
  ['channel_disabled', 'hop-away'],
  ['permanent_channel_failure', 'hop-away'],
  ['temporary_node_failure', 'hop-away'],
  ['permanent_node_failure', 'hop-away'],
  ['required_node_feature_missing', 'hop-away'],
  ['fee_insufficient', 'fee'],
  ['incorrect_cltv_expiry', 'fee'],
  ['expiry_too_soon', 'late'],
  ['amount_below_minimum', 'too-small'],
  ['incorrect_or_unknown_payment_details', 'refused'],
  ['final_incorrect_htlc_amount', 'refused'],
  ['mpp_timeout', 'late'],
];

/** Core Lightning's codes (common/jsonrpc_errors.h), where the code says all. */
const CODES: Readonly<Record<number, Cause>> = {
  201: 'already-paid',
  203: 'refused',
  206: 'too-expensive',
  207: 'expired',
  218: 'already-paid',
  219: 'already-paid',
  301: 'coins',
  305: 'peer-away',
  401: 'peer-away',
  402: 'peer-away',
  1003: 'no-answer-to-offer',
  1005: 'no-answer-to-offer',
  19537: 'not-allowed',
};

const TIPS: Readonly<Record<Cause, readonly Tip[]>> = {
  'already-paid': ['new-invoice'],
  expired: ['new-invoice'],
  'no-channels': ['open-channel'],
  'own-balance': ['smaller', 'rebalance', 'open-channel'],
  'unknown-destination': ['wait-blocks', 'open-to-payee'],
  'no-route': ['smaller', 'payee-receive', 'open-to-payee'],
  'channel-empty': ['smaller', 'open-to-payee', 'other-way'],
  'hop-away': ['again', 'other-way'],
  fee: ['again'],
  'too-expensive': ['smaller', 'open-to-payee'],
  'too-small': [],
  refused: ['ask-payee', 'new-invoice'],
  late: ['again', 'wait-blocks'],
  'no-answer-to-offer': ['ask-payee', 'again'],
  coins: ['wait-blocks', 'smaller'],
  'peer-away': ['wait-peer'],
  'not-allowed': ['new-card'],
  unknown: ['again'],
};

/** All that an error says, in one text: `keysend` keeps the reasons apart from the sentence. */
function wholeText({ message, raw }: Trouble): string {
  const attempts = typeof raw === 'object' && raw !== null ? list({ ...raw }, 'attempts') : [];
  const reasons = attempts.map((attempt) => {
    const reason =
      typeof attempt === 'object' && attempt !== null ? (attempt as { failreason?: unknown }).failreason : '';
    return typeof reason === 'string' ? reason : '';
  });
  return [message, ...reasons].join('\n');
}

function failureIn(text: string): { name: string; cause: Cause; at: number } | null {
  const lower = text.toLowerCase();
  // The last one is what ended it.
  const found = FAILURES.map(([name, cause]) => ({ name, cause, at: lower.lastIndexOf(name) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => b.at - a.at);
  return found[0] ?? null;
}

function channelIn(text: string): Explanation['channel'] {
  const found = /(\d+x\d+x\d+)(?:\/([01]))?/.exec(text);
  if (found?.[1] === undefined) return null;
  return { scid: found[1], direction: found[2] === undefined ? null : Number(found[2]) };
}

/** Explains an error. */
export function explain(trouble: Trouble, { msat, channels }: Circumstances): Explanation {
  const text = wholeText(trouble);
  const failure = failureIn(text);
  const limited = /but (\d+x\d+x\d+\/[01]) layer auto\.localchans/.exec(text)?.[1] ?? null;
  const channel = channelIn(failure !== null ? text.slice(failure.at) : (limited ?? ''));
  const isOwnChannel = channel !== null && channels.some(({ scid }) => scid === channel.scid);
  const cause = causeOf(trouble, text, failure?.cause ?? null, isOwnChannel, msat, channels);
  return { cause, channel, isOwnChannel, failure: failure?.name ?? null, tips: TIPS[cause] };
}

function causeOf(
  { code }: Trouble,
  text: string,
  failure: Cause | null,
  isOwnChannel: boolean,
  msat: number,
  channels: readonly Channel[],
): Cause {
  const known = CODES[code];
  if (known !== undefined && !(known === 'refused' && failure !== null)) return known;
  if (failure !== null) return failure === 'channel-empty' && isOwnChannel ? 'own-balance' : failure;
  const usable = channels.filter(isUsable);
  if (usable.length === 0) return channels.some((c) => c.phase === 'open') ? 'peer-away' : 'no-channels';
  if (code === 0) return 'unknown';
  if (isOwnChannel || usable.reduce((sum, c) => sum + c.spendableMsat, 0) < msat) return 'own-balance';
  if (/unknown destination/i.test(text)) return 'unknown-destination';
  return code === 205 || code === 209 || code === 210 ? 'no-route' : 'unknown';
}
