/** A Core Lightning node as pages see it: something that takes calls, behind a connection that comes and goes. */

/** Whom to talk to, where, and by what right. */
export interface NodeAddress {
  /** 66 hex digits; whoever answers must prove that it is this one. */
  readonly nodeId: string;
  /** `ws:` or `wss:`. */
  readonly url: string;
  readonly rune: string;
  /** Runes for methods that want one of their own. */
  readonly runeFor?: Readonly<Record<string, string>>;
}

/**
 * What is wrong with a connection: nobody answers; somebody does, who is not the node; it was there and is gone; an
 * answer did not come in time; this side is done with it.
 */
export type Fault = 'unreachable' | 'stranger' | 'lost' | 'timeout' | 'closed';

/** A call failed on its way. */
export class LinkError extends Error {
  override name = 'LinkError';
  constructor(readonly fault: Fault) {
    super(`connection: ${fault}`);
  }
}

/** The node answered a call with an error. */
export class RpcError extends Error {
  override name = 'RpcError';
  constructor(
    readonly code: number,
    message: string,
    /** The error as the node sent it; what is in it depends on the method. */
    readonly raw: unknown = null,
  ) {
    super(message);
  }
}

/** How the connection is. */
export type LinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected' }
  | { readonly kind: 'waiting'; readonly fault: Fault; readonly retryAt: number };

/** Parameters by name or by position. */
export type Params = Record<string, unknown> | readonly unknown[];

/** One connection, from its handshake to its end. */
export interface Session {
  /** Rejects with `RpcError`, or not at all if the connection ends first. */
  call(method: string, params: Params): Promise<unknown>;
  /** Settles when the connection has ended. */
  readonly ended: Promise<void>;
  end(): void;
}

/** Opens a connection; rejects with a `LinkError`. Bounded in time. */
export type Dial = (address: NodeAddress) => Promise<Session>;
