import { describe, expect, it } from 'vitest';
import { classify } from './input';
import { ALICE } from './data.fixtures';

const INVOICE = 'lnbcrt500u1p4svn93sp5uhe6qvggtjmgpvgy5jekmnh36e4fv5c94ry';
const OFFER = 'lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc2p9jx7mnpw35k7mnn';
const ADDRESS = 'bcrt1qpq6pjxjsrjywss9hfzkvxmdmyr5nn4c9zhtv6s';

describe('classify', () => {
  it.each([
    [INVOICE, { kind: 'bolt11', text: INVOICE }],
    [` LIGHTNING:${INVOICE.toUpperCase()} `, { kind: 'bolt11', text: INVOICE }],
    [`lightning://${INVOICE}`, { kind: 'bolt11', text: INVOICE }],
    [OFFER, { kind: 'offer', text: OFFER }],
    [`${OFFER.slice(0, 20)}+\n ${OFFER.slice(20)}`, { kind: 'offer', text: OFFER }],
    [OFFER.replace('lno1', 'lni1'), { kind: 'bolt12', text: OFFER.replace('lno1', 'lni1') }],
    [ALICE, { kind: 'node', nodeId: ALICE }],
    [`${ALICE}@127.0.0.1:9735`, { kind: 'node', nodeId: ALICE }],
    [ADDRESS, { kind: 'address', address: ADDRESS, amountMsat: null }],
    [
      `bitcoin:${ADDRESS.toUpperCase()}?amount=0.001`,
      { kind: 'address', address: ADDRESS, amountMsat: 100_000_000 },
    ],
    [`bitcoin:${ADDRESS}?amount=0.001&lightning=${INVOICE}`, { kind: 'bolt11', text: INVOICE }],
    [`BITCOIN:?LNO=${OFFER.toUpperCase()}`, { kind: 'offer', text: OFFER }],
    [`https://shop.example/connect#address=${ALICE}@h:1&type=direct&value=ws:&rune=x`, { kind: 'card' }],
    ['lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqf', { kind: 'mainnet' }],
    ['bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq', { kind: 'mainnet' }],
    ['lnr1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc2', { kind: 'invoice-request' }],
    ['', { kind: 'empty' }],
    ['hello', { kind: 'unknown' }],
    [ALICE.slice(1), { kind: 'unknown' }],
  ])('sorts %j', (text, expected) => {
    expect(classify(text)).toEqual(expected);
  });
});
