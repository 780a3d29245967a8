/** English: the lesson plans. A test compares the words in “quotes” with the wallet's and the wall's. */
import type { Plan } from '../../guide/plan';
import type { Format } from '../format';

const BEFORE = [
  'Print the cards from the order’s page, one for each person.',
  'Open the wall on the projector, and a card on your own phone.',
];

const PLANS: readonly Plan[] = [
  {
    id: 'meetup',
    title: 'First meetup',
    minutes: 20,
    audience: 'For people who have never opened a channel. 4 to 16 of them, each with a phone.',
    before: [...BEFORE, 'Order the network without channels: opening them is half of the fun.'],
    steps: [
      {
        minutes: 3,
        title: 'Everybody has a node',
        say: 'Behind your card runs a Lightning node that is yours for this evening. Its coins are worth nothing, so press whatever you like. Find your name on the wall.',
        all: [
          'Scan the card with the phone’s camera and open the link.',
          'Read your node’s name at the top, and what is “On chain”.',
        ],
        wall: 'All names in their colours, no lines yet. The block height counts up.',
      },
      {
        minutes: 5,
        title: 'Open a channel',
        say: 'A channel is a shared account of two nodes. Opening one is a transaction, so we wait for a block. Choose the person to your right.',
        all: [
          'Go to “Channels” and press “Open a channel”.',
          'Choose a name under “With whom?”, type 1,000,000 into “How many coins go in?” and confirm.',
          'Watch the steps under “On its way into the chain”.',
        ],
        wall: 'A dashed line from you to your neighbour, with its confirmations. It becomes solid, all in the colour of the one who opened it: all coins are on that side.',
      },
      {
        minutes: 5,
        title: 'Pay your neighbour',
        say: 'Now no block is needed. Ask for money; your neighbour scans your code. Who opened the channel can pay, who did not can only receive: look at the line.',
        all: [
          'The one who gets paid: “Receive”, an amount and a word, “Make an invoice”.',
          'The other one: “Pay”, “Scan a code”, and confirm.',
          'Pay back a part of it.',
        ],
        wall: 'A spark runs along the line, the list says who paid whom, and the mark on the line moves.',
      },
      {
        minutes: 4,
        title: 'Pay somebody across the room',
        say: 'You have no channel with most people here, and you can pay them all the same: others pass it on, for a fee.',
        all: [
          'Press “Pay” and choose somebody far away under “Or pay somebody in the room”.',
          'Read “The way there” and “Fee” before you confirm.',
        ],
        wall: 'The spark takes several lines. The list says through whom, and the standings count who has routed.',
      },
      {
        minutes: 3,
        title: 'What just happened',
        say: 'You ran a node, opened a channel and were paid in a second, and nobody in between could take it. With real coins it is the same software.',
        all: ['Open “Missions” and see what you have accomplished.', 'Try what is left: the nodes run on.'],
        wall: 'Who is “Most routed” gets the applause.',
      },
    ],
  },
  {
    id: 'class',
    title: 'Developers’ class',
    minutes: 45,
    audience: 'For people who write software. 8 to 32 of them, with a phone or a laptop.',
    before: [...BEFORE, 'Order the network with channels in a circle, so that there are routes at once.'],
    steps: [
      {
        minutes: 5,
        title: 'A node and its interface',
        say: 'This page is a client of Core Lightning. Every button is a call of its RPC, over an encrypted connection from your browser to your node, allowed by the rune on your card.',
        all: [
          'Scan the card, then open “More” and “Console”.',
          'Run getinfo, then listpeerchannels, then help.',
        ],
        wall: 'A circle of nodes. Every line is all of one colour: the coins are where the channel was opened.',
      },
      {
        minutes: 8,
        title: 'Invoices and routes',
        say: 'An invoice is a hash and an amount. Decode one before you pay it, and ask for the route: you will see each hop’s amount grow by the fee of the next.',
        all: [
          'In pairs across the circle: one makes an invoice under “Receive”.',
          'The other one runs decode with it in the “Console”.',
          'Then pay it under “Pay”, and compare “The way it took” with the wall.',
        ],
        wall: 'Each payment with its hops, in the order in which the HTLCs were locked. The list has the fees.',
      },
      {
        minutes: 8,
        title: 'Failure',
        say: 'Nobody knows the balance of others’ channels. A sender tries, and learns from the errors. Let us empty one channel and see what the next payment says.',
        all: [
          'One pays a neighbour nearly all that “You can send” shows.',
          'Somebody else pays through that channel, and it fails.',
          'Read “Where” and “Why”, then open “What the node says”: it is an onion-encrypted error of BOLT 4.',
        ],
        wall: 'A red spark that ends at the node that had too few coins, and a sentence that says so.',
      },
      {
        minutes: 8,
        title: 'Liquidity',
        say: 'A payment to yourself costs a fee and changes nothing that you own, only where it lies. Routing nodes live from doing this well.',
        all: [
          'Open a second channel with “Open a channel”, across the circle.',
          'When it is usable, press “Move liquidity” under “Channels”: out through one, back through the other.',
        ],
        wall: 'A spark that leaves a node and comes back to it from the other side. The marks on the lines move to the middle, and “Best balanced” changes.',
      },
      {
        minutes: 8,
        title: 'Fees',
        say: 'A fee has a base and a share. Change yours: gossip takes a moment, and until then payments fail with fee_insufficient or pay the old one.',
        all: [
          'Open a channel in “Channels” and look at “What you charge for forwarding”.',
          'Change “For each payment (msat)” and press “Set fees”.',
          'Let somebody pay through you, and look for “Earned by forwarding” in “History”.',
        ],
        wall: 'The fees in the list grow, and payments turn to cheaper ways.',
      },
      {
        minutes: 8,
        title: 'Close and settle',
        say: 'A channel ends together or by force. By force your share is locked for some blocks, so that the other side could punish an old state.',
        all: [
          'Half of the room: “Close this channel”, “Close together”.',
          'The other half: “Close this channel”, “Force it”.',
          'Follow “The end of it” until the coins are back “On chain”.',
        ],
        wall: 'Lines turn red, and are gone with the next block. The list says who closed what, and how.',
      },
    ],
  },
  {
    id: 'game',
    title: 'Routing game',
    minutes: 90,
    audience: 'For people who know the basics and like to win. 8 to 64 of them, alone or in teams.',
    before: [
      ...BEFORE,
      'Order the network without channels: each node has the same coins.',
      'Write the rules on a board: most fees earned when the bell rings wins; second prize for the best balanced node.',
    ],
    steps: [
      {
        minutes: 10,
        title: 'The rules',
        say: 'You are all routing businesses. You earn when others pay through you. Everybody has to pay ten different people in each round. Alliances are allowed, and so is breaking them.',
        all: ['Scan the card and look at your coins.', 'Walk around and agree on whom you connect to.'],
        wall: 'All names, no lines.',
      },
      {
        minutes: 15,
        title: 'Round 1: build',
        say: 'You have fifteen minutes to build. A channel with few coins fails; many small ones cost a fee each, and coins in a bad place earn nothing.',
        all: [
          'Press “Open a channel” as often as you think is wise.',
          'Keep some coins “On chain” for later.',
        ],
        wall: 'Lines grow between names, thicker ones hold more. “Best connected” shows who builds most.',
      },
      {
        minutes: 15,
        title: 'Round 2: trade',
        say: 'Now pay. Ten different people, at least 10,000 sat each. Watch where your payments go, and who lives from them.',
        all: [
          'Take ten names under “Or pay somebody in the room”, one after the other.',
          'Watch what comes in under “Passed on” in “History”.',
        ],
        wall: 'Sparks everywhere. “Most routed” counts payments and fees.',
      },
      {
        minutes: 10,
        title: 'Take stock',
        say: 'Who earned, and why? Look at the lines: those that are all of one colour are used up. Where would a payment fail now?',
        all: ['Look at “You can send” and “You can receive” in each channel.', 'Change your plan.'],
        wall: 'Lines of one colour are empty on one side: the next round’s failures.',
      },
      {
        minutes: 15,
        title: 'Round 3: prices',
        say: 'From now on you set your own fees. Too high and they go around you; too low and you are drained.',
        all: [
          'Open your channels, change “Per million (ppm)” and press “Set fees”.',
          'Pay ten people again, and choose cheap ways by what “Fee” says.',
          'Use “Move liquidity” where a side is empty.',
        ],
        wall: 'Watch payments turn away from expensive nodes, and the list of failures where nobody rebalanced.',
      },
      {
        minutes: 15,
        title: 'Round 4: storm',
        say: 'Some of you will leave. Who is drawn closes all of their channels; everybody else has to find new ways, and may open new channels.',
        all: [
          'Who is drawn: “Close this channel” in each, “Close together” or “Force it”.',
          'Everybody: pay ten people again.',
        ],
        wall: 'Red lines, then gaps. Payments fail, find new ways, and new lines appear.',
      },
      {
        minutes: 10,
        title: 'The bell',
        say: 'Stop. The wall has the winners; now the winners tell how they did it, and the rest of us what we would do with real coins.',
        all: ['Read “Earned by forwarding” in “History” and say it aloud.', 'Look at “Missions”.'],
        wall: 'The standings: most routed, best connected, best balanced.',
      },
    ],
  },
];

export const guide = (f: Format) => ({
  plans: PLANS,
  title: 'Lesson plans',
  lead: 'What to say, what all do, and what the wall then shows. The words in quotes are those of the buttons behind the cards.',
  all: 'All lesson plans',
  minutes: f.minutes,
  before: 'Before people come',
  say: 'Say',
  do: 'Everybody',
  wall: 'On the wall',
  at: (from: number, to: number) => `${f.whole(from)} to ${f.whole(to)} min`,
  print: 'Print this plan',
  read: (title: string) => `Read “${title}”`,
  order: 'Order a network',
});
