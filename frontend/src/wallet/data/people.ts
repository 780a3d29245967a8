/**
 * Who is in the room: the directory that `lnplay` leaves in every node's datastore (crates/lnplay-agent/src/room.rs), and
 * what the network's gossip adds to it.
 */
import { list, maybeText, object, ShapeError, text, type Json } from '../../lib/shape';

/** A node of the room. */
export interface Person {
  readonly nodeId: string;
  readonly name: string;
  /** As CSS writes it. */
  readonly color: string | null;
  /** Where other nodes connect to it, `host:port`, if that is known. */
  readonly address: string | null;
}

/** The directory's key in the datastore. */
export const ROOM_KEY = ['lnplay', 'room'];

const VERSION = 1;

function color(from: Json, key: string): string | null {
  const value = maybeText(from, key);
  return value !== null && /^[0-9a-fA-F]{6}$/.test(value) ? `#${value.toLowerCase()}` : null;
}

/** Reads the answer of `listdatastore`: empty where there is no directory, or one of a later version. */
export function readRoom(answer: unknown): Person[] {
  const entry = list(object(answer, 'listdatastore'), 'datastore')[0];
  const stored = entry === undefined ? null : maybeText(object(entry, 'datastore'), 'string');
  if (stored === null) return [];
  let room: Json;
  try {
    room = object(JSON.parse(stored), 'the directory');
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof ShapeError) return [];
    throw error;
  }
  if (room['version'] !== VERSION) return [];
  return list(room, 'nodes').map((item) => {
    const node = object(item, 'node');
    return {
      nodeId: text(node, 'id'),
      name: text(node, 'name'),
      color: color(node, 'color'),
      address: maybeText(node, 'address'),
    };
  });
}

/** Reads the answer of `listnodes`. */
export function readGossip(answer: unknown): Person[] {
  return list(object(answer, 'listnodes'), 'nodes').map((item) => {
    const node = object(item, 'node');
    const nodeId = text(node, 'nodeid');
    const first = list(node, 'addresses')[0];
    const address = first === undefined ? null : object(first, 'address');
    const host = address === null ? null : maybeText(address, 'address');
    return {
      nodeId,
      name: maybeText(node, 'alias') ?? shortId(nodeId),
      color: color(node, 'color'),
      address: host === null || typeof address?.['port'] !== 'number' ? null : `${host}:${address['port']}`,
    };
  });
}

/** Both together, by name. Gossip is newer where it knows a name: nodes can be renamed. */
export function mergePeople(room: readonly Person[], gossip: readonly Person[]): Person[] {
  const all = new Map(room.map((person) => [person.nodeId, person]));
  for (const heard of gossip) {
    const known = all.get(heard.nodeId);
    const named = heard.name !== shortId(heard.nodeId);
    all.set(heard.nodeId, {
      nodeId: heard.nodeId,
      name: named || known === undefined ? heard.name : known.name,
      color: heard.color ?? known?.color ?? null,
      address: heard.address ?? known?.address ?? null,
    });
  }
  return [...all.values()].sort((a, b) => a.name.localeCompare(b.name) || (a.nodeId < b.nodeId ? -1 : 1));
}

/** An id where there is no name. */
export function shortId(nodeId: string): string {
  return nodeId.slice(0, 10);
}

/** The name of a node, or the beginning of its id. */
export function nameOf(people: readonly Person[], nodeId: string): string {
  return people.find((person) => person.nodeId === nodeId)?.name ?? `${shortId(nodeId)}…`;
}
