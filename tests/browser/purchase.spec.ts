// From the first page to nodes that answer.

import { printed, shown } from "./qr.ts";
import { accessible, expect, fits, test } from "./fixtures.ts";
import { PRICE, cards, download, heading, invoice, links, order, orderButton, pay, ready, visit } from "./shop.ts";

test("buys a network and opens a node @phone", async ({ page, stage }) => {
  await visit(page, stage);
  await fits(page);
  await accessible(page);
  await page.getByRole("radio", { name: "8 nodes" }).check({ force: true });
  await page.getByRole("spinbutton", { name: "hours" }).fill("48");
  await expect(page.locator("output.price")).toContainText(PRICE);
  await orderButton(page).click();

  await expect(page).toHaveURL(`${stage.url}/order`);
  const bolt11 = await invoice(page);
  expect(bolt11).toMatch(/^lnbcrt768u1/);
  await expect(page.getByRole("heading", { name: PRICE })).toBeVisible();
  await expect(page.getByText(/^\d+:\d\d left\.$/)).toBeVisible();
  const wallet = page.getByRole("link", { name: "Open in a wallet", exact: true });
  await expect(wallet).toHaveAttribute("href", `lightning:${bolt11}`);
  const code = await shown(page.getByRole("img", { name: "QR code of the invoice" }));
  expect(code?.toLowerCase().replace(/^lightning:/, "")).toBe(bolt11);
  await page.getByRole("button", { name: "Copy invoice" }).click();
  await expect(page.getByRole("button", { name: "Copied" })).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(bolt11);
  await fits(page);
  await accessible(page);

  await pay(page);
  await expect(page.getByRole("textbox", { name: "Address of this page" })).toHaveValue(page.url());
  await ready(page);
  await expect(page.getByText(/left$/)).toBeVisible();
  const strings = await links(page);
  for (const [index, string] of strings.entries()) {
    expect(await shown(cards(page).nth(index).getByRole("img"))).toBe(string);
  }
  const { nodes } = JSON.parse((await download(page, "JSON")).toString());
  expect(nodes.map((node: { connection_string: string }) => node.connection_string)).toEqual(strings);
  const csv = (await download(page, "CSV")).toString();
  for (const string of strings) expect(csv).toContain(string);
  await page.getByRole("textbox", { name: /^Title/ }).fill("Lightning night");
  const codes = await printed(await download(page, "Cards as PDF"), 8);
  expect(codes).toEqual(new Set(strings));
  await fits(page);
  await accessible(page);

  const attendee = await page.context().newPage();
  const first = strings[0] ?? "";
  await attendee.goto(first);
  const name = new URLSearchParams(new URL(first).hash.slice(1)).get("name") ?? "";
  await expect(heading(attendee)).toHaveText(name);
  await expect(attendee.getByText("100,000,000 sat")).toBeVisible();
  await attendee.getByRole("button", { name: "More" }).click();
  const id = new URLSearchParams(new URL(first).hash.slice(1)).get("address")?.split("@")[0] ?? "";
  await expect(attendee.getByText(id)).toBeVisible();
  await fits(attendee);
  await accessible(attendee);
});

test("can be done with the keyboard alone", async ({ page, stage }) => {
  await visit(page, stage);
  const press = async (key: string, until: () => Promise<boolean>) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await page.keyboard.press(key);
      if (await until()) return;
    }
    throw new Error(`${key} did not lead there`);
  };
  const isOn = (selector: string) => page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);
  await press("Tab", () => isOn("input[name=product]"));
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "16 nodes" })).toBeChecked();
  await page.keyboard.press("ArrowLeft");
  await press("Tab", () => isOn("input[type=number]"));
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("48");
  await press("Tab", () => isOn("button[type=submit]"));
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(`${stage.url}/order`);
  await press("Tab", () => page.evaluate(() => document.activeElement?.textContent?.includes("demo wallet") ?? false));
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\/orders\/lnplaylive-/);
});

test("goes on after a reload, and in a second tab, at every step", async ({ page, context, stage }) => {
  const bolt11 = await order(page, stage);
  await page.reload();
  expect(await invoice(page)).toBe(bolt11);
  const second = await context.newPage();
  await second.goto(`${stage.url}/order`);
  expect(await invoice(second)).toBe(bolt11);

  await pay(page);
  const url = page.url();
  // The other tab shows it, too.
  await expect(second).toHaveURL(url);
  await page.reload();
  const third = await context.newPage();
  await third.goto(url);
  for (const tab of [page, second, third]) await ready(tab);
  const strings = await links(page);
  for (const tab of [second, third]) expect(await links(tab)).toEqual(strings);
  await page.reload();
  await ready(page);
  expect(await links(page)).toEqual(strings);
  // The landing page offers a link back to it.
  await third.goto(`${stage.url}/`);
  await third.getByRole("link", { name: "Back to your order" }).click();
  await expect(third).toHaveURL(url);
});

test("orders again while another order is watched", async ({ page, stage }) => {
  const first = await order(page, stage);
  // Without a reload, so that the page keeps its connections.
  await page.getByRole("banner").getByRole("link").first().click();
  await orderButton(page).click();
  await expect(page).toHaveURL(`${stage.url}/order`);
  await expect(page.getByTestId("bolt11")).not.toHaveText(first);
  expect(await invoice(page)).not.toBe(first);
});

test("sells what was asked for under more options", async ({ page, stage }) => {
  await visit(page, stage);
  await page.getByText("More options").click();
  await page.getByLabel("Channels at the start").selectOption("star");
  await page.getByLabel("Who holds the coins").selectOption("political");
  await page.getByLabel("Title on the cards").fill("Übung Süd");
  const names = ["Ann", "Bob", "Çelik", "Dörte", "Eve", "Frida", "Gus", "Hana"];
  await page.getByLabel(/^Names of the/).fill(names.join(", "));
  await orderButton(page).click();
  await pay(page);
  await ready(page);
  await expect(cards(page).getByRole("heading")).toHaveText(names);
  await expect(page.getByRole("textbox", { name: /^Title/ })).toHaveValue("Übung Süd");
  const hub = await page.context().newPage();
  await hub.goto((await links(page))[0] ?? "");
  await hub.getByRole("navigation", { name: "Wallet" }).getByRole("button", { name: "Channels" }).click();
  await expect(hub.getByTestId("channel")).toHaveCount(7, { timeout: 60_000 });
});

test("prints 64 cards, all of which can be read", async ({ page, stage }) => {
  test.slow();
  await order(page, stage, 64);
  await pay(page);
  await ready(page, 64);
  const strings = await links(page);
  expect(new Set(strings).size).toBe(64);
  for (const paper of ["a4", "letter", "label_4x6"]) {
    await page.getByLabel("Paper").selectOption(paper);
    const codes = await printed(await download(page, "Cards as PDF"), 64);
    expect(codes, paper).toEqual(new Set(strings));
  }
  for (const [index, string] of strings.entries()) {
    expect(await shown(cards(page).nth(index).getByRole("img"))).toBe(string);
  }
});
