// Common fixtures: a shop, and pages that must neither violate the Content Security Policy nor throw.

import { AxeBuilder } from "@axe-core/playwright";
import { type BrowserContext, type Page, test as base, expect } from "@playwright/test";
import { Stage } from "./stage.ts";

export { expect };

/** Collects violations and exceptions of a page. */
function watch(context: BrowserContext): string[] {
  const found: string[] = [];
  context.on("console", (message) => {
    if (/content security policy/i.test(message.text())) found.push(message.text());
  });
  context.on("weberror", (error) => found.push(error.error().stack ?? String(error.error())));
  return found;
}

export const test = base.extend<{ stage: Stage }, { house: Stage }>({
  house: [
    // Playwright requires the first parameter to be a pattern.
    async ({}, use) => {
      const stage = await Stage.open();
      await use(stage);
      await stage.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
  stage: async ({ house }, use) => {
    await use(house);
    // A dozen networks of eight idle nodes would use a core that the following tests need.
    await house.ask({ do: "end_environments" });
  },
  context: async ({ context }, use) => {
    const found = watch(context);
    await use(context);
    expect(found, "violations of the content security policy, and exceptions").toEqual([]);
  },
});

/** Asserts that axe finds no problems in the page, in light and dark themes. */
export async function accessible(page: Page): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const { violations } = await new AxeBuilder({ page }).analyze();
    const seen = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
    expect(seen, `axe in ${colorScheme}, on ${new URL(page.url()).pathname}`).toEqual([]);
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

/** Asserts that nothing overflows to the right. */
export async function fits(page: Page): Promise<void> {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow, "pixels that stick out at the right").toBeLessThanOrEqual(0);
}
