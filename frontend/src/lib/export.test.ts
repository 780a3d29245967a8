import { expect, it } from 'vitest';
import { toCsv, toJson } from './export';

const ID = `02${'ab'.repeat(32)}`;
const link = (name: string) =>
  `https://shop.example/connect#address=${ID}@h:1&type=direct&value=ws:&rune=r&name=${encodeURIComponent(name)}&color=df2020`;

const nameOf = (number: number) => `Node ${number}`;

it('writes a line for each node, in quotes', () => {
  const lines = toCsv([link('Alice'), link('A "B", C')], nameOf).split('\r\n');
  expect(lines[0]).toBe('number,name,color,node_id,websocket_url,connection_string');
  expect(lines[1]).toBe(`"1","Alice","#df2020","${ID}","ws://h:1/","${link('Alice')}"`);
  expect(lines[2]).toContain('"A ""B"", C"');
  expect(lines.at(-1)).toBe('');
});

it('keeps spreadsheets from running a name', () => {
  expect(toCsv([link('=HYPERLINK("x")')], nameOf)).toContain(`"'=HYPERLINK(""x"")"`);
});

it('writes the exact links as JSON', () => {
  const { nodes } = JSON.parse(toJson([link('Alice')], nameOf)) as { nodes: { connection_string: string }[] };
  expect(nodes.map(({ connection_string }) => connection_string)).toEqual([link('Alice')]);
});
