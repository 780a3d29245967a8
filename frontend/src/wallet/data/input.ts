/** What somebody scanned or pasted, sorted. Nothing is checked here that the node checks itself. */

/** What can be paid, or why it cannot. */
export type Input =
  | { readonly kind: 'bolt11'; readonly text: string }
  | { readonly kind: 'offer'; readonly text: string }
  | { readonly kind: 'bolt12'; readonly text: string }
  | { readonly kind: 'node'; readonly nodeId: string }
  | { readonly kind: 'address'; readonly address: string; readonly amountMsat: number | null }
  /** A card: it opens a node and is nothing to pay. */
  | { readonly kind: 'card' }
  | { readonly kind: 'invoice-request' }
  | { readonly kind: 'mainnet' }
  | { readonly kind: 'empty' }
  | { readonly kind: 'unknown' };

const NODE_ID = /^0[23][0-9a-f]{64}$/;
const ADDRESS = /^(bcrt1[02-9ac-hj-np-z]{20,90}|[mn2][1-9a-hj-np-zA-HJ-NP-Z]{25,40})$/;

/** The amount of a BIP 21 link, in msat. */
function bip21Amount(query: URLSearchParams): number | null {
  const amount = query.get('amount');
  return amount !== null && /^\d{1,8}(\.\d{1,8})?$/.test(amount)
    ? Math.round(Number(amount) * 1e8) * 1000
    : null;
}

function bip21(text: string): Input {
  const [address = '', query = ''] = text.slice('bitcoin:'.length).split('?');
  const parameters = new URLSearchParams(query.replace(/(^|&)([A-Z]+)=/g, (all) => all.toLowerCase()));
  // Over Lightning if it can be: that is what the wallet is for.
  for (const key of ['lno', 'lightning']) {
    const inner = parameters.get(key);
    if (inner !== null) {
      const found = classify(inner);
      if (found.kind !== 'unknown' && found.kind !== 'empty') return found;
    }
  }
  const plain = /^bcrt1/i.test(address) ? address.toLowerCase() : address;
  if (ADDRESS.test(plain)) return { kind: 'address', address: plain, amountMsat: bip21Amount(parameters) };
  return /^(bc1|tb1|[13])/i.test(address) ? { kind: 'mainnet' } : { kind: 'unknown' };
}

/** Sorts a text. */
export function classify(pasted: string): Input {
  const trimmed = pasted.trim();
  if (trimmed === '') return { kind: 'empty' };
  if (/^bitcoin:/i.test(trimmed)) return bip21(trimmed);
  if (/#.*address=0[23][0-9a-f]{64}(@|%40)/i.test(trimmed)) return { kind: 'card' };
  // BOLT 12 lets a text be cut into pieces by + and blanks.
  const text = trimmed
    .replace(/^lightning:(\/\/)?/i, '')
    .replace(/\s*\+\s*/g, '')
    .trim();
  const lower = text.toLowerCase();
  if (NODE_ID.test(lower.split('@')[0] ?? '')) return { kind: 'node', nodeId: lower.slice(0, 66) };
  if (/^lno1[02-9ac-hj-np-z]+$/.test(lower)) return { kind: 'offer', text: lower };
  if (/^lni1[02-9ac-hj-np-z]+$/.test(lower)) return { kind: 'bolt12', text: lower };
  if (/^lnr1[02-9ac-hj-np-z]+$/.test(lower)) return { kind: 'invoice-request' };
  if (/^lnbcrt[02-9ac-hj-np-z1]+$/.test(lower)) return { kind: 'bolt11', text: lower };
  if (/^ln(bc|tb|tbs)\d*[munp]?1[02-9ac-hj-np-z]+$/.test(lower)) return { kind: 'mainnet' };
  const address = /^bcrt1/i.test(text) ? lower : text;
  if (ADDRESS.test(address)) return { kind: 'address', address, amountMsat: null };
  return /^(bc1|tb1)[02-9ac-hj-np-z]{20,}$/.test(lower) ? { kind: 'mainnet' } : { kind: 'unknown' };
}
