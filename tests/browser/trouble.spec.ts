// Failures: each leads to a helpful sentence, and continues when possible.

import type { Page } from "@playwright/test";
import { accessible, expect, fits, test } from "./fixtures.ts";
import { cards, heading, invoice, links, order, orderButton, orderOn, pay, ready, visit } from "./shop.ts";
import type { Stage } from "./stage.ts";

test("the node goes down and comes back", async ({ page, stage }) => {
  await visit(page, stage);
  await stage.ask({ do: "stop_node" });
  await expect(page.getByText(/Connection lost|Reconnecting/i).first()).toBeVisible();
  await stage.ask({ do: "start_node" });
  await expect(page.getByText(/Connection lost|Reconnecting/i)).toHaveCount(0, { timeout: 60_000 });
  // A node that has just started says for a second that it is not synchronised, and an order is refused meanwhile.
  await expect(async () => {
    await orderButton(page).click();
    await expect(page.getByTestId("bolt11")).toHaveText(/^lnbcrt/, { timeout: 5000 });
  }).toPass({ timeout: 60_000 });
});

test("a shop whose node synchronises opens by itself", async ({ page, stage }) => {
  await stage.ask({ do: "lose_sync" });
  await page.goto(`${stage.url}/`);
  const notice = page.getByTestId("opening-soon");
  await expect(notice).toContainText(/Opening soon.*catching up with the network: \d+ of \d+ blocks so far\./s, { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Opening soon" })).toBeDisabled();
  await accessible(page);
  await fits(page);
  await stage.ask({ do: "mine" });
  // Nobody has to load the page again.
  await expect(orderButton(page)).toBeEnabled({ timeout: 60_000 });
  await expect(notice).toHaveCount(0);
  await orderButton(page).click();
  await invoice(page);
});

test("a shop whose node has never started", async ({ page, stage }) => {
  const starting = { status: 503, json: { error: "later", kind: "starting" } };
  await page.route("**/config.json", (route) => route.fulfill(starting));
  await page.goto(`${stage.url}/`);
  await expect(page.getByTestId("opening-soon")).toContainText("node is starting");
  await accessible(page);
  await page.unroute("**/config.json");
  await expect(orderButton(page)).toBeEnabled({ timeout: 60_000 });
});

test("sizes and hours that the node cannot be paid for", async ({ page, stage }) => {
  await page.route("**/products", async (route) => {
    const answer = await (await route.fetch()).json();
    for (const product of answer.products) product.payable_hours = product.sku === "A" ? 10 : 0;
    await route.fulfill({ json: answer });
  });
  await visit(page, stage);
  const hours = page.getByRole("spinbutton", { name: "hours" });
  await hours.fill("48");
  const notice = page.getByTestId("too-large");
  await expect(notice).toContainText("8 nodes for 2 days cost more than");
  await expect(notice).toContainText("Up to 10 hours are possible");
  await expect(page.getByRole("button", { name: "Too large right now" })).toBeDisabled();
  await accessible(page);
  await hours.fill("10");
  await expect(orderButton(page)).toBeEnabled();
  await page.getByRole("radio", { name: "64 nodes, not payable right now" }).check({ force: true });
  await expect(notice).toContainText("A smaller size may be possible.");
  await expect(page.getByText("Not payable right now").first()).toBeVisible();
  await accessible(page);
});

test("an order that is being paid survives the node's absence", async ({ page, stage }) => {
  const bolt11 = await order(page, stage);
  await stage.ask({ do: "stop_node" });
  await stage.ask({ do: "start_node" });
  await stage.ask({ do: "pay", bolt11 });
  await expect(page).toHaveURL(/\/orders\/lnplaylive-/, { timeout: 60_000 });
  await ready(page);
});

test("two people order in the same second", async ({ page, browser, stage }) => {
  const other = await (await browser.newContext()).newPage();
  await Promise.all([visit(page, stage), visit(other, stage)]);
  await Promise.all([orderButton(page).click(), orderButton(other).click()]);
  const invoices = await Promise.all([invoice(page), invoice(other)]);
  expect(new Set(invoices).size).toBe(2);
  await other.context().close();
});

/** Pays for a network while the creation of environments fails. */
async function undelivered(page: Page, stage: Stage): Promise<void> {
  await order(page, stage);
  await stage.ask({ do: "break_remote" });
  try {
    await pay(page);
    await expect(heading(page)).toHaveText("Paid, but not delivered", { timeout: 60_000 });
  } finally {
    await stage.ask({ do: "mend_remote" });
  }
}

test("a network that cannot be made", async ({ page, stage }) => {
  await undelivered(page, stage);
  await expect(page.getByRole("main").getByRole("link", { name: "help@shop.example" })).toBeVisible();
  await accessible(page);
  await stage.ask({ do: "call", method: "lnplayops-retry", params: { invoice_id: orderOn(page) } });
  await ready(page);
});

test("a network that cannot be made and is paid back", async ({ page, stage }) => {
  await undelivered(page, stage);
  const refund = { invoice_id: orderOn(page), note: "by hand" };
  await stage.ask({ do: "call", method: "lnplayops-refunded", params: refund });
  await expect(heading(page)).toHaveText("Not delivered, and paid back");
  await expect(page.getByText(/Your payment was paid back on \w+ \d+, \d{4}\./)).toBeVisible();
  await expect(page.getByText("by hand")).toHaveCount(0);
  await accessible(page);
});

test("a node that is down for good, and a network that is replaced", async ({ page, stage }) => {
  await order(page, stage);
  await pay(page);
  await ready(page);
  const old = await links(page);
  const name = await cards(page).nth(2).getByRole("heading").textContent();
  await stage.ask({ do: "ruin_node", index: 2 });
  const health = page.getByTestId("health");
  await expect(health).toContainText(`The node ${name} does not answer at the moment.`, { timeout: 60_000 });
  await expect(health.getByRole("link", { name: "help@shop.example" })).toBeVisible();
  await accessible(page);

  await stage.ask({ do: "call", method: "lnplayops-replace", params: { invoice_id: orderOn(page) } });
  await expect(heading(page)).toHaveText("Your network is being replaced");
  expect(await links(page)).toEqual(old);
  await accessible(page);
  await ready(page);
  await expect(page.getByText("This network replaced the one before")).toBeVisible();
  await expect(health).toHaveCount(0);
  expect((await links(page)).filter((link) => old.includes(link))).toEqual([]);

  const refund = { invoice_id: orderOn(page), note: "by hand" };
  await stage.ask({ do: "call", method: "lnplayops-refunded", params: refund });
  await expect(page.getByText(/Your payment was paid back on .*\d{4}\./)).toBeVisible();
  await expect(cards(page)).toHaveCount(8);
});

test("a wallet in the browser", async ({ page, stage }) => {
  const said: string[] = [];
  await page.exposeFunction("payInWallet", async (bolt11: string) => {
    said.push(bolt11);
    if (said.length === 1) throw new Error("the user said no");
    await stage.ask({ do: "pay", bolt11 });
  });
  await page.addInitScript(() => {
    const { payInWallet } = window as unknown as { payInWallet: (bolt11: string) => Promise<void> };
    Object.assign(window, { webln: { enable: async () => {}, sendPayment: payInWallet } });
  });
  const bolt11 = await order(page, stage);
  const button = page.getByRole("button", { name: "Pay in this browser" });
  await button.click();
  await expect(page.getByRole("alert")).toHaveText(/wallet in this browser did not pay/);
  await button.click();
  await ready(page);
  expect(said).toEqual([bolt11, bolt11]);
});

test("a payment that does not work", async ({ page, stage }) => {
  await order(page, stage);
  await page.route("**/demo/pay", (route) =>
    route.fulfill({ status: 502, json: { error: "The demo's customer has no coins left." } }),
  );
  await page.getByRole("button", { name: "Pay with the demo wallet" }).click();
  await expect(page.getByRole("alert")).toHaveText("The demo's customer has no coins left.");
});

test("a node that is another one than it should be", async ({ page, stage }) => {
  await page.route("**/config.json", async (route) => {
    const config = await (await route.fetch()).json();
    await route.fulfill({ json: { ...config, node_id: `02${"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"}` } });
  });
  await page.goto(`${stage.url}/`);
  await expect(page.getByText(/not as the node we know/)).toBeVisible();
});

test("no config.json", async ({ page, stage }) => {
  await page.route("**/config.json", (route) => route.abort());
  await page.goto(`${stage.url}/`);
  await expect(page.getByText(/server cannot be reached right now/).first()).toBeVisible();
  await page.unroute("**/config.json");
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(orderButton(page)).toBeEnabled();
});

for (const [what, path, title] of [
  ["rubbish for an order", "/orders/%F0%9F%92%A9", "There is no such order"],
  ["a path that climbs", "/orders/..%2f..%2fetc%2fpasswd", "There is no such order"],
  ["an order that is none", "/orders/lnplaylive-00000000-0000-4000-8000-000000000000", "There is no such order"],
  ["a link without a node", "/connect", "This link does not lead to a node"],
  ["a link with rubbish", "/connect#address=rubbish", "This link does not lead to a node"],
] as const) {
  test(`${what} is told`, async ({ page, stage }) => {
    await page.goto(stage.url + path);
    await expect(heading(page)).toHaveText(title);
    await accessible(page);
  });
}

test("somebody's invoice that is no order stays theirs", async ({ page, stage }) => {
  const params = { amount_msat: 1000, label: "coffee", description: "secret coffee" };
  await stage.ask({ do: "call", method: "invoice", params });
  await page.goto(`${stage.url}/orders/coffee`);
  await expect(heading(page)).toHaveText("There is no such order");
  await expect(page.getByText("secret")).toHaveCount(0);
});

test("a page that is not there", async ({ page, stage }) => {
  const answer = await page.goto(`${stage.url}/nothing/here`);
  expect(answer?.status()).toBe(404);
  await expect(page.locator("body")).not.toBeEmpty();
});

test("an environment whose node does not answer", async ({ page, stage }) => {
  const id = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
  await page.goto(`${stage.url}/connect#address=${id}@127.0.0.1:9&type=direct&value=ws:&rune=AAAA&name=Alice&color=df2020`);
  await expect(page.getByText("The node does not answer yet.")).toBeVisible();
  await accessible(page);
});
