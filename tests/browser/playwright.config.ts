import { existsSync } from "node:fs";
import path from "node:path";
import { defineConfig } from "@playwright/test";

// Stops Chromium from contacting other hosts, and lets it run as root and without a GPU.
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** True if the shop runs this real daemon. */
function isReal(daemon: string): boolean {
  const named = process.env[daemon.toUpperCase()];
  const isIn = (dir: string): boolean => existsSync(path.join(dir, daemon));
  return named !== undefined || (process.env.PATH ?? "").split(path.delimiter).some(isIn);
}

export default defineConfig({
  testDir: ".",
  outputDir: "../../target/browser/results",
  // Each worker runs its own shop: bitcoind, two nodes, and the environments. Two cores bear one with real daemons.
  workers: isReal("lightningd") && isReal("bitcoind") ? 1 : 2,
  // On a busy machine real daemons fail occasionally; such a test is reported as flaky.
  retries: 1,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  reporter: [["list"]],
  use: {
    headless: true,
    actionTimeout: 20_000,
    navigationTimeout: 30_000,
    screenshot: "only-on-failure",
    trace: "retain-on-failure",
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args },
    permissions: ["clipboard-read", "clipboard-write"],
  },
  projects: [
    { name: "desktop", use: { viewport: { width: 1280, height: 800 } } },
    {
      // The smallest common screen.
      name: "phone",
      use: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
      grep: /@phone/,
    },
  ],
});
