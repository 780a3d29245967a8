/** The console's command line, as `lightning-cli` reads it. */

/** A call. */
export interface Command {
  readonly method: string;
  readonly params: Record<string, unknown> | unknown[];
}

/** Cuts a line at blanks, except within quotes and brackets. Null where one is left open. */
function words(line: string): string[] | null {
  const out: string[] = [];
  let word = '';
  let depth = 0;
  let quote = '';
  let isEscaped = false;
  for (const char of line.trim()) {
    if (isEscaped) isEscaped = false;
    else if (char === '\\' && quote !== '') isEscaped = true;
    else if (quote !== '') quote = char === quote ? '' : quote;
    else if (char === '"') quote = char;
    else if (char === '[' || char === '{') depth += 1;
    else if (char === ']' || char === '}') depth -= 1;
    else if (/\s/.test(char) && depth === 0) {
      if (word !== '') out.push(word);
      word = '';
      continue;
    }
    word += char;
  }
  if (word !== '') out.push(word);
  return quote === '' && depth === 0 ? out : null;
}

/** A value: JSON if it is some, else the text itself. */
function value(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Reads a line: `method`, then either values in order or `name=value` for each. Null where it cannot be read. */
export function parseCommand(line: string): Command | null {
  const [method, ...rest] = words(line) ?? [];
  if (method === undefined || !/^[a-z][a-z0-9_-]*$/.test(method)) return null;
  const pairs = rest.map((word) => /^([a-z_][a-z0-9_]*)=([\s\S]*)$/.exec(word));
  if (rest.length > 0 && pairs.every((pair) => pair !== null)) {
    return {
      method,
      params: Object.fromEntries(pairs.map((pair) => [pair?.[1] ?? '', value(pair?.[2] ?? '')])),
    };
  }
  return { method, params: rest.map(value) };
}
