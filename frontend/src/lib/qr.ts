/** QR codes as one SVG path. */
import { encodeQR } from 'qr';

/** A code: a path of unit squares in a square of `size` units, including the quiet zone. */
export interface QrPath {
  readonly size: number;
  readonly d: string;
}

/** Width of the quiet zone in modules (ISO/IEC 18004). */
const QUIET = 4;

/** Encodes a text. */
export function qrPath(text: string): QrPath {
  const rows = encodeQR(text, 'raw', { ecc: 'low', border: QUIET });
  let d = '';
  rows.forEach((row, y) => {
    for (let x = 0; x < row.length; x += 1) {
      if (row[x] !== true) continue;
      const from = x;
      while (row[x + 1] === true) x += 1;
      d += `M${from} ${y}h${x + 1 - from}v1H${from}z`;
    }
  });
  return { size: rows.length, d };
}

/** The text in the code of a BOLT 11 invoice: upper case, which QR codes store in less space. */
export function invoiceQrText(bolt11: string): string {
  return `LIGHTNING:${bolt11.toUpperCase()}`;
}
