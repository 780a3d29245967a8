import { expect, it } from 'vitest';
import decodeQR from 'qr/decode.js';
import { invoiceQrText, qrPath } from './qr';

/** Renders the path as a browser does, with four pixels per module, and decodes the picture. */
function scan(text: string): string {
  const { size, d } = qrPath(text);
  const scale = 4;
  const side = size * scale;
  const data = new Uint8ClampedArray(side * side * 4).fill(255);
  for (const [, x = '', y = '', width = ''] of d.matchAll(/M(\d+) (\d+)h(\d+)v1H\d+z/g)) {
    for (let py = Number(y) * scale; py < (Number(y) + 1) * scale; py += 1) {
      for (let px = Number(x) * scale; px < (Number(x) + Number(width)) * scale; px += 1) {
        data.fill(0, 4 * (py * side + px), 4 * (py * side + px) + 3);
      }
    }
  }
  return decodeQR({ width: side, height: side, data });
}

const ID = `02${'ab'.repeat(32)}`;

it.each([
  `https://shop.example/connect#address=${ID}@127.100.66.194:20001&type=direct&value=ws:&rune=ZkoDCt8XqVagesJI3h_zrcDB_ZjfVhRWn6rVB1YpZNs9MA==&name=Zo%C3%AB&color=df2020`,
  'x',
])('draws a code that says %s', (text) => {
  expect(scan(text)).toBe(text);
});

it('draws an invoice for any wallet', () => {
  const bolt11 = `lnbcrt768u1${'p4sxrx0sp5yzv2v7t6mt5acr'.repeat(12)}`;
  expect(scan(invoiceQrText(bolt11)).toLowerCase()).toBe(`lightning:${bolt11}`);
});
