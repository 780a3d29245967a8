import { describe, expect, it } from 'vitest';
import { closingOf, confirmations, readChainMoves, readChannels, type Channel } from './channels';
import { liquidity, rebalancePair } from './liquidity';
import { CAROL, move, peerChannel } from './data.fixtures';

function channel(more: Record<string, unknown> = {}): Channel {
  const [read] = readChannels({ channels: [peerChannel(more)] });
  if (read === undefined) throw new Error('no channel');
  return read;
}

describe('readChannels', () => {
  it.each([
    ['CHANNELD_AWAITING_LOCKIN', 'opening'],
    ['DUALOPEND_AWAITING_LOCKIN', 'opening'],
    ['CHANNELD_NORMAL', 'open'],
    ['CHANNELD_SHUTTING_DOWN', 'closing'],
    ['AWAITING_UNILATERAL', 'closing'],
    ['ONCHAIN', 'onchain'],
  ])('%s is %s', (state, phase) => {
    expect(channel({ state }).phase).toBe(phase);
  });
});

describe('confirmations', () => {
  const heights = new Map([['f7e2', 112]]);

  it('counts from the block of the funding, whether the channel has its name yet or not', () => {
    expect(confirmations(channel(), new Map(), 117)).toBe(6);
    const opening = channel({ state: 'CHANNELD_AWAITING_LOCKIN', short_channel_id: undefined });
    expect(confirmations(opening, new Map(), 117)).toBe(0);
    expect(confirmations(opening, new Map([['f7e2', 0]]), 117)).toBe(0);
    expect(confirmations(opening, heights, 112)).toBe(1);
  });
});

describe('closingOf', () => {
  const close = (more = {}) =>
    move({
      account_id: '85c5',
      primary_tag: 'channel_close',
      debit_msat: 500_000_000,
      spending_txid: '4e30',
      utxo: 'f7e2:0',
      blockheight: 144,
      ...more,
    });
  const anchor = move({ account_id: 'external', primary_tag: 'anchor', originating_account: '85c5' });
  const follow = (state: string, moves: unknown[], more = {}) =>
    closingOf(channel({ state, closer: 'local', ...more }), readChainMoves({ chainmoves: moves }));

  it('is nothing while the channel is open', () => {
    expect(follow('CHANNELD_NORMAL', [])).toBeNull();
  });

  it('follows an agreed close', () => {
    expect(follow('CLOSINGD_SIGEXCHANGE', [])).toMatchObject({ kind: 'agreed', step: 'negotiating' });
    expect(follow('CLOSINGD_COMPLETE', [])).toMatchObject({ kind: 'agreed', step: 'waiting-for-block' });
    const back = move({ primary_tag: 'deposit', credit_msat: 498_805_000, utxo: '4e30:1', blockheight: 144 });
    expect(follow('ONCHAIN', [back, close()])).toEqual({
      kind: 'agreed',
      step: 'settled',
      closingTxid: '4e30',
      closedAt: 144,
      unlocksAt: null,
      settledAt: 144,
      returnedMsat: 498_805_000,
    });
  });

  it('follows a forced close until the locked share is back', () => {
    expect(follow('AWAITING_UNILATERAL', [])).toMatchObject({ kind: 'forced', step: 'waiting-for-block' });
    expect(follow('ONCHAIN', [close(), anchor])).toMatchObject({
      kind: 'forced',
      step: 'locked',
      unlocksAt: 150,
    });
    const swept = [
      move({ primary_tag: 'deposit', credit_msat: 497_801_000, utxo: '5ec7:0', blockheight: 150 }),
      move({ account_id: '85c5', primary_tag: 'delayed_to_us', credit_msat: 497_935_000, utxo: '4e30:1' }),
      move({ account_id: '85c5', primary_tag: 'to_wallet', spending_txid: '5ec7', utxo: '4e30:1' }),
    ];
    expect(follow('ONCHAIN', [close(), anchor, ...swept])).toMatchObject({
      kind: 'forced',
      step: 'settled',
      settledAt: 150,
      returnedMsat: 497_801_000,
    });
  });

  it('has nothing to wait for where nothing was ours', () => {
    const none = follow('ONCHAIN', [close({ debit_msat: 0 }), anchor], { closer: 'remote' });
    expect(none).toMatchObject({ step: 'settled', returnedMsat: 0 });
  });

  it('does not count the deposits of others', () => {
    const change = move({ primary_tag: 'deposit', credit_msat: 1, utxo: 'dead:1', blockheight: 145 });
    expect(follow('ONCHAIN', [close(), anchor, change])).toMatchObject({ step: 'locked', returnedMsat: 0 });
  });
});

describe('liquidity', () => {
  it.each([
    ['no-channels', []],
    ['opening', [{ state: 'CHANNELD_AWAITING_LOCKIN' }]],
    ['peers-away', [{ peer_connected: false }]],
    ['cannot-receive', [{ receivable_msat: 0 }]],
    ['cannot-send', [{ spendable_msat: 0 }]],
    ['both-ways', [{}]],
  ])('says %s', (advice, channels) => {
    expect(liquidity(channels.map((more) => channel(more))).advice).toBe(advice);
  });

  it('adds up only what can be used now', () => {
    const flow = liquidity([channel(), channel({ spendable_msat: 5 }), channel({ peer_connected: false })]);
    expect(flow).toMatchObject({ canSend: 926_693_422, largestSend: 926_693_417, canReceive: 98_001_166 });
  });
});

describe('rebalancePair', () => {
  const full = channel({ channel_id: 'full' });
  const empty = channel({
    channel_id: 'empty',
    peer_id: CAROL,
    to_us_msat: 10_000_000,
    spendable_msat: 0,
    receivable_msat: 900_000_000,
  });

  it('moves from the fullest to the emptiest, until they are even', () => {
    expect(rebalancePair([empty, full])).toEqual({ from: full, to: empty, msat: 465_000_000 });
  });

  it('needs two that differ', () => {
    expect(rebalancePair([full])).toBeNull();
    expect(rebalancePair([full, full])).toBeNull();
  });
});
