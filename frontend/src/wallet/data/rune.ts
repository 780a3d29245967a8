/** What a rune allows, read from the rune itself. The node decides; this only keeps the console from offering the rest. */

/** Bytes of the authentication code at a rune's start. */
const CODE_LENGTH = 32;

function conditionsOf(rune: string): string[][] {
  const base64 = rune.replace(/-/g, '+').replace(/_/g, '/');
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).slice(CODE_LENGTH);
  // `&` joins restrictions, `|` their alternatives; a backslash takes the next character as it is. Names of methods need none.
  return new TextDecoder()
    .decode(bytes)
    .split('&')
    .map((restriction) => restriction.split('|'));
}

function holds(condition: string, method: string): boolean | null {
  const found = /^method([=/^$~])(.*)$/.exec(condition);
  if (found === null) return null;
  const value = found[2] ?? '';
  switch (found[1]) {
    case '=':
      return method === value;
    case '/':
      return method !== value;
    case '^':
      return method.startsWith(value);
    case '$':
      return method.endsWith(value);
    default:
      return method.includes(value);
  }
}

/** A test of methods by a rune. Conditions on anything but the method are left to the node. */
export function allowedBy(rune: string): (method: string) => boolean {
  let restrictions: string[][];
  try {
    restrictions = conditionsOf(rune);
  } catch {
    return () => true;
  }
  return (method) =>
    restrictions.every((alternatives) => alternatives.some((condition) => holds(condition, method) ?? true));
}
