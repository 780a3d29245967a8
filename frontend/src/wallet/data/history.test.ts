import { describe, expect, it } from 'vitest';
import { reconcile, record, underWay, type Attempt } from './attempts';
import { readChainMoves, readChannels } from './channels';
import { history } from './history';
import { tick, type Deeds } from './missions';
import { readForwards, readInvoices, readPayments } from './payments';
import { ALICE, BRUNO, CAROL, move, peerChannel, sendpay } from './data.fixtures';

const attempt = (more: Partial<Attempt> = {}): Attempt => ({
  id: 'one',
  kind: 'invoice',
  paymentHash: 'eb48',
  label: null,
  destination: CAROL,
  msat: 50_000_000,
  description: 'tea for two',
  startedAt: 1_795_574_961_000,
  state: 'sending',
  feeMsat: null,
  parts: null,
  plan: null,
  trouble: null,
  ...more,
});
const paid = {
  label: 'a',
  payment_hash: 'cafe',
  status: 'paid',
  amount_received_msat: 7_000_000,
  paid_at: 1_795_574_970,
  description: 'donations',
  created_index: 1,
};
const forward = {
  created_index: 1,
  in_channel: '112x2x0',
  out_channel: '136x1x0',
  in_msat: 50_000_501,
  out_msat: 50_000_000,
  fee_msat: 501,
  status: 'settled',
  received_time: 1_795_574_962.02,
  resolved_time: 1_795_574_962.37,
};
const channels = readChannels({
  channels: [peerChannel(), peerChannel({ peer_id: CAROL, short_channel_id: '136x1x0', channel_id: 'two' })],
});

describe('readPayments', () => {
  it('puts the parts of a payment together', () => {
    const parts = [
      sendpay({ status: 'failed', partid: 1 }),
      sendpay({ partid: 2, amount_msat: 20_000_000, amount_sent_msat: 20_000_200 }),
      sendpay({ partid: 3, amount_msat: 30_000_000, amount_sent_msat: 30_000_301 }),
    ];
    expect(readPayments({ payments: parts })).toMatchObject([
      { status: 'complete', msat: 50_000_000, sentMsat: 50_000_501, parts: 2, failedParts: 1 },
    ]);
  });

  it('is pending while a part is, and failed only when all are', () => {
    const states = (...all: string[]) =>
      readPayments({ payments: all.map((status) => sendpay({ status })) })[0]?.status;
    expect([states('failed', 'pending'), states('failed', 'failed')]).toEqual(['pending', 'failed']);
  });
});

describe('history', () => {
  const sources = {
    self: ALICE,
    payments: readPayments({ payments: [sendpay()] }),
    invoices: readInvoices({ invoices: [paid] }),
    forwards: readForwards({ forwards: [forward] }),
    channels,
    attempts: [attempt({ state: 'paid' })],
  };

  it('merges what came, went and passed, newest first', () => {
    expect(
      history(sources).map(({ kind, msat, feeMsat, who, description }) => ({
        kind,
        msat,
        feeMsat,
        who,
        description,
      })),
    ).toEqual([
      { kind: 'received', msat: 7_000_000, feeMsat: 0, who: [], description: 'donations' },
      { kind: 'forwarded', msat: 50_000_000, feeMsat: 501, who: [BRUNO, CAROL], description: null },
      { kind: 'sent', msat: 50_000_000, feeMsat: 501, who: [CAROL], description: 'tea for two' },
    ]);
  });

  it('shows what never left the node, which the node itself forgets', () => {
    const trouble = { code: 205, message: 'no way', raw: null };
    const entries = history({
      ...sources,
      payments: [],
      attempts: [attempt({ state: 'failed', paymentHash: 'dead', trouble })],
    });
    expect(entries.find(({ kind }) => kind === 'sent')).toMatchObject({ status: 'failed', trouble });
  });

  it('shows a payment to oneself once', () => {
    const toSelf = readPayments({ payments: [sendpay({ destination: ALICE, payment_hash: 'cafe' })] });
    const entries = history({ ...sources, payments: toSelf, forwards: [], attempts: [] });
    expect(entries.map(({ kind }) => kind)).toEqual(['moved']);
  });
});

