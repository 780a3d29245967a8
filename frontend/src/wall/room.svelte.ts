/* eslint svelte/prefer-svelte-reactivity: 'off' -- no template reads the maps and sets in here */
/** The room: all nodes of an order, watched with the order's own cards. */
import type { ConnectionString } from '../lib/connection-string';
import { DialPool } from '../lib/node/dial';
import { RpcError } from '../lib/node/node';
import { sleep } from '../lib/node/shop';
import { numberOr, object } from '../lib/shape';
import type { Htlc, Move, Part, Refusal } from './data/answers';
import { told, type Event, type Failed, type Happening, type Paid } from './data/happenings';
import { laneEvents, lanesOf, withMove, type Lane, type NodeReport } from './data/picture';
import { between, earnedBy, trace, traceFailure } from './data/route';
import type { Presence, Seat, Show } from './data/seat';
import { standings, type Routed, type Standings } from './data/standings';
import { NodeWatch } from './node-watch';

/** Threads for the connections: the handshakes of 64 nodes take some seconds of computing. */
const WORKERS = 4;

/** Milliseconds in which the ends of a channel, and all parts of a payment, have told that it is settled. */
const SETTLES = 150;

/** Milliseconds after which a route is shown as far as it is known. */
const TRACE_LIMIT = 1500;

/** Milliseconds in which a sender tries another way after a failure. */
const TRIES_AGAIN = 900;

/** How long a node is asked to wait for a block, in seconds. */
const BLOCK_WAIT = 50;
/** Core Lightning's code for a block that did not come in that time. */
const NO_BLOCK = 2000;

/** At most so many nodes are asked for their channels at a time. */
const AT_ONCE = 8;

/** A report that is younger than this is not asked for again because of a block. Milliseconds. */
const FRESH = 1500;

/** Every so often the node whose report is the oldest is asked, whatever was heard. Milliseconds. */
const ROUND = 2000;
/** The age of a report at which that begins. */
const STALE = 5000;

/** Milliseconds after a block in which the other nodes have seen it too, and have told each other that a channel is ready. */
const SPREADS = 600;

/** Time for the nodes to tell what they begin with. Milliseconds. */
const SETTLING = 8000;

interface Watched {
  readonly card: ConnectionString;
  readonly watch: NodeWatch;
}

/** The watched room. */
export class Room implements Show {
  seats = $state.raw<readonly Seat[]>([]);
  lanes = $state.raw<readonly Lane[]>([]);
  height = $state(0);
  happenings = $state.raw<readonly Happening[]>([]);
  readonly standings: Standings = $derived.by(() =>
    standings(
      this.seats.map(({ nodeId }) => nodeId),
      this.lanes,
      this.#routed,
    ),
  );

  #routed = $state.raw<ReadonlyMap<string, Routed>>(new Map());
  #watched: readonly Watched[] = [];
  readonly #reports = new Map<string, NodeReport>();
  /** Parts of payments that ended, by hash, until the payment is told. */
  readonly #parts = new Map<string, Part[]>();
  readonly #pool: Pick<DialPool, 'dial' | 'close'>;
  readonly #stop = new AbortController();
  /** True once the nodes have told what they begin with: nothing is news before. */
  #isSettled = false;

  constructor(
    cards: readonly ConnectionString[],
    pool: Pick<DialPool, 'dial' | 'close'> = new DialPool(WORKERS),
  ) {
    this.#pool = pool;
    this.update(cards);
    void this.#followBlocks();
    void this.#goRound();
  }

  /** Takes the order's current cards: a node may have got a new one, or all may have been replaced. */
  update(cards: readonly ConnectionString[]): void {
    const kept = this.#watched.filter(({ card }) => cards.some((now) => now.link === card.link));
    for (const { card, watch } of this.#watched) {
      if (kept.some((one) => one.card === card)) continue;
      watch.close();
      this.#reports.delete(card.nodeId);
    }
    if (kept.length === 0) this.#begin();
    this.#watched = cards.map(
      (card) => kept.find((one) => one.card.link === card.link) ?? { card, watch: this.#watch(card) },
    );
    this.seats = cards.map(({ nodeId, name, color }) => ({
      nodeId,
      name: name ?? nodeId.slice(0, 10),
      color: color ?? '#2c5247',
      presence: this.seats.find((seat) => seat.nodeId === nodeId)?.presence ?? 'connecting',
    }));
  }

