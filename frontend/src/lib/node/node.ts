/** A Core Lightning node from a page's point of view: it takes calls over a connection that comes and goes. */

/** The node, its address, and the rune for it. */
export interface NodeAddress {
  /** 66 hex digits; the node must prove that it has this key. */
  readonly nodeId: string;
  /** `ws:` or `wss:`. */
  readonly url: string;
  readonly rune: string;
  /** Keep a connection on which a call waits, though the node does not answer pings then. Give such calls a time-out. */
  readonly isPatient?: boolean;
}

/**
 * The problem of a connection: nobody answers; another node answers; the connection was lost; there was no answer in
 * time; this side has closed it.
 */
export type Fault = 'unreachable' | 'stranger' | 'lost' | 'timeout' | 'closed';

/** A call failed in transit. */
export class LinkError extends Error {
  override name = 'LinkError';
  constructor(readonly fault: Fault) {
    super(`connection: ${fault}`);
  }
}

/** The node answered a call with an error. The message is for people; programs read the code and the data. */
export class RpcError extends Error {
  override name = 'RpcError';
  constructor(
    readonly code: number,
    message: string,
    /** The shop's errors have an object here, with a `kind`. */
    readonly data: unknown = null,
    /** The error as the node sent it; what is in it depends on the method. */
    readonly raw: unknown = null,
  ) {
    super(message);
  }
}

/** The state of a connection. */
export type LinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected' }
  | { readonly kind: 'waiting'; readonly fault: Fault; readonly retryAt: number };

/** Parameters by name or by position. */
export type Params = Record<string, unknown> | readonly unknown[];

/** A connection, from its handshake to its end. */
export interface Session {
  /** Rejects with `RpcError`; never settles if the connection ends first. */
  call(method: string, params: Params): Promise<unknown>;
  /** Settles when the connection has ended. */
  readonly ended: Promise<void>;
  end(): void;
}

/** Opens a connection, with a time-out; rejects with a `LinkError`. */
export type Dial = (address: NodeAddress) => Promise<Session>;
