// A visitor's actions.

import { type Download, type Locator, type Page, expect } from "@playwright/test";
import { readFile } from "node:fs/promises";
import type { Stage } from "./stage.ts";

/** Eight nodes for two days. */
export const PRICE = "76,800 sat";

/** Opens the landing page and waits until orders are possible. */
export async function visit(page: Page, stage: Stage): Promise<void> {
  await page.goto(`${stage.url}/`);
  await expect(orderButton(page)).toBeEnabled();
}

export function orderButton(page: Page): Locator {
  return page.getByRole("button", { name: "Get the invoice" });
}

/** Orders this many nodes for 48 hours, with channels if a set-up is named, and returns the invoice. */
export async function order(page: Page, stage: Stage, nodes = 8, channels?: "circular" | "star"): Promise<string> {
  await visit(page, stage);
  await page.getByRole("radio", { name: `${nodes} nodes` }).check({ force: true });
  await page.getByRole("spinbutton", { name: "hours" }).fill("48");
  if (channels !== undefined) {
    await page.getByText("More options").click();
    await page.getByLabel("Channels at the start").selectOption(channels);
  }
  await orderButton(page).click();
  await expect(page).toHaveURL(`${stage.url}/order`);
  return await invoice(page);
}

/** The invoice on the page. */
export async function invoice(page: Page): Promise<string> {
  const text = page.getByTestId("bolt11");
  await expect(text).toHaveText(/^lnbcrt/);
  return (await text.textContent()) ?? "";
}

/** Pays with the demo's wallet, and returns when the page shows the payment. */
export async function pay(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Pay with the demo wallet" }).click();
  await expect(page).toHaveURL(/\/orders\/lnplaylive-/);
}

/** The id of the order whose page this is. */
export function orderOn(page: Page): string {
  return new URL(page.url()).pathname.split("/")[2] ?? "";
}

/** Waits until the order's nodes are shown. */
export async function ready(page: Page, nodes = 8): Promise<void> {
  await expect(heading(page)).toHaveText("Your network is ready", { timeout: 90_000 });
  await expect(cards(page)).toHaveCount(nodes);
}

export function heading(page: Page): Locator {
  return page.getByRole("heading", { level: 1 });
}

export function cards(page: Page): Locator {
  return page.getByTestId("node-card");
}

/** The connection strings of the cards, in order. `open` is the name of the links, which depends on the language. */
export async function links(page: Page, open = /^Open/): Promise<string[]> {
  const links = cards(page).getByRole("link", { name: open });
  return await links.evaluateAll((all) => all.map((link) => link.getAttribute("href") ?? ""));
}

/** The text that the page copies when `button` is pressed. */
export async function download(page: Page, button: string): Promise<Buffer> {
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: button, exact: true }).click(),
  ]);
  return await content(file);
}

async function content(file: Download): Promise<Buffer> {
  return await readFile(await file.path());
}

/** Waits until the service worker can show the pages without a network. */
export async function installed(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
  });
}
