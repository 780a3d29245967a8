/* eslint svelte/prefer-svelte-reactivity: 'off' -- no template reads the sets in here */
/** A node's wallet: what the node has, kept up to date, and what can be done with it. */
import type { ConnectionString } from '../lib/connection-string';
import { isRefusedKey } from '../lib/errors';
import { dial } from '../lib/node/dial';
import { Link } from '../lib/node/link';
import { LinkError, RpcError, type LinkState, type Params } from '../lib/node/node';
import { sleep } from '../lib/node/shop';
import { numberOr, object, text } from '../lib/shape';
import { reconcile, record, underWay, type Attempt } from './data/attempts';
import { history, type Entry } from './data/history';
import type { Trouble } from './data/failure';
import { tick, type Accomplished, type Mission } from './data/missions';
import { readMsat } from '../lib/money';
import { MOVE_LABEL } from './data/payments';
import { mergePeople, nameOf, type Person } from './data/people';
import type { Invoice } from './data/payable';
import { circle, lastLeg, readPlan, type Plan } from './data/route';
import type { Channel } from './data/channels';
import type { Snapshot } from './data/snapshot';
import { isUnknownMethod, look, PARTS, type Part } from './look';
import { Store } from './store';

/** How long the node tries to get a payment through, in seconds. */
const RETRY_FOR = 40;

/** Time for a payment, an opening, a close: more than the node gives itself. Milliseconds. */
const LONG_CALL = 60_000;

/** Time for an answer when it is doubtful that the connection lives, for instance after sleep. Milliseconds. */
const PROBE = 6000;

/** How long a node is asked to wait for a block, in seconds; it answers with an error then. */
const BLOCK_WAIT = 300;

/** How often everything is asked for again, whatever was heard. Milliseconds. */
const EVERYTHING = 60_000;

/** How often a node that cannot wait for events is asked. Milliseconds. */
const POLL = 5000;

/** Something that happened while somebody looks. */
export type News =
  | { readonly kind: 'received'; readonly id: string; readonly msat: number; readonly description: string }
  | { readonly kind: 'mission'; readonly id: string; readonly mission: Mission };

/** A new id for something of ours. */
export function freshId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Runs at most one of what has the same name, in all tabs. Null where another is at it. */
async function alone<T>(name: string, work: () => Promise<T>): Promise<T | null> {
  // Absent on pages that came over http from elsewhere than this machine.
  if (!('locks' in navigator)) return await work();
  return (await navigator.locks.request(name, { ifAvailable: true }, (lock) =>
    lock === null ? null : work(),
  )) as T | null;
}

/**
 * The wallet of one node.
 *
 * lightningd 26.04 reads the next message of a connection only after it has written something to it (connectd/multiplex.c,
 * `read_body_from_peer_done`). A call that takes long therefore holds up all later ones on its connection, so `link` is for
 * calls that are answered at once, each of the two waits has a connection of its own, and so has every call that may take
 * long while it lasts.
 */
export class Wallet {
  readonly target: ConnectionString;
  /** For calls that are answered at once. */
  readonly link: Link;
  readonly #waits: { readonly blocks: Link; readonly moves: Link };
  readonly #store: Store;
  readonly #stop = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];

  snapshot = $state.raw<Snapshot | null>(null);
  linkState = $state.raw<LinkState>({ kind: 'connecting' });
  /** The node does not let the holder of this card in. */
  isRefused = $state(false);
  /** The node answers, but not as it should. */
  isOdd = $state(false);
  /** Attempts to connect that failed in a row. */
  failures = $state(0);
  attempts = $state.raw<readonly Attempt[]>([]);
  missions = $state.raw<Accomplished>({});
  news = $state.raw<readonly News[]>([]);
  /** Milliseconds since 1970 of the last sign of life; null if there was none yet. */
  heardAt = $state<number | null>(null);

  readonly people: readonly Person[] = $derived(
    mergePeople(this.snapshot?.room ?? [], this.snapshot?.gossip ?? []),
  );
  /** All others. */
  readonly neighbours: readonly Person[] = $derived.by(() =>
    this.people.filter(({ nodeId }) => nodeId !== this.target.nodeId),
  );
  readonly history: readonly Entry[] = $derived.by(() =>
    this.snapshot === null
      ? []
      : history({ ...this.snapshot, self: this.target.nodeId, attempts: this.attempts }),
  );
  readonly isConnected: boolean = $derived(this.linkState.kind === 'connected');

