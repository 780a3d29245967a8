/** Cards as PDF, drawn by the shop's server in memory. */
import { errorIn } from './pay';

/** Paper sizes that the server knows. */
export type Paper = 'a4' | 'letter' | 'label_4x6';

/** A request for cards. */
export interface Cards {
  readonly links: readonly string[];
  readonly title: string;
  /** A data URL, or null. */
  readonly logo: string | null;
  readonly paper: Paper;
}

/** Cards could not be drawn. The message is for users. */
export class CardsError extends Error {
  override name = 'CardsError';
}

/** Media types of logos. */
export const LOGO_TYPES = ['image/png', 'image/jpeg'] as const;

/** Maximum size of a logo in bytes; printed logos need far less. */
const LOGO_LIMIT = 1_000_000;

/** Time-out for the PDF, in milliseconds. */
const PATIENCE = 30_000;

/** Reads a logo as a data URL. */
export async function readLogo(file: File): Promise<string> {
  if (!LOGO_TYPES.some((type) => type === file.type))
    throw new CardsError('The logo must be a PNG or a JPEG picture.');
  if (file.size > LOGO_LIMIT) throw new CardsError('The logo is too large: 1 MB at most.');
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      resolve(String(reader.result));
    };
    reader.onerror = () => {
      reject(new CardsError('The logo could not be read.'));
    };
    reader.readAsDataURL(file);
  });
}

/** Requests the cards. */
export async function printCards({ links, title, logo, paper }: Cards): Promise<Blob> {
  let response: Response;
  try {
    response = await fetch('/cards.pdf', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        connection_strings: links,
        paper,
        ...(title === '' ? {} : { title }),
        ...(logo === null ? {} : { logo }),
      }),
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new CardsError('The shop’s server cannot be reached. CSV and JSON work without it.');
  }
  if (!response.ok) throw new CardsError(await errorIn(response, 'The server could not make the cards.'));
  return response.blob();
}
