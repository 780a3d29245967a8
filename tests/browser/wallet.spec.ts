// The wallet behind a card: what an attendee does with a node.

import { accessible, expect, fits, test } from "./fixtures.ts";
import { links, order, pay, ready } from "./shop.ts";
import { Attendee, touch } from "./wallet.ts";
import type { Locator, Page } from "@playwright/test";
import type { Stage } from "./stage.ts";

test.use({ hasTouch: true });

/** The most that a page may load before it can be used, in bytes as they are sent. */
const FIRST_LOAD = 150_000;

/** Buys eight nodes, and returns their cards. */
async function cards(page: Page, stage: Stage): Promise<string[]> {
  await order(page, stage);
  await pay(page);
  await ready(page);
  return await links(page);
}

test("two attendees keep the six promises by touch alone @phone", async ({ page, context, stage, isMobile }) => {
  test.skip(!isMobile, "once is enough for so long a play: on phones");
  test.skip(stage.lightning !== "real", "lightningd is missing: simulated nodes do not route, fail and close as real ones do");
  test.setTimeout(600_000);
  const [first = "", second = "", third = "", fourth = ""] = await cards(page, stage);
  await page.close();
  const alice = await Attendee.open(context, first);
  const bruno = await Attendee.open(context, second);
  const carol = await Attendee.open(context, third);
  const diego = await Attendee.open(context, fourth);

  // Open a channel, and watch it confirm: Alice to Bruno to Carol and back to Alice, and Diego to Bruno.
  await Promise.all([
    alice.openChannel("Bruno", 1_000_000),
    bruno.openChannel("Carol", 1_000_000),
    carol.openChannel("Alice", 500_000),
    diego.openChannel("Bruno", 500_000),
  ]);
  for (const player of [alice, bruno]) await player.hasDone("open");

  // Receive a payment.
  await alice.read(await bruno.invoice(40_000, "Tea for two"));
  await expect(alice.page.getByTestId("plan")).toContainText("Bruno");
  await touch(alice.pay);
  await expect(alice.paid).toContainText("40,000 sat to Bruno");
  await expect(bruno.page.getByTestId("arrived")).toContainText("40,000 sat arrived", { timeout: 60_000 });
  await bruno.hasDone("receive");
  const donations = await alice.offer("Donations");
  await bruno.read(donations);
  await bruno.page.getByRole("textbox", { name: "How much?" }).fill("5,000");
  await touch(bruno.pay);
  await expect(bruno.paid).toContainText("5,000 sat to Alice");
  await expect(alice.page.getByTestId("arrived")).toContainText("5,000 sat arrived", { timeout: 60_000 });
  await alice.hasDone("receive");
  await bruno.hasDone("offer");

  // Ask the whole room, until somebody has paid.
  await bruno.invoice(7000, "Cake");
  await touch(bruno.button("Show it to the room"));
  for (const neighbour of [carol, alice]) {
    await neighbour.tab("Home");
    await touch(neighbour.button(/Pay$/));
    await expect(neighbour.asks.filter({ hasText: "Cake" })).toContainText("7,000 sat");
  }
  await touch(alice.asks.filter({ hasText: "Cake" }));
  await touch(alice.pay);
  await expect(alice.paid).toContainText("7,000 sat to Bruno");
  await expect(carol.asks).toHaveCount(0);

  // Pay a neighbour by name. Somebody taps twice, and pays once.
  await alice.tab("Home");
  await touch(alice.button(/Pay$/));
  await touch(alice.page.getByRole("group", { name: /in the room/ }).getByRole("button", { name: "Bruno" }));
  await alice.page.getByRole("textbox", { name: "How much?" }).fill("3000");
  await alice.pay.evaluate((button: HTMLElement) => {
    button.click();
    button.click();
  });
  await expect(alice.paid).toContainText("3,000 sat to Bruno");
  await alice.tab("History");
  await expect(alice.page.getByTestId("entry").filter({ hasText: "3,000" })).toHaveCount(1);
  await bruno.tab("History");
  await expect(bruno.page.getByTestId("entry").filter({ hasText: "+3,000" })).toHaveCount(1);

  // An invoice that is paid is not paid again.
  const once = await bruno.invoice(1000, "Once");
  for (const time of [1, 2]) {
    await alice.read(once);
    await touch(alice.pay);
    if (time === 1) await expect(alice.paid).toBeVisible();
    else await expect(alice.failure).toContainText("paid already");
  }

  // Route for a neighbour, for a fee.
  await bruno.tab("Channels");
  await touch(bruno.channel("Carol"));
  await bruno.page.getByRole("textbox", { name: "For each payment (msat)" }).fill("2000");
  await touch(bruno.button("Set fees"));
  await expect(bruno.page.getByText(/^Set\./)).toBeVisible();
  // Both who hear of it: the payee puts it into invoices, the payer looks for ways with it.
  await carol.tab("Channels");
  await touch(carol.channel("Bruno"));
  await expect(carol.page.getByText("They charge 2,000 msat and 10 ppm.")).toBeVisible({ timeout: 90_000 });
  await expect(async () => {
    await alice.read(await carol.invoice(30_000, "Through Bruno"));
    await expect(alice.page.getByTestId("plan")).toContainText("2.3 sat", { timeout: 5000 });
  }).toPass({ timeout: 60_000 });
  await expect(alice.page.getByTestId("plan")).toContainText(/you.*Bruno.*Carol/s);
  await touch(alice.pay);
  await expect(alice.paid).toContainText("30,000 sat to Carol");
  await expect(alice.page.getByTestId("fee")).toHaveText("2.3 sat");
  await expect(carol.page.getByTestId("arrived")).toBeVisible();
  await bruno.hasDone("route", "earn");
  await bruno.tab("History");
  await expect(bruno.page.getByTestId("entry").first()).toContainText("Alice to Carol, through you");
  await expect(bruno.page.getByTestId("earned")).toHaveText("2.3 sat");
  await carol.read(await bruno.invoice(45_000, "Through Alice"));
  await touch(carol.pay);
  await expect(carol.paid).toContainText("45,000 sat to Bruno");
  await alice.hasDone("route");

  // Watch a payment fail, and read why: Diego has all of the coins in his channel, so Bruno cannot pass any on.
  await alice.read(await diego.invoice(20_000, "No way"));
  await touch(alice.pay);
  await expect(alice.failure).toContainText("In the channel from Bruno to Diego", { timeout: 60_000 });
  await expect(alice.failure).toContainText("not enough coins on the side that would have to pass them on");
  await touch(alice.page.getByText("What the node says"));
  await expect(alice.failure).toContainText("temporary_channel_failure");
  await accessible(alice.page);
  await alice.hasDone("fail");
  await bruno.tab("Home");
  await touch(bruno.button(/Pay$/));
  await touch(bruno.page.getByRole("group", { name: /in the room/ }).getByRole("button", { name: "Carol" }));
  await bruno.page.getByRole("textbox", { name: "How much?" }).fill("5000000");
  await touch(bruno.pay);
  await expect(bruno.failure).toContainText("not enough coins on your side", { timeout: 60_000 });
  await bruno.hasDone("fail");

  // Move liquidity.
  for (const [player, from, to] of [
    [alice, "Bruno", "Carol"],
    [bruno, "Carol", "Alice"],
  ] as const) {
    await player.tab("Channels");
    await touch(player.button("Move liquidity"));
    for (const [label, peer] of [["Out through", from], ["Back through", to]] as const) {
      const choice = player.page.getByLabel(label);
      const option = choice.getByRole("option", { name: new RegExp(`^${peer}`) });
      await choice.selectOption(await option.getAttribute("value"));
    }
    await player.page.getByRole("textbox", { name: "How much?" }).fill("10000");
    await touch(player.button(/^Move [\d,]+ sat$/));
    await expect(player.page.getByTestId("moved")).toContainText("10,000 sat moved");
    await player.hasDone("move");
  }

  // Close and settle: together, and by force.
  await alice.tab("Channels");
  await touch(alice.channel("Carol"));
  await touch(alice.button("Close this channel"));
  await touch(alice.button("Close together"));
  await bruno.tab("Channels");
  await touch(bruno.channel("Carol"));
  await touch(bruno.button("Close this channel"));
  await touch(bruno.button("Force it"));
  await expect(bruno.page.getByTestId("closing").getByText(/locked for/)).toBeVisible({ timeout: 60_000 });
  for (const player of [alice, bruno]) {
    await expect(player.page.getByTestId("closing")).toHaveAttribute("data-step", "settled", { timeout: 120_000 });
    await expect(player.page.getByTestId("closing")).toContainText(/sat back on chain in block/);
    await player.hasDone("settle");
  }
  await bruno.hasDone("force");
  await expect(alice.page.getByText("6 of 9 accomplished")).toBeVisible();
  await expect(bruno.page.getByText("9 of 9 accomplished")).toBeVisible();
});

