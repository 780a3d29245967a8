// Measures how many frames a second the wall draws without a graphics card, with a room that does not exist:
//   node frames.mjs [SECONDS [NODES [PAYMENTS_A_SECOND]]]
// and, with PICTURES=DIR, takes pictures of it in both colour schemes. Needs `npm ci` in frontend/ too.

import { chromium } from "@playwright/test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

const [seconds = 10, nodes = 64, rate = 20] = process.argv.slice(2).map(Number);
const frontend = path.join(import.meta.dirname, "../../frontend");
const port = 5199;

const vite = spawn(path.join(frontend, "node_modules/.bin/vite"), ["--port", String(port), "--strictPort", "--host", "127.0.0.1"], { cwd: frontend, stdio: ["ignore", "pipe", "inherit"] });
await once(vite.stdout, "data");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

try {
  for (const size of [
    { width: 1280, height: 720 },
    { width: 1920, height: 1080 },
  ]) {
    const page = await browser.newPage({ viewport: size });
    await page.goto(`http://127.0.0.1:${port}/bench/wall.html?nodes=${nodes}&rate=${rate}`);
    await page.getByTestId("wall-event").first().waitFor();
    // What is compiled at first use is not what a room sees.
    await page.waitForTimeout(3000);
    const times = await page.evaluate(async (ms) => {
      const all = window.wallFrames;
      const from = all.length;
      await new Promise((resolve) => setTimeout(resolve, ms));
      return all.slice(from);
    }, seconds * 1000);
    const gaps = times.slice(1).map((time, i) => time - (times[i] ?? time)).sort((a, b) => a - b);
    const at = (share) => gaps[Math.min(gaps.length - 1, Math.floor(gaps.length * share))]?.toFixed(1);
    const line = [`${size.width} x ${size.height}`, nodes, rate, (times.length / seconds).toFixed(1), at(0.5), at(0.95), at(0.99), gaps.at(-1)?.toFixed(1)];
    console.log(`| ${line.join(" | ")} |`);
    if (process.env.PICTURES !== undefined) {
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await page.waitForTimeout(400);
        await page.screenshot({ path: path.join(process.env.PICTURES, `made-up-${nodes}-${size.width}-${colorScheme}.png`) });
      }
    }
    await page.close();
  }
} finally {
  await browser.close();
  vite.kill();
}