describe('attempts', () => {
  const now = 1_795_574_961_000;

  it('are one for an id, newest first', () => {
    const list = record(record([], attempt()), attempt({ id: 'two' }));
    expect(record(list, attempt({ state: 'paid' })).map(({ id, state }) => [id, state])).toEqual([
      ['two', 'sending'],
      ['one', 'paid'],
    ]);
  });

  it('stand in the way of another one for the same invoice while nobody knows how they end', () => {
    expect(underWay([attempt({ state: 'unknown' })], 'eb48')).not.toBeNull();
    expect(underWay([attempt({ state: 'failed' })], 'eb48')).toBeNull();
    expect(underWay([attempt()], 'other')).toBeNull();
  });

  it('whose answer was lost are what the node says they are', () => {
    const payments = (status: string, more = {}) =>
      readPayments({ payments: [sendpay({ status, ...more })] });
    const after = (a: Attempt, status: string, at = now) => reconcile(a, payments(status), at, false);
    expect(after(attempt(), 'complete')).toMatchObject({ state: 'paid', feeMsat: 501 });
    expect(after(attempt(), 'pending', now + 500_000).state).toBe('unknown');
    // It may still be tried again.
    expect(after(attempt(), 'failed').state).toBe('unknown');
    expect(after(attempt(), 'failed', now + 500_000).state).toBe('failed');
    expect(reconcile(attempt(), [], now, false).state).toBe('unknown');
    expect(reconcile(attempt(), [], now + 500_000, false).state).toBe('failed');
    const labelled = attempt({ paymentHash: null, label: 'keysend-1' });
    expect(reconcile(labelled, payments('complete', { label: 'keysend-1' }), now, false).state).toBe('paid');
    // This page waits for the answer itself.
    expect(reconcile(attempt(), payments('complete'), now, true).state).toBe('sending');
  });
});

describe('missions', () => {
  const nothing: Deeds = {
    self: ALICE,
    channels: [],
    moves: [],
    payments: [],
    invoices: [],
    forwards: [],
    attempts: [],
  };
  const done = (more: Partial<Deeds>) => Object.keys(tick({}, { ...nothing, ...more }, 1));

  it('are not accomplished by nothing', () => {
    expect(done({})).toEqual([]);
    expect(done({ channels: readChannels({ channels: [peerChannel({ opener: 'remote' })] }) })).toEqual([]);
    const opening = peerChannel({ state: 'CHANNELD_AWAITING_LOCKIN', short_channel_id: undefined });
    expect(done({ channels: readChannels({ channels: [opening] }) })).toEqual([]);
    const atHome = readPayments({
      payments: [sendpay({ destination: ALICE, amount_sent_msat: 50_000_000 })],
    });
    expect(
      done({ payments: atHome, invoices: readInvoices({ invoices: [{ ...paid, payment_hash: 'eb48' }] }) }),
    ).toEqual([]);
    // The page gave up; the node said nothing.
    const trouble = { code: 0, message: 'never left', raw: null };
    expect(done({ attempts: [attempt({ state: 'failed', trouble })] })).toEqual([]);
  });

  const close = move({
    account_id: '85c5',
    primary_tag: 'channel_close',
    debit_msat: 0,
    spending_txid: '4e30',
  });
  const anchor = move({ account_id: 'external', primary_tag: 'anchor', originating_account: '85c5' });
  it.each<[string, Partial<Deeds>]>([
    ['open', { channels: readChannels({ channels: [peerChannel()] }) }],
    ['receive', { invoices: readInvoices({ invoices: [paid] }) }],
    ['route', { forwards: readForwards({ forwards: [forward] }) }],
    ['fail', { payments: readPayments({ payments: [sendpay({ status: 'failed' })] }) }],
    ['move', { payments: readPayments({ payments: [sendpay({ destination: ALICE })] }) }],
    ['settle', { moves: readChainMoves({ chainmoves: [close] }) }],
    ['offer', { payments: readPayments({ payments: [sendpay({ bolt11: undefined, bolt12: 'lni1…' })] }) }],
  ])('%s', (mission, deeds) => {
    expect(done(deeds)).toEqual([mission]);
  });

  it('more of them', () => {
    expect(done({ forwards: readForwards({ forwards: [{ ...forward, fee_msat: 1000 }] }) })).toEqual([
      'route',
      'earn',
    ]);
    expect(done({ moves: readChainMoves({ chainmoves: [close, anchor] }) })).toEqual(['settle', 'force']);
  });

  it('stay accomplished, with their time', () => {
    const before = { open: 5 };
    expect(tick(before, nothing, 9)).toBe(before);
    expect(tick(before, { ...nothing, invoices: readInvoices({ invoices: [paid] }) }, 9)).toEqual({
      open: 5,
      receive: 9,
    });
  });
});
