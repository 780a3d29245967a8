import { expect, it } from 'vitest';
import { ShapeError } from '../shape';
import { channelState, nodeView } from './attendee';

const [ME, BOB, CAROL] = ['02aa', '02bb', '02cc'];
const INFO = { id: ME, alias: 'Alice', color: 'df2020', blockheight: 110, network: 'regtest' };
const FUNDS = {
  outputs: [
    { status: 'confirmed', amount_msat: 5000 },
    { status: 'confirmed', amount_msat: '2000msat' },
    { status: 'unconfirmed', amount_msat: 700 },
    { status: 'spent', amount_msat: 9000 },
  ],
  channels: [],
};
const channel = (more: object) => ({
  peer_id: BOB,
  peer_connected: true,
  state: 'CHANNELD_NORMAL',
  short_channel_id: '1x1x1',
  to_us_msat: 300,
  total_msat: 1000,
  ...more,
});
const CHANNELS = { channels: [channel({}), channel({ peer_id: CAROL, state: 'ONCHAIN', to_us_msat: 400 })] };
const NODES = {
  nodes: [{ nodeid: ME, alias: 'Alice' }, { nodeid: CAROL }, { nodeid: BOB, alias: 'Bob', color: 'zz' }],
};

it('adds up what can be spent, and what cannot yet', () => {
  expect(nodeView(INFO, FUNDS, CHANNELS, NODES)).toMatchObject({
    alias: 'Alice',
    color: '#df2020',
    onChain: 7000,
    pending: 700,
    inChannels: 300,
  });
});

it('names channels by their other end', () => {
  const { channels } = nodeView(INFO, FUNDS, CHANNELS, NODES);
  expect(channels.map(({ peerName, state, usable }) => [peerName, state, usable])).toEqual([
    ['Bob', 'open', true],
    [null, 'closed on chain', false],
  ]);
  const away = nodeView(INFO, FUNDS, { channels: [channel({ peer_connected: false })] }, NODES);
  expect(away.channels[0]?.usable).toBe(false);
});

it('lists the others, this node left out, whatever they call themselves', () => {
  const { neighbours } = nodeView(INFO, FUNDS, CHANNELS, NODES);
  expect(neighbours.map(({ name, color }) => [name, color])).toEqual([
    [CAROL, null],
    ['Bob', null],
  ]);
});

it('has a word for each state', () => {
  expect(
    ['CHANNELD_AWAITING_LOCKIN', 'DUALOPEND_OPEN_INIT', 'CLOSINGD_COMPLETE', 'FUNDING_SPEND_SEEN'].map(
      channelState,
    ),
  ).toEqual(['opening', 'opening', 'closing', 'closed on chain']);
});

it('refuses answers of another shape', () => {
  expect(() => nodeView({}, FUNDS, CHANNELS, NODES)).toThrow(ShapeError);
  expect(() => nodeView(INFO, null, CHANNELS, NODES)).toThrow(ShapeError);
});
