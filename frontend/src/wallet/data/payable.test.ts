import { describe, expect, it } from 'vitest';
import { NotPayable, readPayable } from './payable';
import { CAROL } from './data.fixtures';

const bolt11 = {
  type: 'bolt11 invoice',
  currency: 'bcrt',
  created_at: 1_795_574_885,
  expiry: 604_800,
  payee: CAROL,
  amount_msat: 50_000_000,
  description: 'tea for two',
  payment_hash: '8413',
  valid: true,
};
const offer = { type: 'bolt12 offer', offer_description: 'donations', offer_issuer_id: CAROL, valid: true };

describe('readPayable', () => {
  it('reads an invoice', () => {
    expect(readPayable(bolt11, 'lnbcrt…')).toEqual({
      kind: 'bolt11',
      text: 'lnbcrt…',
      payee: CAROL,
      amountMsat: 50_000_000,
      description: 'tea for two',
      expiresAt: 1_796_179_685,
      paymentHash: '8413',
    });
  });

  it('leaves the amount open where the invoice or offer does', () => {
    expect(readPayable({ ...bolt11, amount_msat: undefined }, '').amountMsat).toBeNull();
    expect(readPayable(offer, 'lno…')).toMatchObject({ kind: 'offer', amountMsat: null, payee: CAROL });
  });

  it.each([
    ['invalid', { ...bolt11, valid: false }],
    ['currency', { ...bolt11, currency: 'bc' }],
    ['currency', { ...offer, offer_currency: 'EUR' }],
    ['kind', { type: 'rune', valid: true }],
  ])('says that it cannot be paid: %s', (reason, answer) => {
    const read = () => readPayable(answer, '');
    expect(read).toThrow(NotPayable);
    expect(read).toThrow(reason);
  });
});
