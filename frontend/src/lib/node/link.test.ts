import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { backoff, Link } from './link';
import { LinkError, RpcError, type Fault, type Session } from './node';

const ADDRESS = { nodeId: '02', url: 'ws://h', rune: 'r' };

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** A session that answers with the name of the method, and can be disconnected. */
function session(answer: (method: string) => Promise<unknown> = (method) => Promise.resolve(method)) {
  let cut: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (cut = resolve));
  const made: Session & { cut: () => void } = { call: answer, ended, end: vi.fn(() => { cut(); }), cut: () => { cut(); } }; // prettier-ignore
  return made;
}

const fault = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    (error: unknown) => (error instanceof LinkError ? error.fault : error),
  );
const never = () => new Promise<never>(() => undefined);

it('waits longer each time, up to half a minute, and never all at once', () => {
  expect([1, 2, 3, 7, 8, 99].map((n) => backoff(n, 1))).toEqual([500, 1000, 2000, 30_000, 30_000, 30_000]);
  expect(backoff(3, 0)).toBe(1000);
});

describe('Link', () => {
  it('makes calls, also those that came before the connection', async () => {
    const link = new Link(ADDRESS, () => Promise.resolve(session()));
    await expect(link.call('getinfo', {})).resolves.toBe('getinfo');
    expect(link.state.kind).toBe('connected');
    link.close();
  });

  it('forks into connections that wait, retry and close with it', async () => {
    const dial = vi.fn(() =>
      Promise.resolve(session((method) => (method === 'wait' ? never() : Promise.resolve(1)))),
    );
    const link = new Link(ADDRESS, dial);
    const fork = link.fork();
    const waiting = fault(fork.call('wait', {}, { limit: Infinity }));
    await expect(link.call('getinfo', {})).resolves.toBe(1);
    expect(dial).toHaveBeenCalledTimes(2);
    link.close();
    await expect(waiting).resolves.toBe('closed');
  });

  it('dials again when nobody answers, and says why it waits', async () => {
    const faults: Fault[] = ['unreachable', 'stranger'];
    const dial = vi.fn(() => {
      const next = faults.shift();
      return next === undefined ? Promise.resolve(session()) : Promise.reject(new LinkError(next));
    });
    const link = new Link(ADDRESS, dial);
    const seen: string[] = [];
    link.subscribe((state) => seen.push(state.kind === 'waiting' ? state.fault : state.kind));
    await vi.advanceTimersByTimeAsync(5000);
    expect(seen).toEqual(['connecting', 'unreachable', 'connecting', 'stranger', 'connecting', 'connected']);
    link.close();
  });

  it('ends the wait when told that the network is back', async () => {
    const dial = vi.fn(() => Promise.reject(new LinkError('unreachable')));
    const link = new Link(ADDRESS, dial);
    await vi.advanceTimersByTimeAsync(60_000);
    const before = dial.mock.calls.length;
    link.retryNow();
    await vi.advanceTimersByTimeAsync(0);
    expect(dial.mock.calls.length).toBe(before + 1);
    link.close();
  });

  it('gives up a call with its connection, and takes the next one to a new one', async () => {
    const first = session(never);
    const dial = vi
      .fn()
      .mockResolvedValueOnce(first)
      .mockImplementation(() => Promise.resolve(session()));
    const link = new Link(ADDRESS, dial);
    const call = fault(link.call('getinfo', {}));
    await vi.advanceTimersByTimeAsync(0);
    first.cut();
    expect(await call).toBe('lost');
    const next = link.call('getinfo', {});
    await vi.advanceTimersByTimeAsync(1000);
    await expect(next).resolves.toBe('getinfo');
    link.close();
  });

  it('drops a connection that does not answer in time', async () => {
    const silent = session(never);
    const link = new Link(ADDRESS, vi.fn().mockResolvedValueOnce(silent).mockImplementation(never));
    const call = fault(link.call('getinfo', {}, { limit: 1000 }));
    await vi.advanceTimersByTimeAsync(1001);
    expect(await call).toBe('timeout');
    expect(silent.end).toHaveBeenCalled();
    link.close();
  });

  it('says what is wrong when there was no connection in time', async () => {
    const link = new Link(ADDRESS, () => Promise.reject(new LinkError('stranger')));
    const call = fault(link.call('getinfo', {}, { limit: 1000 }));
    await vi.advanceTimersByTimeAsync(1001);
    expect(await call).toBe('stranger');
    link.close();
  });

  it('passes the node’s own errors on, and keeps the connection', async () => {
    const one = session(() => Promise.reject(new RpcError(7000, 'no such order')));
    const link = new Link(ADDRESS, () => Promise.resolve(one));
    await expect(link.call('x', {})).rejects.toMatchObject({ code: 7000 });
    expect(one.end).not.toHaveBeenCalled();
    link.close();
  });

  it('ends calls when it is closed or the page has gone elsewhere', async () => {
    const link = new Link(ADDRESS, () => Promise.resolve(session(never)));
    const elsewhere = new AbortController();
    const calls = [fault(link.call('a', {}, { signal: elsewhere.signal })), fault(link.call('b', {}))];
    elsewhere.abort();
    await vi.advanceTimersByTimeAsync(0);
    expect(await calls[0]).toBe('closed');
    link.close();
    expect(await calls[1]).toBe('closed');
    expect(await fault(link.call('c', {}))).toBe('closed');
  });
});