test("the room sees who asks for what @phone", async ({ page, context, stage }) => {
  const [first = "", second = ""] = await cards(page, stage);
  const alice = await Attendee.open(context, first);
  const bruno = await Attendee.open(context, second);
  await touch(alice.button(/Pay$/));
  await bruno.invoice(21_000, "Coffee");
  await touch(bruno.button("Show it to the room"));
  await expect(bruno.page.getByText("The others in the room find it under Pay.")).toBeVisible();
  await expect(alice.asks).toHaveText(/Bruno.*21,000 sat.*Coffee/s);
  await fits(alice.page);
  await accessible(alice.page);
  await accessible(bruno.page);
  await bruno.invoice(5000, "Cake");
  await touch(bruno.button("Show it to the room"));
  await expect(alice.asks).toHaveCount(2);
  await touch(bruno.button("No longer show it to the room"));
  await expect(alice.asks).toHaveCount(1);
  // It leads to where it is paid.
  await touch(alice.asks);
  await expect(alice.pay).toHaveText("Pay 21,000 sat");
});

test("every part of the wallet fits and is accessible @phone", async ({ page, context, stage }) => {
  const [card = ""] = await cards(page, stage);
  const alice = await Attendee.open(context, card);
  const check = async () => {
    await fits(alice.page);
    await accessible(alice.page);
  };
  // Coins that are there, and neighbours by name before any channel was announced.
  await expect(alice.page.getByTestId("on-chain")).toHaveText("100,000,000 sat");
  await check();
  await touch(alice.button(/Pay$/));
  for (const name of ["Bruno", "Carol", "Hugo"]) await expect(alice.button(name)).toBeVisible();
  await check();
  const input = alice.page.getByRole("textbox", { name: "Invoice, offer or node id" });
  for (const [text, answer] of [
    ["tea", /no invoice, offer or node id/],
    [card, /the card of a node/],
    ["lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqf", /real bitcoin/],
    ["lnbcrt1qqqq", /cannot read this/],
  ] as const) {
    await input.fill(text);
    await touch(alice.button("Continue"));
    await expect(alice.page.getByRole("alert")).toContainText(answer);
  }
  await touch(alice.button("Bruno"));
  await alice.page.getByRole("textbox", { name: "How much?" }).fill("1.5");
  await expect(alice.page.getByText("An amount in whole sat, please.")).toBeVisible();
  await alice.page.getByRole("textbox", { name: "How much?" }).fill("2000");
  await expect(alice.page.getByTestId("plan")).toContainText("no way there yet");
  await check();
  const bolt11 = await alice.invoice(21_000, "Coffee");
  await check();
  const code = await alice.page.getByRole("img", { name: "Code to scan" }).screenshot();
  // From a picture, as from the camera.
  await alice.tab("Home");
  await touch(alice.button(/Pay$/));
  await touch(alice.button("Scan a code"));
  await accessible(alice.page);
  await alice.page.getByLabel("Choose a picture").setInputFiles({ name: "code.png", mimeType: "image/png", buffer: code });
  await expect(alice.page.getByText("This is your own invoice")).toBeVisible();
  await touch(alice.button("Cancel"));
  await input.fill(bolt11.toUpperCase());
  await touch(alice.button("Continue"));
  await expect(alice.page.getByText("21,000 sat")).toBeVisible();

  await alice.tab("Channels");
  await check();
  await touch(alice.button("Move liquidity"));
  await check();
  // As the phone's own button does.
  await alice.page.goBack();
  await touch(alice.button("Open a channel"));
  await touch(alice.button("Bruno"));
  await check();
  for (const tab of ["History", "Missions", "More"] as const) {
    await alice.tab(tab);
    await check();
  }
  await touch(alice.button(/^On chain/));
  await touch(alice.button("Show an address"));
  await expect(alice.page.getByTestId("address")).toHaveText(/^bcrt1q/);
  await check();
  await alice.tab("More");
  await touch(alice.button(/^Console/));
  await touch(alice.button("Run"));
  await expect(alice.page.getByTestId("answer")).toContainText('"alias": "Alice"');
  const line = alice.page.getByRole("textbox", { name: "Command" });
  await line.fill("stop");
  await touch(alice.button("Run"));
  await expect(alice.page.getByRole("alert")).toContainText("does not allow stop");
  await expect(alice.button("listpeerchannels")).toBeVisible();
  await expect(alice.button("plugin")).toHaveCount(0);
  await check();
  await alice.tab("More");
  await touch(alice.button(/^Open in another wallet/));
  await expect(alice.page.getByRole("link", { name: "Open Clams Remote" })).toHaveAttribute("href", /\/wallets\/add\?label=Alice&type=coreln&configuration=/);
  await check();
});

