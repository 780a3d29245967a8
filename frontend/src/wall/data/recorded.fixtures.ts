/**
 * Answers of four real nodes (Core Lightning 26.04.1) in a circle of channels, cut to what is read. Alice pays Carol through
 * Bruno, first 21,000 sat, which arrive, and then 2,000,000 sat, which Bruno cannot pass on.
 */

export const ALICE = '0390b1a0d5e096a324738c0ee35e78c9283d6b9743f1cfa07cfe88ee6938814101';
export const BRUNO = '03cc85b4796576dd05ec8943f6b9e0e5d5ef8aca84967a575982d12c22c943e6ed';
export const CAROL = '022afeea1fcc7f8f1e2c27937d46eea314b1e943cd02d2e17b0c2b6c0149411559';
export const DIEGO = '0281203c87c8556157746ec3ec39fe088d74a75ddfe82dd20179b1ae46ee5b6b2c';

export const ALICE_BRUNO = '375355dba97df83dc3245aa09c127f9d749a1f4f7bc17310e181a030154c98eb';
export const BRUNO_CAROL = '02826a521d5e5016db65b16c44b829d187239ddfed2650dfdd9b638125dd377b';

export const PAID = '0281bf87536e37c936b790def1173210bb04945b5b83767c9ce256d14545d952';
export const FAILED = '2824df265a8c2a9ad0ac94afe56a9968dde657b8bdf7d8845cd030c5b2a0346c';

/** A channel in the answer of `listpeerchannels`. */
export function channel(peer: string, id: string, more: Record<string, unknown> = {}) {
  return {
    peer_id: peer,
    peer_connected: true,
    state: 'CHANNELD_NORMAL',
    channel_id: id,
    short_channel_id: id === ALICE_BRUNO ? '103x3x0' : '103x1x0',
    opener: 'local',
    to_us_msat: 10_000_000_000,
    total_msat: 10_000_000_000,
    ...more,
  };
}

export const CHANNELS: Record<string, unknown> = {
  [ALICE]: { channels: [channel(BRUNO, ALICE_BRUNO)] },
  [BRUNO]: {
    channels: [channel(ALICE, ALICE_BRUNO, { opener: 'remote', to_us_msat: 0 }), channel(CAROL, BRUNO_CAROL)],
  },
  [CAROL]: { channels: [channel(BRUNO, BRUNO_CAROL, { opener: 'remote', to_us_msat: 0 })] },
};

function move(index: number, id: string, credit: number, debit: number, fees: number) {
  return {
    created_index: index,
    account_id: id,
    credit_msat: credit,
    debit_msat: debit,
    timestamp: 1_796_049_208,
    primary_tag: 'routed',
    payment_hash: PAID,
    fees_msat: fees,
  };
}

/** Of `listchannelmoves`. Bruno's second move came 12 ms after his first, and Alice's last. */
export const MOVES: Record<string, unknown> = {
  [ALICE]: { channelmoves: [move(1, ALICE_BRUNO, 0, 21_000_211, 211)] },
  [BRUNO]: {
    channelmoves: [move(1, BRUNO_CAROL, 0, 21_000_000, 211), move(2, ALICE_BRUNO, 21_000_211, 0, 211)],
  },
  [CAROL]: { channelmoves: [move(1, BRUNO_CAROL, 21_000_000, 0, 0)] },
};

/** Of `listsendpays`, on Alice's node. */
export const SENDPAYS = {
  payments: [
    {
      created_index: 1,
      payment_hash: PAID,
      updated_index: 1,
      partid: 1,
      destination: CAROL,
      amount_msat: 21_000_000,
      amount_sent_msat: 21_000_211,
      created_at: 1_796_049_207,
      completed_at: 1_796_049_208,
      status: 'complete',
    },
    {
      created_index: 3,
      payment_hash: FAILED,
      updated_index: 3,
      partid: 1,
      destination: CAROL,
      amount_msat: 2_000_000_000,
      amount_sent_msat: 2_000_020_001,
      created_at: 1_796_049_339,
      status: 'failed',
    },
  ],
};

/** Of `listhtlcs`. Carol never heard of the payment. */
export const HTLCS: Record<string, unknown> = {
  [ALICE]: {
    htlcs: [
      { created_index: 3, short_channel_id: '103x3x0', id: 2, expiry: 149, direction: 'out', amount_msat: 2_000_020_001, payment_hash: FAILED, state: 'RCVD_REMOVE_ACK_REVOCATION' },
    ],
  },
  [BRUNO]: {
    htlcs: [
      { created_index: 6, short_channel_id: '103x3x0', id: 2, expiry: 149, direction: 'in', amount_msat: 2_000_020_001, payment_hash: FAILED, state: 'SENT_REMOVE_ACK_REVOCATION' },
    ],
  },
}; // prettier-ignore

/** Of `listforwards`. */
export const FORWARDS: Record<string, unknown> = {
  [ALICE]: { forwards: [] },
  [BRUNO]: {
    forwards: [
      { created_index: 2, in_channel: '103x3x0', in_htlc_id: 1, out_channel: '103x1x0', in_msat: 6_000_060_001, out_msat: 6_000_000_000, fee_msat: 60_001, status: 'settled' },
      { created_index: 3, in_channel: '103x3x0', in_htlc_id: 2, out_channel: '103x1x0', in_msat: 2_000_020_001, status: 'local_failed', failcode: 4103, failreason: 'WIRE_TEMPORARY_CHANNEL_FAILURE' },
    ],
  },
}; // prettier-ignore
