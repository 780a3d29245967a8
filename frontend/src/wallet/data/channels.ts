/** The node's channels, open, opening and closing, and what happens to the closed ones on chain. */
import { readMsat } from '../../lib/money';
import { list, maybeText, numberOr, object, text, type Json } from '../../lib/shape';

/** Where a channel is in its life. */
export type Phase = 'opening' | 'open' | 'closing' | 'onchain';

/** What a forward through a channel costs. */
export interface FeePolicy {
  readonly baseMsat: number;
  readonly ppm: number;
  readonly cltvDelta: number;
}

/** A channel, from this node's side. Amounts in msat. */
export interface Channel {
  readonly channelId: string;
  readonly peerId: string;
  /** `block x transaction x output`, once it is in a block. */
  readonly scid: string | null;
  /** 0 or 1: which end this node is. */
  readonly direction: number;
  readonly fundingTxid: string | null;
  readonly phase: Phase;
  /** Core Lightning's name of the state. */
  readonly state: string;
  readonly peerConnected: boolean;
  readonly announced: boolean;
  readonly openedByUs: boolean;
  readonly closedBy: 'us' | 'them' | null;
  readonly oursMsat: number;
  readonly totalMsat: number;
  /** What can be sent at once: reserve, fees and payments on their way are taken off. */
  readonly spendableMsat: number;
  readonly receivableMsat: number;
  readonly reserveMsat: number;
  readonly ourFees: FeePolicy;
  readonly theirFees: FeePolicy | null;
  /** Blocks that our share of a forced close is locked for. */
  readonly delayBlocks: number;
}

function phaseOf(state: string): Phase {
  if (state === 'CHANNELD_NORMAL') return 'open';
  if (state === 'ONCHAIN' || state === 'FUNDING_SPEND_SEEN') return 'onchain';
  const opening = ['CHANNELD_AWAITING_LOCKIN', 'OPENINGD', 'CHANNELD_AWAITING_SPLICE'];
  return opening.includes(state) || state.startsWith('DUALOPEND') ? 'opening' : 'closing';
}

function policy(from: unknown): FeePolicy | null {
  if (typeof from !== 'object' || from === null) return null;
  const fees = from as Json;
  return {
    baseMsat: readMsat(fees['fee_base_msat']),
    ppm: numberOr(fees, 'fee_proportional_millionths', 0),
    cltvDelta: numberOr(fees, 'cltv_expiry_delta', 6),
  };
}

/** Reads the answer of `listpeerchannels`. */
export function readChannels(answer: unknown): Channel[] {
  return list(object(answer, 'listpeerchannels'), 'channels').map((item) => {
    const from = object(item, 'channel');
    const state = text(from, 'state');
    const updates = (from['updates'] ?? {}) as Json;
    const closer = maybeText(from, 'closer');
    return {
      channelId: maybeText(from, 'channel_id') ?? maybeText(from, 'funding_txid') ?? text(from, 'peer_id'),
      peerId: text(from, 'peer_id'),
      scid: maybeText(from, 'short_channel_id'),
      direction: numberOr(from, 'direction', 0),
      fundingTxid: maybeText(from, 'funding_txid'),
      phase: phaseOf(state),
      state,
      peerConnected: from['peer_connected'] === true,
      announced: from['private'] !== true,
      openedByUs: from['opener'] === 'local',
      closedBy: closer === 'local' ? 'us' : closer === 'remote' ? 'them' : null,
      oursMsat: readMsat(from['to_us_msat']),
      totalMsat: readMsat(from['total_msat']),
      spendableMsat: readMsat(from['spendable_msat']),
      receivableMsat: readMsat(from['receivable_msat']),
      reserveMsat: readMsat(from['our_reserve_msat']),
      ourFees: policy(updates['local']) ?? policy(from) ?? { baseMsat: 0, ppm: 0, cltvDelta: 6 },
      theirFees: policy(updates['remote']),
      delayBlocks: numberOr(from, 'our_to_self_delay', 6),
    };
  });
}

/** Whether a payment can go through a channel now. */
export function isUsable(channel: Channel): boolean {
  return channel.phase === 'open' && channel.peerConnected;
}

/** The block that a channel's funding is in. */
export function fundingHeight(channel: Channel, heights: ReadonlyMap<string, number>): number | null {
  const fromScid = Number(channel.scid?.split('x')[0] ?? NaN);
  if (Number.isFinite(fromScid)) return fromScid;
  const height = channel.fundingTxid === null ? undefined : heights.get(channel.fundingTxid);
  return height === undefined || height === 0 ? null : height;
}

