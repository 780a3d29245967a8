import { describe, expect, it } from 'vitest';
import { isPayableAsk, readShared, type Ask } from './shared';

const invoice: Ask['what'] = {
  kind: 'bolt11',
  text: 'lnbcrt1',
  payee: '02aa',
  amountMsat: 1000,
  description: 'coffee',
  expiresAt: 2000,
  paymentHash: 'ff',
};
const offer: Ask['what'] = {
  kind: 'offer',
  text: 'lno1',
  payee: null,
  amountMsat: null,
  description: null,
  issuer: null,
};

describe('what the room is asked for', () => {
  it('is read, of the version that is known', () => {
    const requests = [{ node: '02aa', request: 'lnbcrt1' }];
    expect(readShared({ version: 1, requests })).toEqual([{ nodeId: '02aa', text: 'lnbcrt1' }]);
    expect(readShared({ version: 2, requests: 'something else' })).toEqual([]);
  });

  it('is left out once it has expired', () => {
    expect(isPayableAsk({ nodeId: '02aa', what: invoice }, 1_999_000)).toBe(true);
    expect(isPayableAsk({ nodeId: '02aa', what: invoice }, 2_000_000)).toBe(false);
    expect(isPayableAsk({ nodeId: '02aa', what: offer }, 9_000_000)).toBe(true);
  });

  it('is left out where a node shows what another asks for', () => {
    expect(isPayableAsk({ nodeId: '03bb', what: invoice }, 0)).toBe(false);
    expect(isPayableAsk({ nodeId: '03bb', what: { ...offer, payee: '02aa' } }, 0)).toBe(false);
  });
});
