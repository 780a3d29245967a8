// Unpaid invoices, in a shop of its own whose invoices expire as soon as possible.

import { expect, test as base } from "./fixtures.ts";
import { heading, invoice, order, orderButton } from "./shop.ts";
import { Stage } from "./stage.ts";

const test = base.extend<object, { hasty: Stage }>({
  hasty: [
    async ({}, use) => {
      const stage = await Stage.open("--invoice-expiry", "12");
      await use(stage);
      await stage.close();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

test("an invoice expires, and another one can be made", async ({ page, hasty }) => {
  const bolt11 = await order(page, hasty);
  await expect(heading(page)).toHaveText("This invoice has expired", { timeout: 60_000 });
  await page.getByRole("button", { name: "Make a new invoice" }).click();
  await orderButton(page).click();
  expect(await invoice(page)).not.toBe(bolt11);
});
