/** English: the landing page, without the form. */
import type { Marked } from '../format';

export const landing = () => ({
  title: 'A Lightning network for everyone in the room',
  lead: 'Pay one invoice. About a minute later you hold a QR card for each attendee, and behind each card runs a real, funded Lightning node that is theirs for as long as you booked.',
  ticks: [
    'Nothing to install: a phone is enough',
    'No real coins, so nobody can lose any',
    'No account, no e-mail, no subscription',
  ],
  current: 'Back to your order',
  how: {
    title: 'Three steps, then it is your room',
    steps: [
      {
        title: 'Choose and pay',
        text: 'Pick how many nodes and how many hours. Scan the invoice with any Lightning wallet; that is the whole order.',
      },
      {
        title: 'Print the cards',
        text: 'A server of your own starts: a Bitcoin node, your Lightning nodes, coins in each of them. Print the cards, or put the page on the projector.',
      },
      {
        title: 'Scan and play',
        text: 'Each attendee scans a card and is in control of a node: in the browser, or in a wallet for Core Lightning.',
      },
    ],
  },
  learn: {
    title: 'What they will have done by the end',
    lessons: [
      {
        title: 'Open a channel',
        text: 'and watch it confirm. A block is mined every few seconds, not every ten minutes.',
      },
      { title: 'Receive a payment', text: 'and find out why an empty side of a channel matters.' },
      { title: 'Route for a neighbour', text: 'set a fee, and see it arrive.' },
      { title: 'Watch a payment fail', text: 'read the reason, and find the way around it.' },
      { title: 'Move liquidity', text: 'when everything has piled up at one end of the room.' },
      { title: 'Close and settle', text: 'then look at the chain to see what is left of it all.' },
    ],
  },
  card: {
    number: '5 of 16',
    title: 'Lightning night, Lisbon',
    code: 'A sample QR code; it leads to this page',
    caption: 'One of these for each attendee, printed by you, with your title and logo',
  },
  rooms: {
    title: 'Made for people who stand in front of people',
    intro: [
      'With a picture of the room for the projector, on which payments travel as they happen, and ',
      { mark: 'three lesson plans' },
      ' that say what to say.',
    ] as Marked,
    list: [
      { title: 'Meetups', text: 'Turn the talk into an evening where everybody runs a node.' },
      {
        title: 'Classes',
        text: 'The same network for each student, fresh for each lesson, gone after it.',
      },
      {
        title: 'Hackathons',
        text: 'Give each team funded nodes in the first five minutes, not on the second day.',
      },
      {
        title: 'Product teams',
        text: 'Try a wallet against thirty-two real nodes without touching real money.',
      },
    ],
  },
  prices: {
    title: 'Prices',
    intro: 'You pay for nodes and hours, once, in advance. Time to start the servers is on the house.',
    asking: 'Asking the shop for today’s prices…',
    nodes: 'Nodes',
    each: 'a node, an hour',
    availability: 'Availability',
    choose: 'Choose',
    /** For screen readers, after `choose`. */
    chooseNodes: (nodes: string) => ` ${nodes}`,
  },
  questions: {
    title: 'Questions',
    list: [
      {
        question: 'What is regtest?',
        answer:
          'Bitcoin’s own practice mode: the same software and the same rules, on a private chain whose blocks we mine every few seconds. Its coins are worth nothing, which is why nobody has to be afraid of pressing a button.',
      },
      {
        question: 'Do attendees need bitcoin?',
        answer: 'No. Each node comes with practice coins. Only you pay once, for the network.',
      },
      {
        question: 'Which wallet do they need?',
        answer:
          'None. The card opens one in the phone’s browser: it pays, receives, opens and closes channels, and says why a payment failed. Who prefers another can open the node in Clams from there.',
      },
      {
        question: 'How do I pay?',
        answer:
          'With any Lightning wallet, by scanning the invoice. There is no account, and we do not ask who you are. Your receipt is the address of your order: keep it in your password manager.',
      },
      {
        question: 'What happens when the time is over?',
        answer:
          'The server and everything on it is deleted: nodes, coins, channels, and keys. Your order’s page says when, and counts down.',
      },
      {
        question: 'Can I extend the time?',
        answer:
          'Not by yourself, so book a little more than you need: the clock starts when the server is made, and the time it takes to start is added on top. If the evening gets long, ask the operator, who can.',
      },
      {
        question: 'What if something goes wrong?',
        answer:
          'A server that does not start is replaced by itself, as often as it takes. If all of that fails, the operator is told at once and your order’s page says whom to talk to about another try or a refund.',
        contact: (contact: string) => [' You can also ask now: ', { mark: contact }, '.'],
      },
      {
        question: 'Who can see what we do?',
        answer:
          'Your network is a server of its own that nobody else uses, and it goes when the time is over. We keep the order and its payment; no names, no e-mail addresses, no cookies, no trackers. Whoever has a card controls its node, and whoever has the order’s address has all the cards, so treat both like keys.',
      },
    ] as readonly {
      readonly question: string;
      readonly answer: string;
      readonly contact?: (contact: string) => Marked;
    }[],
  },
  last: {
    title: 'Your next session could have its own network',
    button: 'Put one together',
  },
});
