/** English: the wall of an order. */
import type { Event } from '../../wall/data/happenings';
import { between } from '../../wall/data/route';
import type { Format, Phrase } from '../format';

/** A sentence: words, and nodes that are shown by name and colour. */
type Sentence = Phrase<{ readonly node: string }>;

export const wall = (f: Format) => {
  const amount = (msat: number) => `${f.sat(msat)} sat`;
  const channelCount = (n: number) => f.count(n, { one: 'channel', other: 'channels' });
  const row = (nodeIds: readonly string[], nameOf: (nodeId: string) => string) =>
    f.listed(
      nodeIds.map((node) => ({ node })),
      ({ node }) => nameOf(node),
    );

  /** Why a node did not pass a payment on, by BOLT 4's name. */
  function reason(name: string | null, at: string, towards: string | null): Sentence {
    const onward = towards === null ? [] : [' to ', { node: towards }];
    switch (name) {
      case 'WIRE_TEMPORARY_CHANNEL_FAILURE':
        return [{ node: at }, ' has too few coins in the channel', ...onward];
      case 'WIRE_FEE_INSUFFICIENT':
        return [{ node: at }, ' asks for a higher fee'];
      case 'WIRE_UNKNOWN_NEXT_PEER':
        return [{ node: at }, ' cannot reach the next node', ...onward];
      case 'WIRE_AMOUNT_BELOW_MINIMUM':
        return [{ node: at }, ' does not pass on so little'];
      case 'WIRE_CHANNEL_DISABLED':
        return [{ node: at }, ' has switched the channel', ...onward, ' off'];
      default:
        return [{ node: at }, ' could not pass it on', ...onward];
    }
  }

  function sentence(event: Event, nameOf: (nodeId: string) => string): Sentence {
    switch (event.kind) {
      case 'paid': {
        const { from, to, msat, feeMsat, steps } = event;
        const over = between(steps, from, to);
        const through = over.length === 0 ? [] : [' through ', ...row(over, nameOf)];
        const fee = over.length === 0 && feeMsat === 0 ? [] : [`, fee ${amount(feeMsat)}`];
        if (to === from) return [{ node: from }, ` moved ${amount(msat)}`, ...through, ...fee];
        const whom = to === null ? [' paid '] : [' paid ', { node: to }, ' '];
        return [{ node: from }, ...whom, amount(msat), ...through, ...fee];
      }
      case 'failed': {
        const { from, to, msat, stoppedAt, towards, steps } = event;
        const what: Sentence =
          to === null || to === from
            ? [{ node: from }, ` could not pay ${amount(msat)}`]
            : [{ node: from }, ' could not pay ', { node: to }, ` ${amount(msat)}`];
        if (steps.length === 0) return what;
        if (stoppedAt === to) return [...what, ': ', { node: to }, ' refused it'];
        return [...what, ': ', ...reason(event.reason, stoppedAt, towards ?? to)];
      }
      case 'block':
        return [`Block ${f.whole(event.height)}`];
      case 'opening':
      case 'opened':
      case 'closing':
      case 'closed': {
        const { lane } = event;
        const [first, second] = [lane.opener, lane.opener === lane.a ? lane.b : lane.a];
        if (event.kind === 'opening')
          return [{ node: first }, ' opens a channel to ', { node: second }, `, ${amount(lane.totalMsat)}`];
        if (event.kind === 'opened')
          return [
            'The channel from ',
            { node: first },
            ' to ',
            { node: second },
            ` can be used, ${amount(lane.totalMsat)}`,
          ];
        if (event.kind === 'closed')
          return ['The channel of ', { node: first }, ' and ', { node: second }, ' is closed'];
        const closer = lane.closer ?? first;
        return [
          { node: closer },
          lane.isForced ? ' closes by force the channel with ' : ' closes the channel with ',
          { node: closer === lane.a ? lane.b : lane.a },
        ];
      }
      case 'away':
        return [{ node: event.nodeId }, ' does not answer'];
      case 'back':
        return [{ node: event.nodeId }, ' is back'];
    }
  }

  return {
    amount,
    sentence,
    title: 'The wall',
    back: 'Back to the order',
    fullscreen: 'Full screen',
    leaveFullscreen: 'Leave full screen',
    theme: (isDark: boolean): string => (isDark ? 'Light colours' : 'Dark colours'),
    block: 'Block',
    timeLeft: (left: string) => `${left} left`,
    picture: (nodes: number, channels: number) =>
      `Picture of the network: ${f.count(nodes, { one: 'node', other: 'nodes' })} and ${channelCount(channels)}`,
    nodes: 'Nodes',
    nodeLine: (name: string, channels: number, isHere: boolean) =>
      `${name}: ${channelCount(channels)}${isHere ? '' : ', does not answer'}`,
    events: 'Just happened',
    noEvents: 'Nothing yet. Open a channel, pay somebody, and it shows here.',
    standings: 'Standings',
    routed: 'Most routed',
    routedValue: (count: number, feesMsat: number) =>
      `${f.count(count, { one: 'payment', other: 'payments' })}, ${amount(feesMsat)}`,
    connected: 'Best connected',
    connectedValue: channelCount,
    balanced: 'Best balanced',
    balancedValue: f.percent,
    nobody: 'Nobody yet',
    connecting: (here: number, all: number) => `Connecting to the nodes: ${f.whole(here)} of ${f.whole(all)}`,
    away: (names: readonly string[], more: number) =>
      `No answer from ${f.list(more > 0 ? [...names, `${f.whole(more)} more`] : names)}. The wall keeps trying.`,
    allAway: 'None of the nodes answers at the moment. The wall keeps trying.',
    refused: (name: string) => `${name} does not accept its card any more.`,
    ended: 'This network’s time is over. Thank you all for playing.',
    replaced: 'This network is being replaced. The wall goes on with the new one.',
    notReady: 'This network is not ready yet. The wall begins by itself when it is.',
    notThere: 'There is no such order, or it has no network any more.',
    asking: 'Asking the shop for the nodes…',
    mixed:
      'This page was loaded over https, and the nodes are reached without encryption, which browsers do not allow.',
  };
};
