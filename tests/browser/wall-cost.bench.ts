// What the wall costs an environment: the share of one core that the processes of an environment take, before and while its wall is
// open, when nothing but blocks happens:
//   NODES=64 SECONDS=50 npx playwright test --config bench.config.ts

import { readFileSync, readdirSync } from "node:fs";
import { test } from "./fixtures.ts";
import { order, pay } from "./shop.ts";

const nodes = Number(process.env.NODES ?? 64);
const seconds = Number(process.env.SECONDS ?? 50);
const settle = Number(process.env.SETTLE ?? 150);
/** Clock ticks a second, of /proc/PID/stat: always 100 on Linux. */
const TICKS = 100;

/** Processor time in seconds of all processes of environments: they have its directory among their variables. */
function used(): number {
  let ticks = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "latin1").includes("LNPLAY_DIR=")) continue;
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      // User and system time, its own and that of children that have ended.
      for (const at of [11, 12, 13, 14]) ticks += Number(fields[at]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks / TICKS;
}

async function share(): Promise<number> {
  const [before, from] = [used(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return (100 * (used() - before)) / ((performance.now() - from) / 1000);
}

test("what the wall costs", async ({ page, stage }) => {
  test.setTimeout(900_000);
  page.setDefaultTimeout(300_000);
  await order(page, stage, nodes, "circular");
  await pay(page);
  await page.getByTestId("node-card").nth(nodes - 1).waitFor();
  const address = page.url();
  await page.goto("about:blank");
  // The blocks that follow the opening of the channels: 24, at one each five seconds.
  await new Promise((resolve) => setTimeout(resolve, settle * 1000));
  const without = await share();
  const from = performance.now();
  await page.goto(`${address}/wall`);
  await page.getByTestId("wall-nodes").locator("[data-presence=here]").nth(nodes - 1).waitFor({ state: "attached" });
  const shown = (performance.now() - from) / 1000;
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  const withWall = await share();
  const row = [nodes, `${shown.toFixed(1)} s`, `${without.toFixed(2)}, ${withWall.toFixed(2)} %`, (withWall / without).toFixed(2)];
  console.log(`${stage.lightning} daemons: | ${row.join(" | ")} |`);
});
