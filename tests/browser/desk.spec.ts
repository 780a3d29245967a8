// The organiser's desk on the order's page, and what attendees notice of it.

import type { Locator, Page } from "@playwright/test";
import { accessible, expect, fits, test } from "./fixtures.ts";
import { cards, heading, links, order, pay, ready } from "./shop.ts";

const ALL = "Alice, Bruno, Carol, Diego, Elena, Farid, Greta, and Hugo";

function desk(page: Page): Locator {
  return page.getByTestId("desk");
}

function node(page: Page, name: string): Locator {
  return page.getByTestId("desk-node").filter({ hasText: name });
}

/** Presses a button of the desk and waits for what the desk says. */
async function act(page: Page, button: string, says: string | RegExp): Promise<void> {
  await desk(page).getByRole("button", { name: button, exact: true }).click();
  await expect(desk(page).getByRole("status")).toHaveText(says, { timeout: 60_000 });
}

/** The height of the chain, as the desk shows it. */
async function height(page: Page): Promise<number> {
  const text = (await desk(page).getByText(/^Block [\d,]+\.$/).textContent()) ?? "";
  return Number(text.replace(/\D/g, ""));
}

test("the organiser acts on the network, and attendees notice @phone", async ({ page, context, stage }) => {
  await order(page, stage);
  await pay(page);
  await ready(page);
  await expect(page.getByTestId("desk-node")).toHaveCount(8);
  for (const row of await page.getByTestId("desk-node").all()) await expect(row).toContainText("Running");
  await fits(page);
  await accessible(page);

  // Blocks. A double click mines one.
  await act(page, "Pause the blocks", /^Blocks are paused/);
  const before = await height(page);
  await desk(page).getByRole("button", { name: "Mine a block", exact: true }).dblclick();
  await expect(desk(page).getByRole("status")).toHaveText("One block was mined.");
  expect(await height(page)).toBe(before + 1);
  await act(page, "Mine 6 blocks", "6 blocks were mined.");
  expect(await height(page)).toBe(before + 7);

  // Coins and channels, though no block comes by itself.
  await desk(page).getByLabel("Sat for each node").fill("9999");
  await expect(desk(page).getByRole("button", { name: "Send to all nodes" })).toBeDisabled();
  await desk(page).getByLabel("Sat for each node").fill("50000");
  await act(page, "Send to all nodes", `${ALL} got 50,000 sat each.`);
  await act(page, "Send coins to Carol", "Carol got 50,000 sat.");
  await act(page, "Star", "7 channels were opened.");
  await act(page, "Star", "0 channels were opened. 7 of this set-up were open before.");
  await act(page, "Resume the blocks", "Blocks come by themselves again.");

  // A lost card, asked for twice.
  const old = await links(page);
  const [first = ""] = old;
  const attendee = await context.newPage();
  await attendee.goto(first);
  await expect(heading(attendee)).toHaveText("Alice");
  const dialog = desk(page).getByRole("dialog");
  await desk(page).getByRole("button", { name: "New card for Alice" }).click();
  await expect(dialog).toContainText("stop working at once");
  await accessible(page);
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await expect(dialog).toBeHidden();
  expect(await links(page)).toEqual(old);
  await desk(page).getByRole("button", { name: "New card for Alice" }).click();
  await dialog.getByRole("button", { name: "Make the new card" }).click();
  await expect(desk(page).getByRole("status")).toHaveText(/^Alice has a new card/);
  await expect.poll(async () => (await links(page))[0]).not.toBe(first);
  const now = await links(page);
  expect(now.slice(1)).toEqual(old.slice(1));
  await expect(cards(page).first()).toContainText("Alice");
  await attendee.goto("about:blank");
  await attendee.goto(now[0] ?? "");
  await expect(heading(attendee)).toHaveText("Alice");
  await expect(attendee.getByText(/[\d,]+ sat/).first()).toBeVisible();
  const stranger = await context.newPage();
  await stranger.goto(first);
  await expect(stranger.getByText("The node does not accept the key in this link. Ask for a new card.").first()).toBeVisible();

  // A node that is off is no fault.
  await desk(page).getByRole("button", { name: "Switch Bruno off" }).click();
  await expect(dialog).toContainText("loses the connection");
  await dialog.getByRole("button", { name: "Switch it off" }).click();
  await expect(node(page, "Bruno")).toContainText("Switched off", { timeout: 60_000 });
  await expect(node(page, "Carol")).toContainText("Running");
  await accessible(page);
  await fits(page);
  // It is the same on another device, and after a reload.
  await page.reload();
  await expect(node(page, "Bruno")).toContainText("Switched off");
  await expect(page.getByTestId("health")).toBeHidden();
  await act(page, "Switch Bruno on", "Bruno runs again.");
  await expect(node(page, "Bruno")).toContainText("Running");
});