test("opens a channel and pays through it", async ({ page, context, stage }) => {
  const [first = "", second = ""] = await cards(page, stage);
  const alice = await Attendee.open(context, first);
  await alice.openChannel("Bruno", 1_000_000, { isUsable: true });
  await alice.hasDone("open");
  const bruno = await Attendee.open(context, second);
  await alice.read(await bruno.invoice(12_000, "Cake"));
  await touch(alice.pay);
  await expect(alice.paid).toContainText("12,000 sat to Bruno");
  await expect(bruno.page.getByTestId("arrived")).toContainText("12,000 sat arrived");
  await bruno.hasDone("receive");
  // Another tab knows what this one did.
  const tab = await Attendee.open(context, first);
  await tab.hasDone("open");
  await tab.tab("History");
  await expect(tab.page.getByTestId("entry").filter({ hasText: "Paid Bruno" })).toContainText("Cake");
});

test("says since when the node is away, and shows what it knew", async ({ page, context, stage }) => {
  const [card = ""] = await cards(page, stage);
  const alice = await Attendee.open(context, card);
  await stage.ask({ do: "end_environments" });
  const away = alice.page.getByText(/^No answer from the node since \d\d:\d\d\./);
  await expect(away).toBeVisible({ timeout: 60_000 });
  await alice.page.reload();
  await expect(away).toBeVisible({ timeout: 60_000 });
  await expect(alice.page.getByTestId("on-chain")).toHaveText("100,000,000 sat");
  // What is asked for meanwhile is answered, by the page itself.
  await touch(alice.button(/Receive$/));
  await touch(alice.button("Make an invoice"));
  await expect(alice.page.getByRole("alert")).toContainText("No answer came", { timeout: 30_000 });
  // A page without a card leads back to it.
  await alice.page.goto(`${stage.url}/connect`);
  await touch(alice.page.getByRole("link", { name: "Alice" }));
  await expect(alice.page.getByTestId("node-name")).toHaveText("Alice");
});

