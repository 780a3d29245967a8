import { describe, expect, it } from 'vitest';
import { isFinal, orderParams, readInvoice, readNames, readStatus, STEPS } from './order';
import lnplay from './lnplay.fixture.json';
import { ShapeError } from './shape';

const STATUS = {
  invoice_id: 'lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624',
  node_count: 8,
  hours: 48,
  payment_type: 'bolt11',
  invoice_status: 'paid',
  revision: 30003,
  deployment_details: 'not_deployed' as unknown,
};
const details = (more: object) => ({
  vm_expiration_date: '2026-11-24T15:46:10Z',
  lnlive_plugin_version: '0.1.0',
  progress: { step: 'start-nodes', done: 35, total: 100, message: 'Starting the nodes' },
  connection_strings: [],
  ...more,
});

describe('orderParams', () => {
  it('sends what was chosen and nothing else', () => {
    expect(orderParams({ nodeCount: 8, hours: 4 })).toEqual({ node_count: 8, hours: 4 });
    expect(
      orderParams({
        sku: 'A',
        nodeCount: 8,
        hours: 4,
        channelSetup: 'star',
        coinDistribution: 'pow',
        names: ['a'],
        title: 't',
      }),
    ).toEqual({
      sku: 'A',
      node_count: 8,
      hours: 4,
      channel_setup: 'star',
      coin_distribution: 'pow',
      names: ['a'],
      title: 't',
    });
  });
});

describe('readStatus', () => {
  const stage = (more: object) => readStatus({ ...STATUS, ...more }).stage;

  it('follows an order through its life', () => {
    expect(stage({ invoice_status: 'unpaid' })).toEqual({ kind: 'unpaid' });
    expect(stage({ invoice_status: 'expired' })).toEqual({ kind: 'lapsed' });
    expect(stage({})).toMatchObject({ kind: 'working', progress: { percent: 0 } });
    expect(stage({ deployment_details: details({ status: 'queued' }) }).kind).toBe('working');
    expect(stage({ deployment_details: details({ status: 'starting_deployment' }) })).toEqual({
      kind: 'working',
      progress: { percent: 35, step: 'start-nodes', message: 'Starting the nodes' },
      replacing: null,
    });
    expect(
      stage({ deployment_details: details({ status: 'provisioned', connection_strings: ['a', 'b'] }) }),
    ).toEqual({
      kind: 'ready',
      endsAt: Date.parse('2026-11-24T15:46:10Z'),
      connectionStrings: ['a', 'b'],
      health: null,
      replacedAt: null,
      refundedAt: null,
    });
    expect(stage({ deployment_details: details({ status: 'expired' }) }).kind).toBe('over');
    const failed = { status: 'failed', message: 'm', contact: null };
    const told = { contact: null, cancelled: false };
    expect(stage({ deployment_details: details(failed) })).toEqual({
      kind: 'failed',
      ...told,
      refundedAt: null,
    });
    expect(stage({ deployment_details: details({ ...failed, cancelled: true }) })).toMatchObject({
      kind: 'failed',
      cancelled: true,
    });
    const refunded = { ...failed, refunded_at: '2026-11-25T10:00:00Z' };
    expect(stage({ deployment_details: details(refunded) })).toEqual({
      kind: 'refunded',
      ...told,
      refundedAt: Date.parse('2026-11-25T10:00:00Z'),
    });
    expect(stage({ deployment_details: details({ ...failed, refunded_at: null }) }).kind).toBe('failed');
  });

  it('reads what has become of a network since it was handed over', () => {
    const ready = (more: object) =>
      stage({ deployment_details: details({ status: 'provisioned', ...more }) });
    const at = '2026-11-23T10:00:00Z';
    const nodes = [{ index: 1, name: 'Bruno' }, 'rubbish', { index: 2 }];
    const health = { state: 'degraded', since: at, nodes_down: nodes };
    expect(ready({ health, replaced_at: at, refunded_at: at })).toMatchObject({
      health: { state: 'degraded', since: Date.parse(at), nodesDown: ['Bruno'] },
      replacedAt: Date.parse(at),
      refundedAt: Date.parse(at),
    });
    expect(ready({ health: { state: 'polished', nodes_down: null } })).toMatchObject({
      health: { state: 'unknown', since: null, nodesDown: [] },
    });
    const replacing = { since: at, vm_expiration_date: at, connection_strings: ['a'] };
    expect(stage({ deployment_details: details({ status: 'queued', replacing }) })).toMatchObject({
      kind: 'working',
      replacing: { endsAt: Date.parse(at), connectionStrings: ['a'] },
    });
  });

  it('shows a status that it does not know as work in progress', () => {
    expect(stage({ deployment_details: details({ status: 'polishing' }) }).kind).toBe('working');
  });

  it('knows all steps of lnplay', () => {
    const known: readonly string[] = STEPS;
    expect(lnplay.steps.filter((step) => !known.includes(step))).toEqual([]);
  });

  it('keeps the shop’s sentence of a step that it does not know', () => {
    const at = (progress: object) => stage({ deployment_details: details({ status: 'queued', progress }) });
    expect(at({ step: 'polish-nodes', message: 'Polishing' })).toMatchObject({
      progress: { step: null, message: 'Polishing' },
    });
    expect(at({ step: 'constructor', message: 'x' })).toMatchObject({ progress: { step: null } });
  });

  it('keeps the percentage within its bounds', () => {
    const at = (progress: object) => stage({ deployment_details: details({ status: 'queued', progress }) });
    expect(at({ done: 7, total: 5, message: 'x' })).toMatchObject({ progress: { percent: 100 } });
    expect(at({ done: -1, total: 0 })).toMatchObject({ progress: { percent: 0, message: null } });
  });

  it.each([null, [], {}, { ...STATUS, revision: '3' }])('refuses %j', (value) => {
    expect(() => readStatus(value)).toThrow(ShapeError);
  });
});