  /** Begins with nothing known, also where other nodes have taken the place of all. */
  #begin(): void {
    this.height = 0;
    this.lanes = [];
    this.#routed = new Map();
    this.#isSettled = false;
    void sleep(SETTLING, this.#stop.signal).then(() => {
      this.#isSettled = true;
    });
  }

  /** Has lost connections made again at once. */
  retryNow(): void {
    for (const { watch } of this.#watched) watch.retryNow();
  }

  close(): void {
    this.#stop.abort();
    for (const { watch } of this.#watched) watch.close();
    this.#pool.close();
  }

  #watch(card: ConnectionString): NodeWatch {
    const { nodeId, url, rune } = card;
    return new NodeWatch({ nodeId, url, rune }, this.#pool.dial, {
      onState: (presence) => {
        this.#seat(nodeId, presence);
      },
      onReport: (report) => {
        this.#reports.set(nodeId, report);
        this.#draw();
      },
      onRouted: (routed) => {
        this.#routed = new Map(this.#routed).set(nodeId, routed);
      },
      onParts: (parts) => {
        for (const part of parts) this.#hearOfPart(nodeId, part);
      },
    });
  }

  #node(nodeId: string): NodeWatch | undefined {
    return this.#watched.find(({ card }) => card.nodeId === nodeId)?.watch;
  }

  #tell(event: Event): void {
    this.happenings = told(this.happenings, event, Date.now());
  }

  #seat(nodeId: string, presence: Presence): void {
    const before = this.seats.find((seat) => seat.nodeId === nodeId)?.presence;
    if (before === undefined || before === presence) return;
    this.seats = this.seats.map((seat) => (seat.nodeId === nodeId ? { ...seat, presence } : seat));
    if (before === 'here' && presence === 'away') this.#tell({ kind: 'away', nodeId });
    if (before === 'away' && presence === 'here' && this.#isSettled) this.#tell({ kind: 'back', nodeId });
  }

  /** Redraws the channels, and tells what has changed since all nodes have told what they begin with. */
  #draw(): void {
    const before = this.lanes;
    this.lanes = lanesOf(this.#reports.values(), this.height);
    if (this.#isSettled) for (const event of laneEvents(before, this.lanes)) this.#tell(event);
    else this.#isSettled = this.#reports.size === this.#watched.length;
  }

  async #followBlocks(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const node = this.#watched.find(({ watch }) => watch.isHere)?.watch;
      if (node === undefined) {
        await sleep(300, signal);
        continue;
      }
      const link = node.fork();
      try {
        if (this.height === 0) this.#reach(await node.height());
        while (node.isHere) {
          const params = { blockheight: this.height + 1, timeout: BLOCK_WAIT };
          const limit = (BLOCK_WAIT + 10) * 1000;
          const answer = await link
            .call('waitblockheight', params, { signal, limit })
            .catch((error: unknown) => {
              if (error instanceof RpcError && error.code === NO_BLOCK) return {};
              throw error;
            });
          this.#reach(numberOr(object(answer, 'waitblockheight'), 'blockheight', 0));
        }
      } catch {
        await sleep(500, signal);
      } finally {
        link.close();
      }
    }
  }

  #reach(height: number): void {
    if (height <= this.height) return;
    const isFirst = this.height === 0;
    this.height = height;
    this.#draw();
    if (isFirst) return;
    this.#tell({ kind: 'block', height });
    void this.#askAfterBlock();
  }

  /** Asks all nodes for their channels, and again those with a channel that is on its way. */
  async #askAfterBlock(): Promise<void> {
    const { signal } = this.#stop;
    await sleep(SPREADS, signal);
    await this.#ask(FRESH, () => true);
    await sleep(FRESH, signal);
    await this.#ask(SPREADS, (nodeId) => this.#isMoving(nodeId));
  }

  #isMoving(nodeId: string): boolean {
    return this.lanes.some((lane) => lane.phase !== 'open' && (lane.a === nodeId || lane.b === nodeId));
  }

  /** Asks nodes for their channels whose report is older than `age`, those with a channel on its way first. */
  async #ask(age: number, which: (nodeId: string) => boolean): Promise<void> {
    const isMoving = (nodeId: string) => this.#isMoving(nodeId);
    const due = this.#watched
      .map(({ watch }) => watch)
      .filter((watch) => watch.isHere && Date.now() - watch.reportedAt > age && which(watch.nodeId))
      .sort((x, y) => Number(isMoving(y.nodeId)) - Number(isMoving(x.nodeId)) || x.reportedAt - y.reportedAt);
    const work = async () => {
      for (let next = due.shift(); next !== undefined; next = due.shift())
        // A node that does not answer is noticed by its connection.
        await next.report().catch(() => undefined);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }

  async #goRound(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(ROUND, signal);
      if (signal.aborted) return;
      if (document.hidden) continue;
      const oldest = this.#watched
        .map(({ watch }) => watch)
        .filter((watch) => watch.isHere && Date.now() - watch.reportedAt > STALE)
        .sort((x, y) => x.reportedAt - y.reportedAt)[0];
      await oldest?.report().catch(() => undefined);
    }
  }

  #hearOfPart(sender: string, part: Part): void {
    const key = `${sender} ${part.paymentHash}`;
    const known = this.#parts.get(key);
    if (known !== undefined) {
      known.push(part);
      return;
    }
    const parts = [part];
    this.#parts.set(key, parts);
    const heardAt = Date.now();
    void sleep(SETTLES, this.#stop.signal)
      .then(() => this.#tellPayment(sender, parts, heardAt))
      .catch(() => undefined)
      .finally(() => this.#parts.delete(key));
  }

  async #tellPayment(sender: string, parts: readonly Part[], heardAt: number): Promise<void> {
    if (parts.some((part) => part.status === 'complete')) {
      this.#settle(sender, await this.#follow(sender, parts), heardAt);
      return;
    }
    await sleep(TRIES_AGAIN, this.#stop.signal);
    const [first] = parts;
    if (first === undefined || parts.some((part) => part.status === 'complete')) {
      if (first !== undefined) this.#settle(sender, await this.#follow(sender, parts), heardAt);
      return;
    }
    const all = await this.#node(sender)?.partsOf(first.paymentHash);
    // Another attempt is under way, and will be heard of.
    if (all?.some((part) => part.status !== 'failed') !== false) return;
    this.#tell(await this.#followFailure(sender, first));
  }

  /** Asks along the route of a settled payment. */
  async #follow(sender: string, parts: readonly Part[]): Promise<Paid> {
    const complete = () => parts.filter((part) => part.status === 'complete');
    const paymentHash = parts[0]?.paymentHash ?? '';
    const to = complete()[0]?.destination ?? null;
    const until = Date.now() + TRACE_LIMIT;
    const moves = new Map<string, readonly Move[]>();
    let found = trace(sender, to, moves, this.#byId());
    let asked = new Set<string>();
    while (found.ask.length > 0 && Date.now() < until && !this.#stop.signal.aborted) {
      let due = found.ask.filter((nodeId) => !asked.has(nodeId));
      if (due.length === 0) {
        // What is missing may not have been settled when it was asked for.
        await sleep(SETTLES, this.#stop.signal);
        asked = new Set();
        due = [...found.ask];
      }
      await Promise.all(
        due.map(async (nodeId) => {
          asked.add(nodeId);
          const node = this.#node(nodeId);
          if (node?.isHere !== true) return;
          const own = await node.movesFor(paymentHash).catch(() => []);
          // A channel that was opened since the node was last asked.
          if (own.some((move) => !this.#byId().has(move.channelId)))
            await node.report().catch(() => undefined);
          moves.set(nodeId, own);
        }),
      );
      found = trace(sender, to, moves, this.#byId());
    }
    const sum = (pick: (part: Part) => number) => complete().reduce((all, part) => all + pick(part), 0);
    const msat = sum((part) => part.msat);
    return {
      kind: 'paid',
      from: sender,
      to,
      msat,
      feeMsat: Math.max(0, sum((part) => part.sentMsat) - msat),
      steps: found.steps,
    };
  }

  #byId(): ReadonlyMap<string, Lane> {
    return new Map(this.lanes.map((lane) => [lane.channelId, lane]));
  }

  #settle(sender: string, paid: Paid, heardAt: number): void {
    // Something that a node pays to itself without a channel moves nothing.
    if (paid.to === sender && paid.steps.length === 0) return;
    for (const { channelId, from, to, msat } of paid.steps) {
      this.#move(from, channelId, -msat, heardAt);
      this.#move(to, channelId, msat, heardAt);
    }
    this.#draw();
    const routed = new Map(this.#routed);
    for (const nodeId of between(paid.steps, paid.from, paid.to)) {
      const { count = 0, feesMsat = 0 } = routed.get(nodeId) ?? {};
      routed.set(nodeId, {
        count: count + 1,
        feesMsat: feesMsat + Math.max(0, earnedBy(paid.steps, nodeId)),
      });
    }
    this.#routed = routed;
    this.#tell(paid);
  }

  #move(nodeId: string, channelId: string, msat: number, heardAt: number): void {
    const report = this.#reports.get(nodeId);
    // A report that was asked for after the payment has its coins where they are now.
    if (report === undefined || report.askedAt > heardAt) return;
    this.#reports.set(nodeId, withMove(report, channelId, msat));
  }

  async #followFailure(sender: string, part: Part): Promise<Failed> {
    const { paymentHash, destination: to, msat } = part;
    const sources = {
      htlcs: new Map<string, readonly Htlc[]>(),
      refusals: new Map<string, readonly Refusal[]>(),
    };
    const until = Date.now() + TRACE_LIMIT;
    let found = traceFailure(sender, paymentHash, sources, this.lanes);
    while (found.ask !== null && Date.now() < until && !this.#stop.signal.aborted) {
      const node = this.#node(found.ask);
      const { htlcs, refusals } = (await node?.failureOf(paymentHash).catch(() => null)) ?? {
        htlcs: [],
        refusals: [],
      };
      sources.htlcs.set(found.ask, htlcs);
      sources.refusals.set(found.ask, refusals);
      found = traceFailure(sender, paymentHash, sources, this.lanes);
    }
    const { steps, stoppedAt, towards, reason } = found;
    return { kind: 'failed', from: sender, to, msat, steps, stoppedAt, towards, reason };
  }
}