test("goes on by itself when its node was off and is on again", async ({ page, context, stage }) => {
  const [card = ""] = await cards(page, stage);
  const id = new URL(page.url()).pathname.split("/").at(-1);
  const desk = (action: string): Promise<any> =>
    stage.ask({ do: "call", method: "lnplaylive-desk", params: { invoice_id: id, action, node: 0 } });
  const alice = await Attendee.open(context, card);
  const tab = await Attendee.open(context, card);
  await desk("switch_off");
  const away = (of: Attendee): Locator => of.page.getByText(/^No answer from the node since/);
  for (const one of [alice, tab]) await expect(away(one)).toBeVisible({ timeout: 60_000 });
  await desk("switch_on");
  for (const one of [alice, tab]) await expect(away(one)).toBeHidden({ timeout: 60_000 });
  // Nothing was reloaded, and the node is the same.
  await expect(alice.page.getByTestId("on-chain")).toHaveText("100,000,000 sat");
  expect(await alice.invoice(21_000, "Cake")).toMatch(/^lnbcrt/);
  await expect(tab.page.getByTestId("node-name")).toHaveText("Alice");
});

test("no page loads much before it can be used", async ({ page, context, stage }) => {
  const [card = ""] = await cards(page, stage);
  const browser = context.browser();
  if (browser === null) throw new Error("the browser is gone");
  const urls = [`${stage.url}/`, page.url(), `${page.url()}/wall`, `${stage.url}/guide/class`, card];
  for (const [url, locale] of urls.flatMap((url) => [[url, "en-US"], [url, "es-ES"]] as const)) {
    const visitor = await browser.newContext({ locale });
    const tab = await visitor.newPage();
    const sizes: Promise<number>[] = [];
    tab.on("requestfinished", (request) => {
      if (request.url().startsWith(stage.url)) sizes.push(request.sizes().then((size) => size.responseBodySize));
    });
    await tab.goto(url, { waitUntil: "networkidle" });
    const loaded = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
    test.info().annotations.push({ type: "first load", description: `${new URL(url).pathname.replace(/lnplaylive-[^/]*/, "…")} in ${locale}: ${loaded} bytes` });
    expect(loaded, `first load of ${new URL(url).pathname}`).toBeGreaterThan(10_000);
    expect(loaded, `first load of ${new URL(url).pathname}`).toBeLessThan(FIRST_LOAD);
    await visitor.close();
  }
});
