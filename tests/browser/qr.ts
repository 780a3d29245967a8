// Reads QR codes from pixels, as a phone does, with zbar, and the words of printed cards.

import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { Locator } from "@playwright/test";

const run = promisify(execFile);
/**
 * The smallest print size that cameras are expected to read, and another one, because zbar misses one code in some hundreds
 * in a single picture, while a phone takes many pictures a second.
 */
const DPI = ["200", "240"];

async function inDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(path.join(tmpdir(), "qr-"));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The texts of all codes in images. */
async function read(files: string[]): Promise<string[]> {
  const options = ["--quiet", "--raw", "--nodbus", "-Sdisable", "-Sqrcode.enable"];
  const { stdout } = await run("zbarimg", [...options, ...files], { maxBuffer: 16 << 20 }).catch((error) => {
    // Status 4: no code was found.
    if (error.code === 4) return { stdout: error.stdout as string };
    throw error;
  });
  return stdout.split("\n").filter((line) => line !== "");
}

/** The text of the only code in `element`. */
export async function shown(element: Locator): Promise<string | undefined> {
  const texts = await inDirectory(async (directory) => {
    const file = path.join(directory, "shown.png");
    await element.screenshot({ path: file });
    return await read([file]);
  });
  return texts[0];
}

/** The texts of all codes in a PDF, which must have `count` of them. */
export async function printed(pdf: Buffer, count: number): Promise<Set<string>> {
  return await inDirectory(async (directory) => {
    const file = path.join(directory, "cards.pdf");
    await writeFile(file, pdf);
    const found = new Set<string>();
    for (const dpi of DPI) {
      if (found.size >= count) break;
      await run("pdftoppm", ["-r", dpi, "-gray", file, path.join(directory, dpi)]);
      const pages = (await readdir(directory)).filter((name) => name.startsWith(`${dpi}-`));
      for (const text of await read(pages.map((name) => path.join(directory, name)))) found.add(text);
    }
    return found;
  });
}

/** The words in a PDF. */
export async function printedText(pdf: Buffer): Promise<string> {
  return await inDirectory(async (directory) => {
    const file = path.join(directory, "cards.pdf");
    await writeFile(file, pdf);
    const { stdout } = await run("pdftotext", [file, "-"]);
    return stdout.replace(/\s+/g, " ");
  });
}
