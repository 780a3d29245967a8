/** Every text of the organiser's desk. Nothing else of it has words of its own. */
import type { DeskAction, DeskNode, Did, LeftOut, Setup } from './desk';

/** "Alice", "Alice and Bruno", "Alice, Bruno and Clara". */
function listed(names: readonly string[]): string {
  const last = names.at(-1) ?? '';
  return names.length < 2 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}

function sat(amount: number): string {
  return `${amount.toLocaleString('en-US')} sat`;
}

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

export const SETUPS: Readonly<Record<Setup, { readonly label: string; readonly what: string }>> = {
  star: { label: 'Star', what: 'The first node to every other one.' },
  circular: { label: 'Circle', what: 'Each node to the next, the last to the first.' },
  prism: { label: 'Prism', what: 'The first node to the second, the second to all the rest.' },
};

export const deskText = {
  title: 'The desk',
  lead: 'Act on the network while the session runs. Whoever has the address of this page can; attendees cannot.',

  height: (height: number | null) =>
    height === null ? 'The chain does not answer.' : `Block ${height.toLocaleString('en-US')}.`,
  pace: (paused: boolean) =>
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
  seen: (height: number) => `at block ${height.toLocaleString('en-US')}`,
  name: (node: number) => `Node ${node + 1}`,
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
  amountRange: (least: number, most: number) =>
    `From ${least.toLocaleString('en-US')} to ${most.toLocaleString('en-US')}.`,

  channels: 'Channels',
  channelsWhat:
    'Opens what is missing and confirms it with six blocks. Channels that are open stay as they are, whoever opened them.',

  blocks: 'Blocks',
  mine: (count: number) => (count === 1 ? 'Mine a block' : `Mine ${count} blocks`),
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
        return `${listed(did.nodes.map(name))} got ${sat(did.sat)}${did.nodes.length > 1 ? ' each' : ''}.${leftOut(did.leftOut, name)}`;
      case 'channels_opened': {
        const { opened, openAlready } = did;
        const before = openAlready === 0 ? '' : ` ${openAlready} of this set-up were open before.`;
        const now = opened === 1 ? 'One channel was opened.' : `${opened} channels were opened.`;
        return `${now}${before}${leftOut(did.leftOut, name)}`;
      }
      case 'mined':
        return did.blocks === 1 ? 'One block was mined.' : `${did.blocks} blocks were mined.`;
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
} as const;

/** Sentences for the errors of the desk, by `kind`, or by `reason` where the environment has refused. */
export const DESK_ERRORS = {
  busy: (after: string) => `The desk is in use, or was used very often just now. Please try again ${after}.`,
  tooOld: 'This network was made before there was a desk. The next one that you order has it.',
  noAnswer: 'The network did not answer. It may have done it all the same: look at it before you try again.',
  refused: {
    not_running: 'The network is starting. Please try again in a minute.',
    busy: 'The network is still busy with another action. Please try again in a minute.',
    invalid: 'This network does not know this action. The next one that you order does.',
    request_reused: 'This was asked for before in another way. Please load the page again.',
    node_off: 'This node is switched off. Switch it on first.',
    no_answer: 'This node does not answer. It is started again by itself; please try again in a minute.',
    no_coins: 'The network’s miner has not enough coins left. Choose a smaller amount, or mine some blocks.',
    late: 'It took too long, and some of it may be done. Please do it again: it goes on where it stopped.',
    failed: 'The network could not do this. Please try again; if it stays so, ask the shop’s operator.',
  } satisfies Record<string, string>,
} as const;

/** The sentence for a reason; for one that this page does not know, the general one. */
export function refusedSentence(reason: string | null): string {
  const known: Readonly<Record<string, string>> = DESK_ERRORS.refused;
  return known[reason ?? ''] ?? DESK_ERRORS.refused.failed;
}
