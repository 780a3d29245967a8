/** Answers of a real node (Core Lightning 26.04.1), cut to what is read, for the tests. */

export const ALICE = `02${'a1'.repeat(32)}`;
export const BRUNO = `03${'b2'.repeat(32)}`;
export const CAROL = `02${'c3'.repeat(32)}`;

/** A channel in the answer of `listpeerchannels`. */
export function peerChannel(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    peer_id: BRUNO,
    peer_connected: true,
    state: 'CHANNELD_NORMAL',
    channel_id: '85c5',
    funding_txid: 'f7e2',
    short_channel_id: '112x2x0',
    direction: 1,
    private: false,
    opener: 'local',
    to_us_msat: 940_000_000,
    total_msat: 1_000_000_000,
    spendable_msat: 926_693_417,
    receivable_msat: 49_000_583,
    our_reserve_msat: 10_000_000,
    our_to_self_delay: 6,
    updates: {
      local: { fee_base_msat: 1, fee_proportional_millionths: 10, cltv_expiry_delta: 6 },
      remote: { fee_base_msat: 1, fee_proportional_millionths: 10, cltv_expiry_delta: 6 },
    },
    ...more,
  };
}

/** A part in the answer of `listsendpays`. */
export function sendpay(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    payment_hash: 'eb48',
    groupid: 1,
    partid: 1,
    destination: CAROL,
    amount_msat: 50_000_000,
    amount_sent_msat: 50_000_501,
    created_at: 1_795_574_961,
    status: 'complete',
    bolt11: 'lnbcrt500u1…',
    ...more,
  };
}

/** A move in the answer of `listchainmoves`. */
export function move(more: Record<string, unknown>): Record<string, unknown> {
  return { account_id: 'wallet', credit_msat: 0, debit_msat: 0, extra_tags: [], blockheight: 100, ...more };
}
