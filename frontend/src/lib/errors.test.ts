import { expect, it } from 'vitest';
import { CardsError } from './cards';
import { ConfigError } from './config';
import {
  hasNoDesk,
  isNoSuchOrder,
  isNotPayable,
  isRefusedKey,
  isUnknownOutcome,
  sentence,
  wantsTicket,
} from './errors';
import { LinkError, RpcError, type Fault } from './node/node';
import { PayError } from './pay';
import { ShapeError } from './shape';

/** An error as the shop answers it. */
const shop = (code: number, data: object) => new RpcError(code, 'a sentence that may change', data);

it.each([
  shop(7000, { kind: 'no_such_order' }),
  shop(7001, { kind: 'no_remotes' }),
  shop(7002, { kind: 'busy' }),
  shop(7003, { kind: 'not_supported', feature: 'payment_type bolt12' }),
  shop(7004, { kind: 'damaged_record' }),
  shop(7005, { kind: 'invalid_state', state: 'provisioned' }),
  shop(7006, { kind: 'sold_out', next_available_at: null }),
  shop(7007, { kind: 'availability_unknown', silent_for_secs: 60 }),
  shop(7008, { kind: 'remote_failed' }),
  shop(7009, { kind: 'ticket_required', retry_after_secs: null }),
  shop(7010, { kind: 'ticket_spent' }),
  shop(7011, { kind: 'unpaid_limit', share: 'client', retry_after_secs: 9 }),
  shop(7011, { kind: 'unpaid_limit', share: 'network', retry_after_secs: 9 }),
  shop(7011, { kind: 'unpaid_limit', share: 'without_ticket', retry_after_secs: 9 }),
  shop(7012, { kind: 'not_open_yet', awaited: 'bitcoind_sync', blocks: 5, headers: 9 }),
  shop(7012, { kind: 'not_open_yet', awaited: 'no_channels' }),
  shop(7012, { kind: 'not_open_yet', awaited: 'something_newer' }),
  shop(7013, { kind: 'too_large_to_receive', largest_payable_msat: 9000, payable_hours: 5 }),
  shop(7013, { kind: 'too_large_to_receive', largest_payable_msat: 9000, payable_hours: 0 }),
  shop(7014, { kind: 'desk_busy', retry_after_secs: 5 }),
  shop(7015, { kind: 'desk_too_old' }),
  shop(7016, { kind: 'desk_no_answer' }),
  ...[
    'not_running',
    'busy',
    'invalid',
    'request_reused',
    'node_off',
    'no_answer',
    'no_coins',
    'late',
    'failed',
    'something_newer',
  ].map((reason) => shop(7017, { kind: 'desk_refused', reason })),
  shop(-32603, { kind: 'starting' }),
  shop(-32603, { kind: 'node_unavailable' }),
  shop(-32603, { kind: 'internal' }),
  shop(7999, { kind: 'of_a_newer_shop' }),
  new RpcError(-32601, 'Unknown command'),
  new RpcError(19536, 'Invalid rune'),
  new RpcError(19537, 'Not permitted'),
  new RpcError(4242, 'whatever'),
])('has a sentence for $code $data.kind', (error) => {
  expect(sentence(error)).toMatch(/^[A-Z].{20,}[.]$/);
  expect(sentence(error)).not.toContain('a sentence that may change');
});

it.each<Fault>(['unreachable', 'stranger', 'lost', 'timeout', 'closed'])(
  'has a sentence for a link that is %s',
  (fault) => {
    expect(sentence(new LinkError(fault))).toMatch(/^[A-Z].{20,}[.]$/);
  },
);

it('passes on what helps, and nothing of the rest', () => {
  const hours = { kind: 'invalid_params', parameter: 'hours', allowed: { min: 1, max: 504 } };
  expect(sentence(shop(-32602, hours))).toBe(
    'The shop does not accept this number of hours. Choose 1 to 504.',
  );
  const names = new RpcError(-32602, 'names[7]: too long', { kind: 'invalid_params', parameter: 'names' });
  expect(sentence(names)).toBe(
    'The shop does not accept these names. Give one for each node, of 1 to 32 letters, or none.',
  );
  const other = new RpcError(-32602, 'colour must be red.', { kind: 'invalid_params', parameter: 'colour' });
  expect(sentence(other)).toBe('The shop does not accept this: colour must be red.');
  const nodes = { kind: 'invalid_params', parameter: 'node_count', allowed: [8, 16] };
  expect(sentence(shop(-32602, nodes))).toContain('number of nodes. Choose one of 8, 16.');
  expect(sentence(shop(7002, { kind: 'busy', retry_after_secs: 40 }))).toContain('40 seconds');
  expect(sentence(shop(7006, { kind: 'sold_out', next_available_at: '2026-11-24T15:46:10Z' }))).toContain(
    '2026',
  );
  const synchronising = { kind: 'not_open_yet', awaited: 'bitcoind_sync', blocks: 310000, headers: 870000 };
  expect(sentence(shop(7012, synchronising))).toContain('310,000 of 870,000 blocks');
  const large = { kind: 'too_large_to_receive', payable_hours: 5 };
  expect(sentence(shop(7013, large))).toContain('Up to 5 hours');
  expect([7012, 7013].every((_, i) => isNotPayable(shop(0, i === 0 ? synchronising : large)))).toBe(true);
  expect(isNotPayable(shop(7006, { kind: 'sold_out' }))).toBe(false);
  expect(sentence(new RpcError(12, 'rune=secret'))).not.toContain('secret');
  expect(sentence(new TypeError('x is undefined'))).not.toContain('undefined');
  expect(sentence(new ShapeError('products'))).not.toContain('products');
  expect(sentence(new ConfigError('wrong', 'rune is not a text'))).toContain('rune is not a text');
  expect(sentence(new CardsError('logo_size'))).toContain('1 MB');
  expect(sentence(new PayError('demoFailed', 'no route'))).toBe('no route');
  expect(sentence(new PayError('webln'))).toContain('did not pay');
});

it('knows when another ticket helps, and when another key does', () => {
  expect(wantsTicket(shop(7009, { kind: 'ticket_required' }))).toBe(true);
  expect(wantsTicket(shop(7010, { kind: 'ticket_spent' }))).toBe(true);
  expect(wantsTicket(shop(7011, { kind: 'unpaid_limit' }))).toBe(false);
  expect(wantsTicket(new RpcError(7009, 'no data'))).toBe(false);
  expect(isRefusedKey(new RpcError(19537, 'Invalid rune: Not permitted: too soon'))).toBe(false);
  expect(isRefusedKey(new RpcError(19537, 'Invalid rune: Not permitted: method does not start with x'))).toBe(
    true,
  );
});

it('knows when an action of the desk may have been carried out all the same', () => {
  expect(isUnknownOutcome(new LinkError('lost'))).toBe(true);
  expect(isUnknownOutcome(shop(7016, { kind: 'desk_no_answer' }))).toBe(true);
  expect(isUnknownOutcome(shop(7017, { kind: 'desk_refused', reason: 'failed' }))).toBe(false);
  expect(hasNoDesk(shop(7015, { kind: 'desk_too_old' }))).toBe(true);
  expect(hasNoDesk(shop(7016, { kind: 'desk_no_answer' }))).toBe(false);
});

it('reads kinds, never sentences', () => {
  expect(isNoSuchOrder(shop(7000, { kind: 'no_such_order' }))).toBe(true);
  expect(isNoSuchOrder(new RpcError(7000, 'no such order'))).toBe(false);
  expect(isNoSuchOrder(shop(7004, { kind: 'damaged_record' }))).toBe(false);
});
