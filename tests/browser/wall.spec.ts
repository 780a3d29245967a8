// The wall of an order, and the lesson plans.

import { accessible, expect, fits, test } from "./fixtures.ts";
import { links, order, pay, ready } from "./shop.ts";
import { Attendee, touch } from "./wallet.ts";
import type { Locator, Page } from "@playwright/test";
import type { Stage } from "./stage.ts";

/** Time in which the wall shows what has happened. */
const SOON = 2000;

/** Buys nodes that have channels in a circle, and returns their cards. The page shows the order. */
async function room(page: Page, stage: Stage): Promise<string[]> {
  await order(page, stage, 8, "circular");
  await pay(page);
  await ready(page);
  return await links(page);
}

/** Opens the wall from the order's page, and returns when all nodes are on it. */
async function wall(page: Page): Promise<void> {
  await page.getByRole("link", { name: "Put the room on the wall" }).click();
  await expect(page).toHaveURL(/\/wall$/);
  await expect(page.getByTestId("wall-nodes").locator("[data-presence=here]")).toHaveCount(8, { timeout: 60_000 });
  await expect(page.getByRole("img", { name: "8 nodes and 8 channels" })).toBeVisible({ timeout: 60_000 });
  await expect(height(page)).not.toHaveAttribute("data-height", "0");
}

function height(page: Page): Locator {
  return page.getByTestId("wall-height");
}

function event(page: Page, kind: string): Locator {
  return page.locator(`[data-testid=wall-event][data-kind=${kind}]`);
}

test.describe("on the wall", () => {
  test.use({ hasTouch: true });

  test("payments, failures, channels and blocks show as they happen", async ({ page, context, stage }) => {
    test.skip(stage.lightning !== "real", "lightningd is missing: simulated nodes do not route, fail and close as real ones do");
    test.setTimeout(360_000);
    const [first = "", second = "", third = ""] = await room(page, stage);
    await wall(page);
    const routed = page.getByTestId("standing-routed");
    const connected = page.getByTestId("standing-connected");
    await expect(routed).toContainText("Nobody yet");
    await expect(connected.getByRole("listitem").first()).toContainText("2 channels");
    const alice = await Attendee.open(context, first);
    const bruno = await Attendee.open(context, second);
    const carol = await Attendee.open(context, third);

    // Along a route, by names, with amount and fee.
    await alice.read(await carol.invoice(21_000, "Cake"));
    await touch(alice.pay);
    await expect(alice.paid).toContainText("21,000 sat to Carol");
    await expect(event(page, "paid").first()).toContainText("Alice paid Carol 21,000 sat through Bruno, fee 0.211 sat", { timeout: SOON });
    await expect(routed.getByRole("listitem").first()).toContainText(/Bruno.*1 payment, 0\.211 sat/);

    // Without a route: from neighbour to neighbour.
    await bruno.read(await carol.invoice(9_000_000, "Nearly all"));
    await touch(bruno.pay);
    await expect(bruno.paid).toContainText("9,000,000 sat to Carol");
    await expect(event(page, "paid").first()).toContainText("Bruno paid Carol 9,000,000 sat", { timeout: SOON });
    await expect(page.getByTestId("standing-balanced").getByRole("listitem").first()).toContainText(/Carol|Bruno/);

    // A failure says where and why.
    await alice.read(await carol.invoice(3_000_000, "Too much"));
    await touch(alice.pay);
    await expect(alice.failure).toBeVisible({ timeout: 60_000 });
    await expect(event(page, "failed").first()).toContainText(
      "Alice could not pay Carol 3,000,000 sat: Bruno has too few coins in the channel to Carol",
      { timeout: SOON },
    );

    // A channel, from its first block to its last.
    const before = Number(await height(page).getAttribute("data-height"));
    await alice.openChannel("Diego", 1_000_000, { isUsable: true });
    await expect(event(page, "opened").first()).toContainText("The channel from Alice to Diego can be used, 1,000,000 sat", { timeout: 10_000 });
    expect(Number(await height(page).getAttribute("data-height"))).toBeGreaterThan(before);
    await expect(page.getByRole("img", { name: "8 nodes and 9 channels" })).toBeVisible();
    await expect(connected.getByRole("listitem").first()).toContainText(/3 channels/);
    await alice.tab("Channels");
    await touch(alice.channel("Diego"));
    await touch(alice.button("Close this channel"));
    await touch(alice.button("Close together"));
    await expect(event(page, "closed").first()).toContainText("The channel of Alice and Diego is closed", { timeout: 60_000 });
    await expect(page.getByRole("img", { name: "8 nodes and 8 channels" })).toBeVisible();
  });

  test("a payment to a neighbour shows", async ({ page, context, stage }) => {
    test.setTimeout(360_000);
    const [first = "", second = ""] = await room(page, stage);
    await wall(page);
    const alice = await Attendee.open(context, first);
    const bruno = await Attendee.open(context, second);
    await alice.read(await bruno.invoice(12_000, "Tea"));
    await touch(alice.pay);
    await expect(alice.paid).toContainText("12,000 sat to Bruno");
    await expect(event(page, "paid").first()).toContainText("Alice paid Bruno 12,000 sat", { timeout: SOON });
    if (stage.lightning !== "real") return;

    // For longer than a connection on which a call waits would live if it were given up with its unanswered ping.
    const before = Number(await height(page).getAttribute("data-height"));
    await expect.poll(async () => Number(await height(page).getAttribute("data-height")), { timeout: 150_000 }).toBeGreaterThan(before + 10);
    await alice.read(await bruno.invoice(13_000, "Much later"));
    await touch(alice.pay);
    await expect(alice.paid).toContainText("13,000 sat to Bruno");
    await expect(event(page, "paid").first()).toContainText("Alice paid Bruno 13,000 sat", { timeout: SOON });
  });
});