  #needs = new Set<Part>(PARTS);
  #wake: () => void = () => undefined;
  /** Attempts whose answer this tab waits for. */
  #ours = new Set<string>();
  #isNew = true;

  constructor(target: ConnectionString) {
    this.target = target;
    this.#store = new Store(target.nodeId);
    this.snapshot = this.#store.read('snapshot');
    this.heardAt = this.snapshot?.takenAt ?? null;
    this.attempts = this.#store.read('attempts') ?? [];
    this.missions = this.#store.read('missions') ?? {};
    this.link = this.#connect();
    this.#waits = { blocks: this.#connect(), moves: this.#connect() };

    const { signal } = this.#stop;
    this.#unsubscribe.push(
      this.link.subscribe((state) => {
        this.linkState = state;
        if (state.kind === 'waiting') this.failures += 1;
        if (state.kind !== 'connected') return;
        this.failures = 0;
        // Whatever happened meanwhile.
        this.refresh(...PARTS);
      }),
      this.#store.subscribe((key) => {
        if (key === 'attempts') this.attempts = this.#store.read('attempts') ?? [];
        if (key === 'missions') this.missions = this.#store.read('missions') ?? {};
      }),
    );
    const back = () => {
      if (document.hidden) return;
      for (const link of this.#links) link.retryNow();
      // A connection that died while the phone slept says nothing: one that does not answer soon is replaced.
      if (this.linkState.kind === 'connected') this.call('getinfo', {}, PROBE).catch(() => undefined);
      this.refresh(...PARTS);
    };
    addEventListener('online', back, { signal });
    document.addEventListener('visibilitychange', back, { signal });
    addEventListener('pageshow', back, { signal });
    const everything = setInterval(() => {
      this.refresh(...PARTS);
    }, EVERYTHING);
    signal.addEventListener('abort', () => {
      clearInterval(everything);
    });
    void this.#follow();
    void this.#followBlocks();
    void this.#followMoves();
  }

  /** Ends all of it. */
  close(): void {
    this.#stop.abort();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const link of this.#links) link.close();
    this.#wake();
  }

  #connect(): Link {
    const { nodeId, url, rune } = this.target;
    return new Link({ nodeId, url, rune }, dial);
  }

  get #links(): Link[] {
    return [this.link, this.#waits.blocks, this.#waits.moves];
  }

  /** Has parts of the snapshot brought up to date. */
  refresh(...parts: Part[]): void {
    for (const part of parts) this.#needs.add(part);
    this.#wake();
  }

  /** Calls a method that is answered at once. */
  async call(method: string, params: Params = {}, limit?: number): Promise<unknown> {
    const answer = await this.link.call(method, params, {
      signal: this.#stop.signal,
      ...(limit === undefined ? {} : { limit }),
    });
    this.heardAt = Date.now();
    return answer;
  }

  /** Calls a method that may take long, in at most `limit` milliseconds, over a connection of its own. */
  async callSlow(method: string, params: Params, limit = LONG_CALL): Promise<unknown> {
    const link = this.#connect();
    try {
      return await link.call(method, params, { signal: this.#stop.signal, limit });
    } finally {
      link.close();
    }
  }

  nameOf(nodeId: string): string {
    return nodeId === this.target.nodeId
      ? (this.snapshot?.self.alias ?? nodeId.slice(0, 10))
      : nameOf(this.people, nodeId);
  }

  colorOf(nodeId: string): string | null {
    return this.people.find((person) => person.nodeId === nodeId)?.color ?? null;
  }

  dismiss(id: string): void {
    this.news = this.news.filter((item) => item.id !== id);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (this.#needs.size === 0 || (document.hidden && this.snapshot !== null)) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      const wanted = this.#needs;
      this.#needs = new Set();
      try {
        const snapshot = await look(this.link, signal, this.#isNew ? null : this.snapshot, wanted);
        this.isRefused = this.isOdd = false;
        this.#take(snapshot);
      } catch (error) {
        for (const part of wanted) this.#needs.add(part);
        this.isRefused = isRefusedKey(error);
        // What is wrong with the connection is said by its state.
        this.isOdd = !this.isRefused && !(error instanceof LinkError);
        await sleep(error instanceof LinkError ? 1000 : POLL, signal);
      }
    }
  }

  #take(snapshot: Snapshot): void {
    const before = this.#isNew ? null : this.snapshot;
    this.#isNew = false;
    this.snapshot = snapshot;
    this.heardAt = snapshot.takenAt;
    this.#store.write('snapshot', snapshot);
    if (before !== null) {
      const known = new Set(before.invoices.filter((i) => i.status === 'paid').map((i) => i.paymentHash));
      const own = new Set(snapshot.payments.map((payment) => payment.paymentHash));
      for (const invoice of snapshot.invoices) {
        if (invoice.status !== 'paid' || known.has(invoice.paymentHash) || own.has(invoice.paymentHash))
          continue;
        const { paymentHash: id, receivedMsat: msat, description } = invoice;
        this.#tell({ kind: 'received', id, msat, description });
      }
    }
    this.#reconcile();
    // What was accomplished before this page was opened is no news.
    this.#tick(before === null);
  }

  #reconcile(): void {
    const { snapshot } = this;
    if (snapshot === null) return;
    const now = Date.now();
    const after = this.attempts.map((a) => reconcile(a, snapshot.payments, now, this.#ours.has(a.id)));
    if (after.some((attempt, i) => attempt !== this.attempts[i])) this.#keepAttempts(after);
  }

  #tick(isSilent = false): void {
    const { snapshot } = this;
    if (snapshot === null) return;
    const deeds = { ...snapshot, self: this.target.nodeId, attempts: this.attempts };
    const before = this.#store.read('missions') ?? this.missions;
    const after = tick(before, deeds, Date.now());
    this.missions = after;
    if (after === before) return;
    this.#store.write('missions', after);
    if (isSilent) return;
    for (const mission of Object.keys(after) as Mission[]) {
      if (before[mission] === undefined) this.#tell({ kind: 'mission', id: `mission-${mission}`, mission });
    }
  }

  #tell(news: News): void {
    if (this.news.some(({ id }) => id === news.id)) return;
    this.news = [...this.news, news].slice(-4);
  }

  async #followBlocks(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const height = this.snapshot?.self.height ?? 0;
      if (height === 0 || this.#isNew || document.hidden) {
        await sleep(500, signal);
        continue;
      }
      try {
        const params = { blockheight: height + 1, timeout: BLOCK_WAIT };
        const limit = (BLOCK_WAIT + 20) * 1000;
        const answer = await this.#waits.blocks.call('waitblockheight', params, { signal, limit });
        this.#heardOfBlock(numberOr(object(answer, 'waitblockheight'), 'blockheight', height + 1));
      } catch {
        await sleep(1000, signal);
      }
    }
  }

  #heardOfBlock(height: number): void {
    const { snapshot } = this;
    if (snapshot === null || height <= snapshot.self.height) return;
    this.snapshot = { ...snapshot, self: { ...snapshot.self, height } };
    const isMoving =
      snapshot.channels.some((channel) => channel.phase !== 'open') ||
      snapshot.coins.some((coin) => coin.status !== 'confirmed');
    if (isMoving) this.refresh('state', 'chain');
    else this.refresh('state');
  }

  /** Waits for coins to move in a channel: with every payment that came, went or passed. */
  async #followMoves(): Promise<void> {
    const { signal } = this.#stop;
    let next = 0;
    let isFirst = true;
    while (!signal.aborted) {
      try {
        const params = { subsystem: 'channelmoves', indexname: 'created', nextvalue: next };
        const answer = await this.#waits.moves.call('wait', params, { signal, limit: Infinity });
        // The first answer only says where we are. After a break it may hide what came meanwhile.
        if (!isFirst) this.refresh('payments', 'state');
        isFirst = false;
        next = 1 + numberOr(object(answer, 'wait'), 'created', 0);
      } catch (error) {
        if (isUnknownMethod(error)) {
          await sleep(POLL, signal);
          this.refresh('payments', 'state');
        } else {
          next = 0;
          await sleep(1000, signal);
        }
      }
    }
  }

  #keepAttempts(attempts: readonly Attempt[]): void {
    this.attempts = attempts;
    this.#store.write('attempts', attempts);
  }

  #record(attempt: Attempt): Attempt {
    // Another tab may have added to it.
    this.#keepAttempts(record(this.#store.read('attempts') ?? this.attempts, attempt));
    return attempt;
  }

  /** Makes one payment, once: whatever of the same name is under way is returned instead. */
  async #attempt(
    attempt: Attempt,
    send: () => Promise<{ feeMsat: number; parts: number }>,
  ): Promise<Attempt> {
    const name = `lnplay.pay.${this.target.nodeId}.${attempt.paymentHash ?? attempt.id}`;
    const busy = () => underWay(this.#store.read('attempts') ?? this.attempts, attempt.paymentHash ?? '');
    const done = await alone(name, async () => {
      const other = busy();
      if (other !== null) return other;
      this.#ours.add(attempt.id);
      this.#record(attempt);
      try {
        const { feeMsat, parts } = await send();
        return this.#record({ ...attempt, state: 'paid', feeMsat, parts });
      } catch (error) {
        if (!(error instanceof RpcError)) return this.#record({ ...attempt, state: 'unknown' });
        return this.#record({ ...attempt, state: 'failed', trouble: troubleOf(error) });
      } finally {
        this.#ours.delete(attempt.id);
        this.refresh('payments', 'state');
        this.#tick();
      }
    });
    return done ?? busy() ?? attempt;
  }

  /** Records a payment that failed before it was one: an offer that was not answered, for instance. */
  failedBefore(id: string, destination: string | null, msat: number, trouble: Trouble): Attempt {
    const attempt = this.#record({
      id,
      kind: 'invoice',
      paymentHash: null,
      label: null,
      destination,
      msat,
      description: null,
      startedAt: Date.now(),
      state: 'failed',
      feeMsat: null,
      parts: null,
      plan: null,
      trouble,
    });
    this.#tick();
    return attempt;
  }

  /** Pays an invoice. The node itself refuses to pay one twice. */
  async payInvoice(
    invoice: Invoice,
    msat: number,
    description: string | null,
    plan: Plan | null,
  ): Promise<Attempt> {
    const attempt: Attempt = {
      id: freshId(),
      kind: 'invoice',
      paymentHash: invoice.paymentHash,
      label: null,
      destination: invoice.payee,
      msat,
      description: description ?? invoice.description,
      startedAt: Date.now(),
      state: 'sending',
      feeMsat: null,
      parts: null,
      plan,
      trouble: null,
    };
    const amount = invoice.amountMsat === null ? { amount_msat: msat } : {};
    return await this.#attempt(attempt, async () => {
      const params = { invstring: invoice.text, ...amount, retry_for: RETRY_FOR };
      const answer = object(await this.callSlow('xpay', params), 'xpay');
      return {
        feeMsat: readMsat(answer['amount_sent_msat']) - readMsat(answer['amount_msat']),
        parts: numberOr(answer, 'successful_parts', 1),
      };
    });
  }

  /** Pays a node without an invoice. `id` names the payment: the same one is made once. */
  async keysend(id: string, nodeId: string, msat: number, plan: Plan | null): Promise<Attempt> {
    const label = `keysend-${id}`;
    const attempt: Attempt = {
      id,
      kind: 'keysend',
      paymentHash: null,
      label,
      destination: nodeId,
      msat,
      description: null,
      startedAt: Date.now(),
      state: 'sending',
      feeMsat: null,
      parts: null,
      plan,
      trouble: null,
    };
    const before = (this.#store.read('attempts') ?? this.attempts).find((other) => other.id === id);
    if (before !== undefined) return before;
    return await this.#attempt(attempt, async () => {
      const params = { destination: nodeId, amount_msat: msat, label, retry_for: RETRY_FOR };
      const answer = object(await this.callSlow('keysend', params), 'keysend');
      return { feeMsat: readMsat(answer['amount_sent_msat']) - readMsat(answer['amount_msat']), parts: 1 };
    });
  }

  /** Looks for a way to a node, without paying. Null where none can be told; the payment may find one all the same. */
  async plan(nodeId: string, msat: number): Promise<Plan | null> {
    if (nodeId === this.target.nodeId) return null;
    const params = {
      source: this.target.nodeId,
      destination: nodeId,
      amount_msat: msat,
      layers: ['auto.localchans', 'auto.sourcefree'],
      maxfee_msat: Math.max(5000, Math.floor(msat / 100)),
      final_cltv: 18,
    };
    try {
      return readPlan(await this.call('getroutes', params));
    } catch (error) {
      if (error instanceof RpcError) return null;
      throw error;
    }
  }

  /** Plans a payment to oneself, out through one channel and back through another. */
  async planMove(from: Channel, into: Channel, msat: number): Promise<ReturnType<typeof circle>> {
    const last = lastLeg(msat, into);
    if (from.peerId === into.peerId) return circle(this.target.nodeId, msat, from, null, into);
    const params = {
      source: from.peerId,
      destination: into.peerId,
      amount_msat: last.msat,
      layers: [],
      maxfee_msat: Math.max(5000, Math.floor(msat / 50)),
      final_cltv: last.delay,
      maxparts: 1,
    };
    const { routes } = readPlan(await this.call('getroutes', params));
    return circle(this.target.nodeId, msat, from, routes[0] ?? null, into);
  }

  /** Moves coins from one channel to another by paying oneself. */
  async move(from: Channel, into: Channel, msat: number): Promise<Attempt> {
    const label = `${MOVE_LABEL}${freshId()}`;
    const { route, feeMsat } = await this.planMove(from, into, msat);
    const invoice = object(
      await this.call('invoice', { amount_msat: msat, label, description: label, expiry: 600 }),
      'invoice',
    );
    const paymentHash = text(invoice, 'payment_hash');
    const attempt: Attempt = {
      id: freshId(),
      kind: 'rebalance',
      paymentHash,
      label,
      destination: this.target.nodeId,
      msat,
      description: null,
      startedAt: Date.now(),
      state: 'sending',
      feeMsat: null,
      parts: null,
      plan: {
        feeMsat,
        routes: [
          {
            hops: route.map((hop) => ({
              scid: hop.channel,
              direction: 0,
              nodeId: hop.id,
              msat: hop.amount_msat,
              delay: hop.delay,
            })),
            deliveredMsat: msat,
            finalDelay: 0,
          },
        ],
      },
      trouble: null,
    };
    return await this.#attempt(attempt, async () => {
      await this.call('sendpay', {
        route,
        payment_hash: paymentHash,
        payment_secret: text(invoice, 'payment_secret'),
        amount_msat: msat,
        bolt11: text(invoice, 'bolt11'),
        label,
      });
      await this.callSlow('waitsendpay', { payment_hash: paymentHash, timeout: RETRY_FOR });
      return { feeMsat, parts: 1 };
    });
  }

  /** Opens a channel; returns when its transaction was sent. */
  async openChannel(nodeId: string, sat: number, announce: boolean): Promise<void> {
    await alone(`lnplay.open.${this.target.nodeId}`, async () => {
      const address = this.people.find((person) => person.nodeId === nodeId)?.address ?? null;
      await this.callSlow('connect', { id: address === null ? nodeId : `${nodeId}@${address}` });
      await this.callSlow('fundchannel', { id: nodeId, amount: sat, announce });
    });
    this.refresh('state', 'chain');
  }

  /** Closes a channel, by agreement or by force. */
  async closeChannel(channel: Channel, isForced: boolean): Promise<void> {
    try {
      if (isForced) await this.#force(channel);
      else await this.callSlow('close', { id: channel.channelId, unilateraltimeout: 0 });
    } finally {
      this.refresh('state', 'chain');
    }
  }

  /**
   * Closes a channel alone. Core Lightning closes by agreement whenever the two are connected, and connects them again within a
   * second, so they are kept apart until the time for an agreement, which is a second too, has passed.
   */
  async #force(channel: Channel): Promise<void> {
    const [closing, parting] = [this.#connect(), this.#connect()];
    const { signal } = this.#stop;
    const part = () => parting.call('disconnect', { id: channel.peerId, force: true }, { signal });
    let isOver = false;
    try {
      // Both connections are up before anything is done.
      await Promise.all([closing, parting].map((link) => link.call('getinfo', {}, { signal })));
      await part().catch(() => undefined);
      const params = { id: channel.channelId, unilateraltimeout: 1 };
      const closed = closing.call('close', params, { signal, limit: LONG_CALL }).finally(() => {
        isOver = true;
      });
      // An error says that they are apart already.
      while (!(isOver as boolean)) await part().catch(() => undefined);
      await closed;
    } finally {
      closing.close();
      parting.close();
    }
  }

  /** Sets what forwards through a channel cost. */
  async setFees(channel: Channel, baseMsat: number, ppm: number): Promise<void> {
    await this.call('setchannel', { id: channel.channelId, feebase: baseMsat, feeppm: ppm });
    this.refresh('state');
  }
}

/** An error of the node, as it is kept. */
export function troubleOf(error: RpcError): Trouble {
  return { code: error.code, message: error.message, raw: error.raw };
}
