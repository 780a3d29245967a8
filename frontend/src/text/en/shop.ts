/** English: ordering and paying, and what can go wrong with the shop. */
import type { Awaited, Preset } from '../../lib/products';
import type { ConfigFault } from '../../lib/config';
import type { NamesProblem } from '../../lib/order';
import type { PayFault } from '../../lib/pay';
import type { Fault } from '../../lib/node/node';
import type { Format } from '../format';

export const shop = (f: Format) => {
  const nodes = (n: number) => f.count(n, { one: 'node', other: 'nodes' });
  /** Seconds after which it is worth trying again; 0 if the shop does not say. */
  const after = (seconds: number) => `in ${seconds > 0 ? f.seconds(seconds) : 'a few minutes'}`;
  const again = 'Please try again in a moment.';
  const soldOut = 'Sold out';
  const openingSoon = 'Opening soon';

  function waiting({ kind, blocks, headers }: Awaited): string {
    const done =
      blocks === null || headers === null || headers <= 0
        ? ''
        : `: ${f.whole(blocks)} of ${f.whole(headers)} blocks so far`;
    switch (kind) {
      case 'starting':
        return 'The shop’s node is starting for the first time. That can take hours, because it reads the whole chain first.';
      case 'bitcoind_sync':
        return `The shop’s Bitcoin node is catching up with the network${done}.`;
      case 'lightningd_sync':
        return `The shop’s Lightning node is reading the latest blocks${done}.`;
      case 'no_channels':
      case 'channels_opening':
        return 'The shop’s Lightning node is getting its first channels, so that it can be paid.';
      case 'peers_offline':
        return 'The shop’s Lightning node is waiting for its peers to come back.';
      default:
        return 'The shop’s Lightning node cannot receive payments at the moment.';
    }
  }

  return {
    nodes,
    /** A size and a time, as in `8 nodes for 2 days`. */
    what: (nodeCount: number, hours: number) => `${nodes(nodeCount)} for ${f.hours(hours)}`,
    /** A price in msat. */
    price: (msat: number) => `${f.price(msat)} sat`,
    waiting,
    openingSoon,
    retry: 'Try again',
    cannotReach: 'The shop cannot be reached right now. This page keeps trying.',
    stranger: 'Somebody answered, but not as the node we know, so nothing is sent. This page keeps trying.',

    presets: {
      evening: 'An evening',
      day: 'A day',
      weekend: 'A weekend',
      week: 'A week',
    } satisfies Record<Preset['name'], string>,
    availability: {
      notPayable: 'Not payable right now',
      soldOut,
      soldOutUntil: (at: number) => `${soldOut} until ${f.moment(at)}`,
      onlyLeft: (n: number) => `Only ${f.whole(n)} left`,
      now: 'Available now',
    },

    form: {
      label: 'Order a network',
      howMany: 'How many nodes?',
      /** For screen readers, after the number. */
      sizeNodes: ' nodes',
      sizeOut: ', not payable right now',
      share: 'One for each attendee. Two people can share one.',
      howLong: 'For how long?',
      slider: 'Hours, roughly',
      hours: 'hours',
      priceAsked: 'The price is being asked for',
      button: {
        soon: openingSoon,
        ordering: 'Making your invoice…',
        tooLarge: 'Too large right now',
        soldOut,
        connecting: 'Connecting…',
        order: 'Get the invoice',
      },
      looksAgain: 'This page looks again by itself; nothing is sold until then.',
      tooLarge: (nodeCount: number, hours: number, most: number) =>
        `${nodes(nodeCount)} for ${f.hours(hours)} cost more than the shop’s Lightning node can receive in one payment right now. ${
          most > 0
            ? `Up to ${f.hours(most)} are possible, or a smaller size.`
            : 'A smaller size may be possible.'
        }`,
      soldOut: (nodeCount: number, until: number | null) =>
        `${nodes(nodeCount)} are sold out${until === null ? '' : ` until ${f.moment(until)}`}. Another size may be free right now.`,
    },

    options: {
      summary: 'More options',
      hint: 'names, coins, channels, a title for the cards',
      channels: 'Channels at the start',
      coins: 'Who holds the coins',
      usual: 'As usual',
      title: 'Title on the cards',
      titleExample: 'Lightning night, Lisbon',
      names: (nodeCount: number) => `Names of the ${nodes(nodeCount)}`,
      namesExample: 'Alice, Bruno, Carol… (ours, if you leave this empty)',
      namesHelp: 'One a line or separated by commas. The whole network can see them.',
      coinsOf: {
        egalitarian: 'Egalitarian: the same for everybody',
        political: 'Political: a few hold nearly all',
        poisson: 'Poisson: spread around the average',
        pow: 'Proof of work: as if they had mined',
      },
      channelsOf: {
        none: 'None: attendees open their own',
        star: 'Star: one hub, connected to all',
        circular: 'Circle: each to the next',
        prism: 'Prism: one pays a hub that fans out',
      },
    },
    names: (problem: NamesProblem): string => {
      switch (problem.kind) {
        case 'long':
          return `“${problem.name}” is too long: a name has at most ${f.whole(problem.most)} letters.`;
        case 'twice':
          return 'Each name can be used once, so that people can tell the nodes apart.';
        case 'count':
          return `There are ${f.count(problem.given, { one: 'name', other: 'names' })} for ${nodes(problem.nodes)}; give one for each, or none.`;
      }
    },
    picture: (nodeCount: number, channels: number) =>
      `${nodes(nodeCount)} in a circle${channels > 0 ? `, ${f.count(channels, { one: 'channel', other: 'channels' })}` : ''}`,

    order: {
      pay: 'Pay the invoice',
      change: 'Change the order',
      costsNothing: 'An invoice that is not paid costs nothing.',
      lapsed: 'This invoice has expired',
      lapsedWhy: (nodeCount: number, hours: number) =>
        `Nothing was paid, and nothing is lost. ${nodes(nodeCount)} for ${f.hours(hours)} can be ordered again right away.`,
      again: 'Make a new invoice',
      title: 'Order a network',
      lead: 'Choose a size and a time. You pay by Lightning; there is no account to make.',
    },

    invoice: {
      open: 'Open the invoice in a wallet',
      code: 'QR code of the invoice',
      scan: 'Scan the code with any Lightning wallet. This page notices the payment by itself and goes on.',
      demo: 'Pay with the demo wallet',
      paying: 'Paying…',
      openWallet: 'Open in a wallet',
      browser: 'Pay in this browser',
      copy: 'Copy invoice',
      waiting: 'Waiting for your payment.',
      left: (clock: string) => `${clock} left.`,
      over: 'The time is over; asking the shop whether it was paid.',
      asText: 'The invoice as text',
      faults: {
        webln: 'The wallet in this browser did not pay. You can use another one.',
        demoAway: 'The demo wallet does not answer. Is the demo still running?',
        demoFailed: 'The demo wallet could not pay.',
      } satisfies Record<PayFault, string>,
    },

    find: {
      how: 'Your order has an address of its own, which is also its key. Let your password manager fill it in, or paste it.',
      address: 'Address of the order',
      none: 'There is no order’s address in this. It looks like …/orders/lnplaylive-0819da5d-….',
      open: 'Open the order',
      seen: 'Seen in this browser',
      anOrder: 'An order',
      lastSeen: (at: number) => `last seen ${f.moment(at)}`,
    },

    /** Errors, by what caused them (`lib/errors.ts`). */
    errors: {
      config: {
        wrong: (detail: string) => `The shop is set up wrongly: ${detail}. Its operator has to correct that.`,
        unreachable: 'The shop’s server cannot be reached right now. Nothing is lost; try again in a moment.',
        starting: 'The shop’s node has not started yet. This page looks again by itself.',
      } satisfies Record<ConfigFault, string | ((detail: string) => string)>,
      link: {
        stranger:
          'Somebody answered, but not as the node we know. For your safety nothing is sent. The shop may be restarting; if this stays, tell its operator.',
        timeout: 'The node took too long to answer. Please try again.',
        unreachable: 'The connection to the node is down. This page keeps trying.',
        lost: 'The connection to the node is down. This page keeps trying.',
        closed: 'The connection to the node is down. This page keeps trying.',
      } satisfies Record<Fault, string>,
      manyOrders: (seconds: number) =>
        `There were many orders from your network in the last minute. Please try again ${after(seconds)}.`,
      odd: 'The shop’s answer could not be understood. Load the page again; if that does not help, tell the operator.',
      page: 'Something went wrong in this page. Load it again; your order is kept.',
      noSuchMethod:
        'The shop’s node does not know this request. The shop may be restarting; try again in a moment.',
      tooSoon: 'Busy: somebody else is asking this very second. Please try again.',
      refusedKey: 'The node does not accept this key. It may have been replaced; load the page again.',
      unknown: (code: number) => `The node answered with an error that this page does not know (${code}).`,

      noSuchOrder:
        'There is no such order. Check that the address is complete; orders that were never paid are forgotten after a while.',
      noRemotes: 'The shop has no servers at the moment, so nothing can be sold. Please come back later.',
      busy: (seconds: number) => `Many people are ordering right now. Please try again ${after(seconds)}.`,
      ticketRequired: (seconds: number) =>
        `Many people are ordering right now. Please load the page again, or try again ${after(seconds)}.`,
      ticketSpent: 'Your request came too late or twice. Please try again.',
      unpaid: {
        client: (seconds: number) =>
          `You have unpaid orders that keep places free for you. Pay one of them, or try again ${after(seconds)}.`,
        network: (seconds: number) =>
          `Others in your network have unpaid orders that keep places free for them. Please try again ${after(seconds)}.`,
        other: (seconds: number) =>
          `There are too many unpaid orders at the moment. Please try again ${after(seconds)}.`,
      },
      notSupported: (feature: string | null) =>
        `This shop cannot do that yet: ${feature ?? 'what was asked for'}.`,
      damagedRecord:
        'The record of this order is damaged. The operator has been told; keep the address of this page.',
      invalidState: 'This cannot be done with the order in the state that it is in.',
      soldOut: (at: number | null) =>
        `This size is sold out right now.${at === null ? '' : ` The next one frees up on ${f.day(at)} at ${f.clock(at)}.`} A smaller one may be free.`,
      notOpenYet: (awaited: Awaited) => `The shop opens soon. ${waiting(awaited)}`,
      tooLarge: (hours: number) =>
        `This is more than the shop’s Lightning node can receive in one payment. ${
          hours > 0
            ? `Up to ${f.count(hours, { one: 'hour', other: 'hours' })} of this size are possible right now.`
            : 'Please choose a smaller size.'
        }`,
      availabilityUnknown:
        'The shop’s servers do not answer at the moment, so nothing can be sold. Please try again later.',
      /** The shop's own sentence, without its full stop, about a parameter that this page does not know. */
      invalid: (message: string) => `The shop does not accept this: ${message}.`,
      invalidParameter: (parameter: string, choice: string) =>
        `The shop does not accept ${parameter}.${choice}`,
      oneOf: (choices: readonly string[]) => ` Choose one of ${choices.join(', ')}.`,
      between: (min: number, max: number) => ` Choose ${f.whole(min)} to ${f.whole(max)}.`,
      parameters: {
        node_count: 'this number of nodes',
        hours: 'this number of hours',
        sku: 'this product',
        coin_distribution: 'this distribution of coins',
        channel_setup: 'this channel set-up',
        names: 'these names',
        title: 'this title',
        node: 'this node',
        sat: 'this amount',
        blocks: 'this number of blocks',
        setup: 'this channel set-up',
      },
      /** What a parameter has to be where it is neither one of a few nor in a range. */
      rules: {
        names: ' Give one for each node, of 1 to 32 letters, or none.',
        title: ' It has 1 to 80 letters on one line.',
      },
      starting: `The shop is starting. ${again}`,
      internal: `The shop cannot do this right now. ${again}`,
      desk: {
        busy: (seconds: number) =>
          `The desk is in use, or was used very often just now. Please try again ${after(seconds)}.`,
        tooOld: 'This network was made before there was a desk. The next one that you order has it.',
        noAnswer:
          'The network did not answer. It may have done it all the same: look at it before you try again.',
        refused: {
          not_running: 'The network is starting. Please try again in a minute.',
          busy: 'The network is still busy with another action. Please try again in a minute.',
          invalid: 'This network does not know this action. The next one that you order does.',
          request_reused: 'This was asked for before in another way. Please load the page again.',
          node_off: 'This node is switched off. Switch it on first.',
          no_answer:
            'This node does not answer. It is started again by itself; please try again in a minute.',
          no_coins:
            'The network’s miner has not enough coins left. Choose a smaller amount, or mine some blocks.',
          late: 'It took too long, and some of it may be done. Please do it again: it goes on where it stopped.',
          failed: 'The network could not do this. Please try again; if it stays so, ask the shop’s operator.',
        },
      },
    },
  };
};
