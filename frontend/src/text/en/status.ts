/** English: the page of an order, with its desk and its cards. */
import type { CardsFault } from '../../lib/cards';
import type { DeskAction, DeskNode, Did, LeftOut, Setup } from '../../lib/desk';
import type { Stage, StepName } from '../../lib/order';
import type { Format, Marked } from '../format';

/** What the heading tells: the stage, or what has become of it meanwhile. */
export type Heading = Exclude<Stage['kind'], 'working'> | 'working' | 'replacing';

export const status = (f: Format) => {
  const blocks = (n: number) => f.count(n, { one: 'block', other: 'blocks' });
  const nameOfNode = (number: number) => `Node ${number}`;

  const WHY: Readonly<Record<LeftOut['why'], string>> = {
    off: 'switched off',
    no_answer: 'no answer',
    no_coins: 'not enough coins; send some first',
    failed: 'refused',
  };

  /** "Left out: Bruno (switched off)." or nothing. */
  function leftOut(all: readonly LeftOut[], name: (node: number) => string): string {
    if (all.length === 0) return '';
    return ` Left out: ${all.map(({ node, why }) => `${name(node)} (${WHY[why]})`).join(', ')}.`;
  }

  return {
    title: 'Your order',
    missing: {
      title: 'There is no such order',
      why: 'Check that the address is complete. Orders that were never paid are forgotten after a while.',
    },
    asking: 'Asking the shop…',
    askingNews: 'Asking the shop for news…',
    cannotReach: 'The shop cannot be reached right now; this page keeps trying.',
    offline: (at: number) => `You are offline. This is what we knew ${f.moment(at)}.`,
    knew: (at: number) => `This is what we knew ${f.moment(at)}.`,
    headings: {
      unpaid: 'Waiting for the payment',
      lapsed: 'This invoice has expired',
      replacing: 'Your network is being replaced',
      working: 'Paid. Your network is starting',
      failed: 'Paid, but not delivered',
      refunded: 'Not delivered, and paid back',
      over: 'This network’s time is over',
      ready: 'Your network is ready',
    } satisfies Record<Heading, string>,
    ends: (at: number, left: string): Marked => [`Ends ${f.moment(at)}, `, { mark: `${left} left` }],

    unpaidElsewhere:
      'The invoice is open in the browser where it was made. This page goes on by itself when it is paid.',
    lapsed: 'Nothing was paid, and nothing is lost.',
    orderNew: 'Make a new order',
    replacingUsable:
      'A new network is being made. Until it is here, the links below keep working as they do now; then this page shows new ones, and each person needs one of those.',
    replacingGone:
      'A new network is being made for the time that is left. The links from before no longer work; this page shows the new ones by itself.',
    failed: (isCancelled: boolean): string =>
      isCancelled
        ? 'The operator has cancelled this order. Your payment is on record.'
        : 'Your payment arrived, but no server could be started, several times over.',
    failedNext: 'The operator has been told. If it is started again, this page shows your network by itself.',
    failedAsk: (contact: string): Marked => ['For a new try or a refund: ', { mark: contact }],
    refunded: (at: number | null, isCancelled: boolean) =>
      `${isCancelled ? 'The operator has cancelled this order' : 'Your network could not be started'}. Your payment was paid back${at === null ? '' : ` on ${f.day(at)}`}.`,
    refundedAsk: (contact: string): Marked => [
      'If the payment has not arrived, ask ',
      { mark: contact },
      ' and name this order’s id.',
    ],
    copyId: 'Copy order id',
    over: 'Everything on it has been deleted: nodes, coins, channels, and keys. We hope it was a good session.',
    orderAnother: 'Order another one',
    refundedOn: (at: number) =>
      `Your payment was paid back on ${f.day(at)}. The network stays until its time is over.`,
    health: {
      network: 'This network does not answer at the moment.',
      nodes: (names: readonly string[]) =>
        names.length === 1
          ? `The node ${names[0] ?? ''} does not answer at the moment. The other nodes do.`
          : `The nodes ${f.list(names)} do not answer at the moment.`,
      restarts: 'A node that has stopped is started again by itself; that takes a minute at most.',
      since: (at: number) => `It is so since ${f.moment(at)}.`,
      ask: 'If it lasts, ask the shop’s operator, who has been told, and name this order’s id.',
      askContact: (contact: string): Marked => [
        'If it lasts, ask ',
        { mark: contact },
        ', and name this order’s id. The operator has been told.',
      ],
    },
    replaced: (at: number) =>
      `This network replaced the one before on ${f.moment(at)}. Links from before no longer work: give each person a new one.`,
    nodes: 'The nodes',
    nodesWhat: 'Each code opens one node, with full control of it. Give each person one.',
    oldNodes: 'The nodes that are being replaced',
    remembers: 'This browser remembers the order, also when it is offline.',
    forget: 'Forget it here',

    progress: {
      label: 'Starting your network',
      value: (percent: number, message: string) => `${f.percent(percent)}: ${message}`,
      steps: {
        unpaid: 'Waiting for the payment',
        queued: 'Paid. Choosing a server',
        'queued-again': 'Paid. No server could take it yet; trying again',
        'queued-replacement': 'Choosing a server for your new network',
        placing: 'Starting a server of your own',
        booting: 'Your server is booting',
        'start-bitcoind': 'Starting bitcoind',
        'mature-chain': 'Mining the first blocks',
        'start-nodes': 'Starting the nodes',
        'fund-nodes': 'Funding the nodes',
        'open-channels': 'Opening the channels',
        provisioned: 'Ready',
        failed: 'It could not be deployed; the operator has been told',
      } satisfies Record<StepName, string>,
      unknown: 'Working on it',
    },

    keep: {
      title: 'Keep this address',
      why: 'It is your receipt and the only key to your network: there is no account to recover it from. Put it in your password manager now.',
      name: 'Name',
      nameOf: (nodes: string, day: string) => `${nodes}, ${day}`,
      credential: 'lnplay.live order',
      address: 'Address of this page',
      save: 'Save in password manager',
      copy: 'Copy address',
      kept: 'The address of this page is the key to your order.',
      again: 'Keep it again',
    },

    cards: {
      title: 'Print and share',
      paper: 'Paper',
      papers: { a4: 'A4', letter: 'US Letter', label_4x6: 'Labels, 4 × 6 inch' },
      cardTitle: 'Title',
      logo: 'Logo',
      optional: '(optional)',
      pdf: 'Cards as PDF',
      working: 'Making the PDF…',
      faults: {
        logo_type: 'The logo must be a PNG or a JPEG picture.',
        logo_size: 'The logo is too large: 1 MB at most.',
        logo_unreadable: 'The logo could not be read.',
        unreachable: 'The shop’s server cannot be reached. CSV and JSON work without it.',
        busy: 'The server has many cards to draw right now. Please try again in a moment.',
        failed: 'The cards could not be made.',
      } satisfies Record<CardsFault, string>,
    },
    card: {
      name: nameOfNode,
      large: (name: string) => `Show the code of ${name} large`,
      code: (name: string) => `QR code of the link for ${name}`,
      largeCode: (name: string) => `Large QR code of the link for ${name}`,
      codeOf: (name: string) => `Code of ${name}`,
      open: 'Open',
      copy: 'Copy link',
      copyOf: (name: string) => `Copy link for ${name}`,
      close: 'Close',
    },

    room: {
      title: 'For the room',
      wall: 'Put the room on the wall',
      wallHint:
        'A page for the projector: all nodes, their channels, and each payment as it happens. Show it in full screen: its address gives access to this order.',
      guide: 'Lesson plans',
      guideHint: 'Three lessons of 20, 45 and 90 minutes, to print with the cards.',
    },

    desk: {
      title: 'The desk',
      lead: 'Act on the network while the session runs. Whoever has the address of this page can; attendees cannot.',

      height: (height: number | null) =>
        height === null ? 'The chain does not answer.' : `Block ${f.whole(height)}.`,
      pace: (paused: boolean): string =>
        paused
          ? 'Blocks are paused: one comes only when you mine it.'
          : 'A block comes within seconds when somebody waits for one, otherwise once a minute.',
      look: 'Look again',
      asking: 'Asking the network…',

      nodes: 'Nodes',
      state: { running: 'Running', off: 'Switched off', down: 'Does not answer' } satisfies Record<
        DeskNode['state'],
        string
      >,
      seen: (height: number) => `at block ${f.whole(height)}`,
      name: (node: number) => nameOfNode(node + 1),
      newCard: 'New card',
      newCardOf: (name: string) => `New card for ${name}`,
      sendTo: (name: string) => `Send coins to ${name}`,
      send: 'Send coins',
      switchOff: 'Switch off',
      switchOffOf: (name: string) => `Switch ${name} off`,
      switchOn: 'Switch on',
      switchOnOf: (name: string) => `Switch ${name} on`,
      nodesWhat:
        'A new card is for somebody who lost theirs: it gets a new code, and the old one stops working at once. Switch a node off to show what happens to payments without it.',

      coins: 'Coins',
      coinsWhat: 'New coins from the network’s miner, confirmed by a block that is mined at once.',
      amount: 'Sat for each node',
      sendAll: 'Send to all nodes',
      amountRange: (least: number, most: number) => `From ${f.whole(least)} to ${f.whole(most)}.`,

      channels: 'Channels',
      channelsWhat:
        'Opens what is missing and confirms it with six blocks. Channels that are open stay as they are, whoever opened them.',
      setups: {
        star: { label: 'Star', what: 'The first node to every other one.' },
        circular: { label: 'Circle', what: 'Each node to the next, the last to the first.' },
        prism: { label: 'Prism', what: 'The first node to the second, the second to all the rest.' },
      } satisfies Record<Setup, { readonly label: string; readonly what: string }>,

      blocks: 'Blocks',
      mine: (count: number) => (count === 1 ? 'Mine a block' : `Mine ${blocks(count)}`),
      mineWhat: 'One block confirms what waits; six announce a channel to everybody.',
      pause: 'Pause the blocks',
      resume: 'Resume the blocks',

      /** What is asked before an action that cannot be undone, or that somebody will notice; null if nothing is. */
      question: (action: DeskAction, name: string): { title: string; what: string; yes: string } | null => {
        switch (action.kind) {
          case 'new_card':
            return {
              title: `A new card for ${name}?`,
              what: `${name}’s present link and printed card stop working at once, on every device. The node, its coins and its channels stay.`,
              yes: 'Make the new card',
            };
          case 'switch_off':
            return {
              title: `Switch ${name} off?`,
              what: `Whoever holds ${name} loses the connection, and payments through it fail, until you switch it on again.`,
              yes: 'Switch it off',
            };
          default:
            return null;
        }
      },
      cancel: 'Cancel',

      working: (action: DeskAction, name: string): string => {
        switch (action.kind) {
          case 'look':
            return 'Asking the network…';
          case 'new_card':
            return `Making a new card for ${name}…`;
          case 'send_coins':
            return action.node === null ? 'Sending coins to all nodes…' : `Sending coins to ${name}…`;
          case 'open_channels':
            return 'Opening the channels. With many nodes this takes half a minute…';
          case 'mine':
            return 'Mining…';
          case 'pause_blocks':
            return 'Pausing the blocks…';
          case 'resume_blocks':
            return 'Resuming the blocks…';
          case 'switch_off':
            return `Switching ${name} off…`;
          case 'switch_on':
            return `Switching ${name} on…`;
        }
      },

      done: (did: Did, name: (node: number) => string): string => {
        switch (did.what) {
          case 'looked':
            return '';
          case 'new_card':
            return `${name(did.node)} has a new card: its code below is new. Show it, or print the cards again.`;
          case 'coins_sent':
            return `${f.list(did.nodes.map(name))} got ${f.whole(did.sat)} sat${did.nodes.length > 1 ? ' each' : ''}.${leftOut(did.leftOut, name)}`;
          case 'channels_opened': {
            const { opened, openAlready } = did;
            const before =
              openAlready === 0
                ? ''
                : openAlready === 1
                  ? ' One of this set-up was open before.'
                  : ` ${f.whole(openAlready)} of this set-up were open before.`;
            const now = opened === 1 ? 'One channel was opened.' : `${f.whole(opened)} channels were opened.`;
            return `${now}${before}${leftOut(did.leftOut, name)}`;
          }
          case 'mined':
            return did.blocks === 1 ? 'One block was mined.' : `${f.whole(did.blocks)} blocks were mined.`;
          case 'blocks_paused':
            return 'Blocks are paused, also after a restart of the network, which mines one.';
          case 'blocks_resumed':
            return 'Blocks come by themselves again.';
          case 'switched_off':
            return `${name(did.node)} is switched off, and stays off until you switch it on.`;
          case 'switched_on':
            return `${name(did.node)} runs again.`;
        }
      },

      unknown:
        'There was no answer, so it may or may not have been done. Trying again is safe: it is not done twice.',
      again: 'Try again',
    },
  };
};