test("goes on without a node that is away, and ends with the network", async ({ page, stage }) => {
  await room(page, stage);
  await wall(page);
  await stage.ask({ do: "ruin_node", index: 2 });
  const notice = page.getByTestId("wall-notice");
  await expect(notice).toContainText("No answer from Carol.", { timeout: 30_000 });
  await expect(event(page, "away").first()).toContainText("Carol does not answer");
  const before = await height(page).getAttribute("data-height");
  await expect(height(page)).not.toHaveAttribute("data-height", before ?? "", { timeout: 90_000 });
  await page.clock.setFixedTime(Date.now() + 49 * 3600 * 1000);
  await expect(notice).toContainText("This network’s time is over");
});

test("the wall is for everybody @phone", async ({ page, stage }) => {
  await room(page, stage);
  await wall(page);
  await fits(page);
  await accessible(page);
  await page.getByRole("link", { name: "Back to the order" }).click();
  await expect(page.getByRole("heading", { name: "Your network is ready" })).toBeVisible();
  await fits(page);
});

test("an order without a network has no wall", async ({ page, stage }) => {
  await page.goto(`${stage.url}/orders/lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624/wall`);
  await expect(page.getByTestId("wall-notice")).toContainText("There is no such order");
  await page.goto(`${stage.url}/orders/tea/wall`);
  await expect(page.getByTestId("wall-notice")).toContainText("There is no such order");
});

test("lesson plans can be read and printed @phone", async ({ page, stage }) => {
  await page.goto(`${stage.url}/`);
  await page.getByRole("link", { name: "three lesson plans" }).click();
  for (const [title, minutes] of [["First meetup", 20], ["Developers’ class", 45], ["Routing game", 90]] as const) {
    await fits(page);
    await accessible(page);
    await page.getByRole("link", { name: title }).click();
    await expect(page.getByRole("heading", { level: 1 })).toHaveText(title);
    await expect(page.getByText(`to ${minutes} min`)).toBeVisible();
    await fits(page);
    await accessible(page);
    await page.emulateMedia({ media: "print" });
    await expect(page.getByRole("button", { name: "Print this plan" })).toBeHidden();
    await expect(page.locator("header.on-board")).toBeHidden();
    await page.emulateMedia({ media: null });
    await page.getByRole("link", { name: "All lesson plans" }).click();
  }
});