/** Confirmations that others wait for before a channel is announced to all (BOLT 7). */
export const ANNOUNCE_DEPTH = 6;

/** Confirmations of a channel's funding: 0 while it is in no block. */
export function confirmations(
  channel: Channel,
  heights: ReadonlyMap<string, number>,
  blockHeight: number,
): number {
  const height = fundingHeight(channel, heights);
  return height === null ? 0 : Math.max(0, blockHeight - height + 1);
}

/** A coin movement, as `listchainmoves` has it. */
export interface ChainMove {
  readonly account: string;
  readonly tag: string;
  readonly creditMsat: number;
  readonly debitMsat: number;
  readonly utxo: string;
  readonly spendingTxid: string | null;
  readonly originatingAccount: string | null;
  readonly peerId: string | null;
  readonly height: number;
}

/** Reads the answer of `listchainmoves`. */
export function readChainMoves(answer: unknown): ChainMove[] {
  return list(object(answer, 'listchainmoves'), 'chainmoves').map((item) => {
    const from = object(item, 'move');
    return {
      account: text(from, 'account_id'),
      tag: text(from, 'primary_tag'),
      creditMsat: readMsat(from['credit_msat']),
      debitMsat: readMsat(from['debit_msat']),
      utxo: maybeText(from, 'utxo') ?? '',
      spendingTxid: maybeText(from, 'spending_txid'),
      originatingAccount: maybeText(from, 'originating_account'),
      peerId: maybeText(from, 'peer_id'),
      height: numberOr(from, 'blockheight', 0),
    };
  });
}

/** What is known of the end of a channel. */
export interface Closing {
  readonly kind: 'agreed' | 'forced';
  readonly step: 'negotiating' | 'waiting-for-block' | 'locked' | 'settled';
  readonly closingTxid: string | null;
  readonly closedAt: number | null;
  /** The block after which a locked share can be taken. */
  readonly unlocksAt: number | null;
  readonly settledAt: number | null;
  /** What came back, less the fees on chain, in msat. */
  readonly returnedMsat: number;
}

/** Follows the end of a channel along the coin movements; null for one that is not closing. */
export function closingOf(channel: Channel, moves: readonly ChainMove[]): Closing | null {
  if (channel.phase === 'opening' || channel.phase === 'open') return null;
  return closingOfAccount(channel.channelId, moves, channel);
}

/** The same for a channel of which only its movements are left. */
export function closingOfAccount(
  account: string,
  moves: readonly ChainMove[],
  channel: Channel | null,
): Closing {
  const own = moves.filter((move) => move.account === account);
  const close = own.find((move) => move.tag === 'channel_close');
  const forcedStates = ['AWAITING_UNILATERAL'];
  if (close === undefined) {
    const state = channel?.state ?? '';
    return {
      kind: forcedStates.includes(state) ? 'forced' : 'agreed',
      step: ['AWAITING_UNILATERAL', 'CLOSINGD_COMPLETE', 'FUNDING_SPEND_SEEN', 'ONCHAIN'].includes(state)
        ? 'waiting-for-block'
        : 'negotiating',
      closingTxid: null,
      closedAt: null,
      unlocksAt: null,
      settledAt: null,
      returnedMsat: 0,
    };
  }
  const closingTxid = close.spendingTxid;
  const swept = own.filter((move) => move.tag === 'to_wallet' && move.spendingTxid !== null);
  const sources = [closingTxid, ...swept.map((move) => move.spendingTxid)];
  const deposits = moves.filter(
    (move) =>
      move.account === 'wallet' && move.tag === 'deposit' && sources.includes(move.utxo.split(':')[0] ?? ''),
  );
  const isForced =
    moves.some((move) => move.originatingAccount === account && move.tag === 'anchor') ||
    own.some((move) => ['anchor', 'delayed_to_us', 'to_wallet'].includes(move.tag));
  const returnedMsat = deposits.reduce((sum, move) => sum + move.creditMsat, 0);
  const last = deposits.reduce((height, move) => Math.max(height, move.height), close.height);
  // Nothing to wait for where nothing was ours.
  const isSettled = !isForced || deposits.length > 0 || close.debitMsat === 0;
  return {
    kind: isForced ? 'forced' : 'agreed',
    step: isSettled ? 'settled' : 'locked',
    closingTxid,
    closedAt: close.height,
    unlocksAt: isForced
      ? close.height + (channel?.closedBy === 'them' ? 1 : (channel?.delayBlocks ?? 6))
      : null,
    settledAt: isSettled ? last : null,
    returnedMsat,
  };
}
