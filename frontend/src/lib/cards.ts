/** Cards as PDF, drawn by the shop's server in memory. */
import type { CardLanguage } from '../text/languages';

/** Paper sizes that the server knows. */
export type Paper = 'a4' | 'letter' | 'label_4x6';

/** A request for cards. */
export interface Cards {
  readonly links: readonly string[];
  readonly title: string;
  /** A data URL, or null. */
  readonly logo: string | null;
  readonly paper: Paper;
  /** The language of what is printed beside names and title. */
  readonly language: CardLanguage;
}

/** Why there are no cards: the logo, the way to the server, or the server. */
export type CardsFault = 'logo_type' | 'logo_size' | 'logo_unreadable' | 'unreachable' | 'busy' | 'failed';

/** Cards could not be drawn. */
export class CardsError extends Error {
  override name = 'CardsError';
  constructor(readonly fault: CardsFault) {
    super(`no cards: ${fault}`);
  }
}

/** Media types of logos. */
export const LOGO_TYPES = ['image/png', 'image/jpeg'] as const;

/** Maximum size of a logo in bytes; printed logos need far less. */
const LOGO_LIMIT = 1_000_000;

/** Time-out for the PDF, in milliseconds. */
const PATIENCE = 30_000;

/** Reads a logo as a data URL. */
export async function readLogo(file: File): Promise<string> {
  if (!LOGO_TYPES.some((type) => type === file.type)) throw new CardsError('logo_type');
  if (file.size > LOGO_LIMIT) throw new CardsError('logo_size');
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      resolve(String(reader.result));
    };
    reader.onerror = () => {
      reject(new CardsError('logo_unreadable'));
    };
    reader.readAsDataURL(file);
  });
}

/** Requests the cards. */
export async function printCards({ links, title, logo, paper, language }: Cards): Promise<Blob> {
  let response: Response;
  try {
    response = await fetch('/cards.pdf', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        connection_strings: links,
        paper,
        language,
        ...(title === '' ? {} : { title }),
        ...(logo === null ? {} : { logo }),
      }),
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new CardsError('unreachable');
  }
  if (!response.ok) throw new CardsError(await faultOf(response));
  return response.blob();
}

/** What a refusal of the server means: its `kind`, or its status. */
async function faultOf(response: Response): Promise<CardsFault> {
  const body: unknown = await response.json().catch(() => null);
  if (typeof body === 'object' && body !== null && 'kind' in body && body.kind === 'logo')
    return 'logo_unreadable';
  if (response.status === 413) return 'logo_size';
  return response.status === 429 || response.status === 503 ? 'busy' : 'failed';
}