it('waits for nothing that can still change', () => {
  expect(isFinal({ kind: 'failed', contact: null })).toBe(false);
  expect(isFinal({ kind: 'over', endedAt: null })).toBe(true);
  expect(isFinal({ kind: 'refunded', contact: null })).toBe(true);
});

it('reads an invoice', () => {
  const invoice = { invoice_id: 'i', bolt11_invoice: 'lnbcrt1', amount_msat: 5000, node_count: 8, hours: 1 };
  expect(readInvoice({ ...invoice, invoice_expires_at: '2026-11-22T15:41:08Z' })).toMatchObject({
    amountMsat: 5000,
    sku: null,
    expiresAt: Date.parse('2026-11-22T15:41:08Z'),
  });
  expect(readInvoice({ ...invoice, sku: 'A' }).sku).toBe('A');
  expect(() => readInvoice({ ...invoice, bolt11_invoice: null })).toThrow(ShapeError);
});

describe('readNames', () => {
  it('takes lines, commas, or nothing', () => {
    expect(readNames(' Ann,Bob\n Zoë ;Dan', 4)).toEqual({ ok: true, names: ['Ann', 'Bob', 'Zoë', 'Dan'] });
    expect(readNames(' \n', 4)).toEqual({ ok: true, names: [] });
  });

  it.each([
    ['too few', 'Ann', 2, 'count'],
    ['too many', 'a,b,c', 2, 'count'],
    ['the same twice', 'Ann,ann', 2, 'twice'],
    ['too long', `${'x'.repeat(33)},b`, 2, 'long'],
    ['too long in bytes', `${'ë'.repeat(17)},b`, 2, 'long'],
  ])('refuses %s', (_, typed, count, kind) => {
    expect(readNames(typed, count)).toMatchObject({ ok: false, problem: { kind } });
  });
});
