// What an attendee does with the wallet behind a card, in the words of the pages. By touch where the device has it.

import { type BrowserContext, type Locator, type Page, expect } from "@playwright/test";

/** A part of the wallet that the bar leads to. */
export type Tab = "Home" | "Channels" | "History" | "Missions" | "More";

/** Presses what a finger would touch. */
export async function touch(target: Locator): Promise<void> {
  await target.tap();
}

export class Attendee {
  readonly page: Page;
  readonly name: string;

  private constructor(page: Page, name: string) {
    this.page = page;
    this.name = name;
  }

  /** Opens a card. */
  static async open(context: BrowserContext, card: string): Promise<Attendee> {
    const page = await context.newPage();
    await page.goto(card);
    const name = new URLSearchParams(new URL(card).hash.slice(1)).get("name") ?? "";
    await expect(page.getByTestId("node-name")).toHaveText(name);
    await expect(page.getByTestId("in-channels")).toBeVisible();
    return new Attendee(page, name);
  }

  button(name: string | RegExp): Locator {
    return this.page.getByRole("button", typeof name === "string" ? { name, exact: true } : { name });
  }

  async tab(tab: Tab): Promise<void> {
    await touch(this.page.getByRole("navigation", { name: "Wallet" }).getByRole("button", { name: tab }));
  }

  /** A number that the first page shows, in sat. */
  async amount(what: "can-send" | "can-receive" | "in-channels" | "on-chain"): Promise<number> {
    const text = await this.page.getByTestId(what).textContent();
    return Number((text ?? "").replace(/[^0-9.]/g, ""));
  }

  /** Opens a channel of so many sat and returns when everybody has heard of it, or with `isUsable`, when it can be used. */
  async openChannel(to: string, sat: number, { isUsable = false } = {}): Promise<void> {
    await this.tab("Channels");
    await touch(this.button("Open a channel"));
    await touch(this.page.getByRole("group", { name: "With whom?" }).getByRole("button", { name: to }));
    await this.page.getByRole("textbox", { name: "How many coins go in?" }).fill(String(sat));
    await touch(this.button(/^Open with/));
    await touch(this.channel(to));
    const confirming = this.page.getByTestId("confirming");
    await expect(confirming.getByText("In a block: the two of you can use it")).toBeVisible({ timeout: 40_000 });
    if (isUsable) return;
    await expect(confirming.getByText("Everybody knows of it")).toBeVisible({ timeout: 60_000 });
  }

  channel(to: string): Locator {
    return this.page.getByTestId("channel").filter({ hasText: to }).first();
  }

  /** Makes an invoice, and returns its text; the page stays on it. */
  async invoice(sat: number, what: string): Promise<string> {
    await this.tab("Home");
    await touch(this.button(/Receive$/));
    await this.page.getByRole("textbox", { name: "Amount" }).fill(String(sat));
    await this.page.getByRole("textbox", { name: "What for?" }).fill(what);
    await touch(this.button("Make an invoice"));
    return await this.request();
  }

  /** Makes an offer for any amount. */
  async offer(what: string): Promise<string> {
    await this.tab("Home");
    await touch(this.button(/Receive$/));
    await touch(this.page.getByText("can be paid again and again"));
    await this.page.getByRole("textbox", { name: "What for?" }).fill(what);
    await touch(this.button("Make an offer"));
    return await this.request();
  }

  private async request(): Promise<string> {
    const text = this.page.getByTestId("request");
    await expect(text).toHaveText(/^ln/);
    return (await text.textContent()) ?? "";
  }

  /** Reads an invoice, an offer or a node's id. */
  async read(text: string): Promise<void> {
    await this.tab("Home");
    await touch(this.button(/Pay$/));
    await this.page.getByRole("textbox", { name: "Invoice, offer or node id" }).fill(text);
    await touch(this.button("Continue"));
  }

  /** What the others ask the room for. */
  get asks(): Locator {
    return this.page.getByTestId("asks").getByRole("button");
  }

  get pay(): Locator {
    return this.button(/^Pay [\d,]+ sat$/);
  }

  get paid(): Locator {
    return this.page.getByTestId("paid");
  }

  get failure(): Locator {
    return this.page.getByTestId("failure");
  }

  /** Asserts which missions are ticked off. */
  async hasDone(...missions: string[]): Promise<void> {
    await this.tab("Missions");
    for (const mission of missions) {
      await expect(this.page.getByTestId(`mission-${mission}`), `${this.name}: ${mission}`).toHaveAttribute("data-done", "true");
    }
  }
}
