/** Finding a QR code in a picture: with the browser's own detector where it has one, else with the library that draws ours. */

/** Where to look. */
export type Picture = HTMLVideoElement | ImageBitmap;

/** Finds the text of a code, or null where there is none. */
export type Read = (picture: Picture) => Promise<string | null>;

/** Not in TypeScript's library yet (Shape Detection API). */
interface Detector {
  detect(picture: Picture): Promise<{ rawValue: string }[]>;
}
interface DetectorClass {
  new (options: { formats: string[] }): Detector;
  getSupportedFormats(): Promise<string[]>;
}

/** The longest side that the library is given, in pixels: a code that fills half of it can be read, in some milliseconds. */
const SIDE = 800;

function pixels(picture: Picture): ImageData | null {
  const [width, height] =
    picture instanceof HTMLVideoElement
      ? [picture.videoWidth, picture.videoHeight]
      : [picture.width, picture.height];
  if (width === 0 || height === 0) return null;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return context?.getImageData(0, 0, canvas.width, canvas.height) ?? null;
}

/** A reader for this browser. */
export async function reader(): Promise<Read> {
  const Detector = (globalThis as { BarcodeDetector?: DetectorClass }).BarcodeDetector;
  const formats = (await Detector?.getSupportedFormats().catch(() => [] as string[])) ?? [];
  if (Detector !== undefined && formats.includes('qr_code')) {
    const detector = new Detector({ formats: ['qr_code'] });
    return async (picture) => (await detector.detect(picture))[0]?.rawValue ?? null;
  }
  const { default: decodeQR } = await import('qr/decode.js');
  return (picture) => {
    const image = pixels(picture);
    if (image === null) return Promise.resolve(null);
    try {
      return Promise.resolve(decodeQR(image));
    } catch {
      // How the library says that it found none.
      return Promise.resolve(null);
    }
  };
}
