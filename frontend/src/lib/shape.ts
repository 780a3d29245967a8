/** Parsing of JSON from elsewhere: each function returns the named value or throws a sentence. */

/** JSON from elsewhere does not have the expected shape. */
export class ShapeError extends Error {
  override name = 'ShapeError';
}

/** An object with any keys. */
export type Json = Record<string, unknown>;

/** The value as an object; `what` names it in the error. */
export function object(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new ShapeError(`${what} is not an object`);
}

/** The text under `key`. */
export function text(from: Json, key: string): string {
  const value = from[key];
  if (typeof value === 'string') return value;
  throw new ShapeError(`${key} is not a text`);
}

/** The text under `key`, or null where there is none. */
export function maybeText(from: Json, key: string): string | null {
  const value = from[key];
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The number under `key`. */
export function number(from: Json, key: string): number {
  const value = from[key];
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new ShapeError(`${key} is not a number`);
}

/** The number under `key`, or the other one. */
export function numberOr(from: Json, key: string, otherwise: number): number {
  const value = from[key];
  return typeof value === 'number' && Number.isFinite(value) ? value : otherwise;
}

/** The list under `key`; empty where there is none. */
export function list(from: Json, key: string): unknown[] {
  const value = from[key];
  return Array.isArray(value) ? value : [];
}

/** The texts in the list under `key`. */
export function texts(from: Json, key: string): string[] {
  return list(from, key).filter((item): item is string => typeof item === 'string');
}

/** The moment under `key` (RFC 3339), in milliseconds since 1970, or null where there is none. */
export function maybeTime(from: Json, key: string): number | null {
  const value = from[key];
  const time = typeof value === 'string' ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? null : time;
}
