/** The data of an attendee's page. */
import { readMsat } from '../money';
import { list, maybeText, numberOr, object, text, type Json } from '../shape';
import type { Link } from './link';

/** A channel, seen from this node. Amounts are in msat. */
export interface Channel {
  readonly id: string;
  readonly peerId: string;
  readonly peerName: string | null;
  readonly usable: boolean;
  readonly state: string;
  readonly ours: number;
  readonly total: number;
}

/** Another node of the network. */
export interface Neighbour {
  readonly nodeId: string;
  readonly name: string;
  readonly color: string | null;
  readonly isConnected: boolean;
}

/** The current state of a node. */
export interface NodeView {
  readonly nodeId: string;
  readonly alias: string;
  readonly color: string | null;
  readonly blockHeight: number;
  readonly network: string;
  /** Confirmed on-chain coins, in msat. */
  readonly onChain: number;
  /** Unconfirmed on-chain coins, in msat. */
  readonly pending: number;
  /** Spendable amount in channels, without deducting reserves, in msat. */
  readonly inChannels: number;
  readonly channels: readonly Channel[];
  readonly neighbours: readonly Neighbour[];
}

function objects(from: unknown, key: string): Json[] {
  return list(object(from, key), key).map((item) => object(item, key));
}

/** The states of a channel in words. */
export function channelState(state: string): string {
  if (state === 'CHANNELD_NORMAL') return 'open';
  if (state === 'CHANNELD_AWAITING_LOCKIN' || state.startsWith('DUALOPEND') || state === 'OPENINGD')
    return 'opening';
  if (state === 'ONCHAIN' || state === 'FUNDING_SPEND_SEEN') return 'closed on chain';
  return 'closing';
}

function hexColor(from: Json, key: string): string | null {
  const color = maybeText(from, key);
  return color !== null && /^[0-9a-fA-F]{6}$/.test(color) ? `#${color.toLowerCase()}` : null;
}

/** Combines the answers of `getinfo`, `listfunds`, `listpeerchannels` and `listnodes`. */
export function nodeView(info: unknown, funds: unknown, peerChannels: unknown, nodes: unknown): NodeView {
  const self = object(info, 'getinfo');
  const nodeId = text(self, 'id');
  const outputs = objects(funds, 'outputs').filter((output) => output['status'] !== 'spent');
  const sum = (amounts: number[]) => amounts.reduce((total, amount) => total + amount, 0);
  const known = new Map(objects(nodes, 'nodes').map((node) => [text(node, 'nodeid'), node]));
  const channels = objects(peerChannels, 'channels').map((channel): Channel => {
    const peerId = text(channel, 'peer_id');
    const peer = known.get(peerId);
    const state = text(channel, 'state');
    return {
      id: maybeText(channel, 'short_channel_id') ?? maybeText(channel, 'funding_txid') ?? peerId,
      peerId,
      peerName: peer === undefined ? null : maybeText(peer, 'alias'),
      usable: state === 'CHANNELD_NORMAL' && channel['peer_connected'] === true,
      state: channelState(state),
      ours: readMsat(channel['to_us_msat']),
      total: readMsat(channel['total_msat']),
    };
  });
  const peers = new Set(channels.map(({ peerId }) => peerId));
  return {
    nodeId,
    alias: maybeText(self, 'alias') ?? nodeId.slice(0, 10),
    color: hexColor(self, 'color'),
    blockHeight: numberOr(self, 'blockheight', 0),
    network: maybeText(self, 'network') ?? '',
    onChain: sum(
      outputs.filter(({ status }) => status === 'confirmed').map((o) => readMsat(o['amount_msat'])),
    ),
    pending: sum(
      outputs.filter(({ status }) => status !== 'confirmed').map((o) => readMsat(o['amount_msat'])),
    ),
    inChannels: sum(channels.filter(({ state }) => state === 'open').map(({ ours }) => ours)),
    channels,
    neighbours: [...known]
      .filter(([id]) => id !== nodeId)
      .map(([id, node]) => ({
        nodeId: id,
        name: maybeText(node, 'alias') ?? id.slice(0, 10),
        color: hexColor(node, 'color'),
        isConnected: peers.has(id),
      }))
      .sort((a, b) => a.name.localeCompare(b.name)),
  };
}

/** Requests all of it from a node. */
export async function lookAt(link: Link, signal: AbortSignal): Promise<NodeView> {
  const options = { signal };
  const [info, funds, channels, nodes] = await Promise.all([
    link.call('getinfo', {}, options),
    link.call('listfunds', {}, options),
    link.call('listpeerchannels', {}, options),
    link.call('listnodes', {}, options),
  ]);
  return nodeView(info, funds, channels, nodes);
}
