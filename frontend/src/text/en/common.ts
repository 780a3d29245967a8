/** English: what all pages have around them. */
import type { Format, Marked } from '../format';

export const common = (f: Format) => ({
  skip: 'To the content',
  description:
    'Rent a private Lightning network by the hour: funded nodes for every attendee of your meetup, class or hackathon. Pay one invoice, hand out QR cards a minute later.',
  titles: {
    landing: 'lnplay.live: a Lightning network for your room',
    order: 'Order a network · lnplay.live',
    find: 'Find my order · lnplay.live',
    status: 'Your network · lnplay.live',
    wall: 'The wall · lnplay.live',
    guide: 'Lesson plans · lnplay.live',
    connect: 'Your node · lnplay.live',
    nowhere: 'Nothing here · lnplay.live',
  },
  nav: {
    label: 'Main',
    how: 'How it works',
    prices: 'Prices',
    questions: 'Questions',
    order: 'My order',
    light: 'Switch to light colours',
    dark: 'Switch to dark colours',
  },
  shopLink: {
    offline: 'Offline',
    reconnecting: 'Reconnecting',
    inSeconds: (seconds: number) => ` in ${f.whole(seconds)} s`,
    tryNow: '. Try now',
    /** For screen readers, before `online`. */
    theShopIs: 'The shop is ',
    online: 'online',
  },
  footer: 'Private Lightning networks on regtest, by the hour. Their coins are worth nothing, on purpose.',
  help: (contact: string): Marked => ['Help: ', { mark: contact }],
  language: 'Language',
  copy: 'Copy',
  copied: 'Copied',
  notCopied: 'Your browser did not allow it',
  notLoaded: {
    title: 'This page could not be loaded',
    why: 'The shop may have been updated, or the network is down.',
    again: 'Load it again',
  },
  notFound: {
    title: 'There is nothing at this address',
    why: 'The link may be cut short. An order’s address ends in a long number; an attendee’s link begins with /connect.',
  },
  toShop: 'To the shop',
  findOrder: 'Find my order',
  update: {
    text: 'There is a new version of this page.',
    load: 'Load it',
    later: 'Later',
  },
  /** A remaining time in milliseconds. */
  left: (ms: number) => (ms < 60_000 ? 'less than a minute' : f.duration(ms)),
});
