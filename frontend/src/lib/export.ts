/** Connection strings as files. */
import { parseConnectionString } from './connection-string';

/** The columns for a spreadsheet or a script. */
interface Row {
  readonly number: number;
  readonly name: string;
  readonly color: string;
  readonly node_id: string;
  readonly websocket_url: string;
  readonly connection_string: string;
}

/** The name of a node that has none, by its number from 1. */
type NameOf = (number: number) => string;

function rows(links: readonly string[], nameOf: NameOf): readonly Row[] {
  return links.map((link, i) => {
    const { name, color, nodeId, url } = parseConnectionString(link);
    return {
      number: i + 1,
      name: name ?? nameOf(i + 1),
      color: color ?? '',
      node_id: nodeId,
      websocket_url: url,
      connection_string: link,
    };
  });
}

/** One cell. Spreadsheets execute cells that begin like a formula, so those get an apostrophe. */
function cell(value: string | number): string {
  const text = String(value);
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

/** Comma-separated values (RFC 4180) with a header line. */
export function toCsv(links: readonly string[], nameOf: NameOf): string {
  const keys = ['number', 'name', 'color', 'node_id', 'websocket_url', 'connection_string'] as const;
  const lines = rows(links, nameOf).map((row) => keys.map((key) => cell(row[key])).join(','));
  return [keys.join(','), ...lines, ''].join('\r\n');
}

/** The same as a JSON document. */
export function toJson(links: readonly string[], nameOf: NameOf): string {
  return `${JSON.stringify({ nodes: rows(links, nameOf) }, null, 2)}\n`;
}

/** Lets the browser download a file. */
export function save(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // Safari reads the file after the click has returned.
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, 60_000);
}
