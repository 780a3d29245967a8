// Without a network the pages open, and show the last known state.

import { expect, test } from "./fixtures.ts";
import { cards, heading, installed, links, order, orderButton, pay, ready, visit } from "./shop.ts";

test("opens offline with the last known order", async ({ page, context, stage }) => {
  await order(page, stage);
  await pay(page);
  await ready(page);
  const [url, strings] = [page.url(), await links(page)];
  await installed(page);
  await context.setOffline(true);
  await page.reload();
  await expect(page.getByText(/^You are offline\./)).toBeVisible();
  await expect(cards(page)).toHaveCount(8);
  expect(await links(page)).toEqual(strings);
  await page.goto(`${stage.url}/`);
  await expect(heading(page)).toHaveText("A Lightning network for everyone in the room");
  await page.getByRole("link", { name: "Back to your order" }).click();
  await expect(page).toHaveURL(url);
  await context.setOffline(false);
  await expect(page.getByText(/^You are offline\./)).toHaveCount(0);
});

test("goes on when the server was away", async ({ page, stage }) => {
  await visit(page, stage);
  await installed(page);
  await stage.ask({ do: "close_site" });
  try {
    await page.reload();
    await expect(page.getByText(/cannot be reached right now/).first()).toBeVisible();
  } finally {
    await stage.ask({ do: "open_site" });
  }
  // By itself, or with the button.
  const again = page.getByRole("button", { name: "Try again" });
  if (await again.isVisible()) await again.click();
  await expect(orderButton(page)).toBeEnabled({ timeout: 60_000 });
});

test("can be installed", async ({ page, stage }) => {
  await visit(page, stage);
  const href = await page.locator("link[rel=manifest]").getAttribute("href");
  const manifest = await (await page.request.get(new URL(href ?? "", stage.url).href)).json();
  expect(manifest).toMatchObject({ display: "standalone", start_url: expect.any(String), name: expect.any(String) });
  const sizes = manifest.icons.map((icon: { sizes: string }) => icon.sizes);
  expect(sizes).toEqual(expect.arrayContaining(["192x192", "512x512"]));
  for (const icon of manifest.icons) {
    expect((await page.request.get(new URL(icon.src, stage.url).href)).ok(), icon.src).toBe(true);
  }
});
