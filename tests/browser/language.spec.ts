// The pages in Spanish, in the reader's choice of a language, and from right to left.

import { accessible, expect, fits, test } from "./fixtures.ts";
import { cards, download, heading, links } from "./shop.ts";
import { printedText } from "./qr.ts";
import type { BrowserContext, Page } from "@playwright/test";
import type { Stage } from "./stage.ts";

test.use({ locale: "es-ES" });

/**
 * What is the same in both languages: names of nodes and products, units, methods, and what the reader has typed. Only whole
 * texts of a page count, so a sentence that is left in English shows.
 */
const NAMES = /^(lnplay|\.live|English|Español|A4|CSV|JSON|Core Lightning|Clams Remote|regtest|getinfo|v?\d\S*|[0-9a-f]{20,}|https?:\S*|ln\w+1\S+|\S+@\S+)$/;

/** All texts of a page, whether they can be seen or are for screen readers, that have words. */
async function said(page: Page): Promise<Set<string>> {
  const texts = await page.evaluate(() => {
    const found: string[] = [document.title];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node !== null; node = walk.nextNode()) {
      if (node.parentElement?.closest("script, noscript, style, code, [lang]") === null) found.push(node.textContent ?? "");
    }
    for (const element of document.querySelectorAll("[aria-label], [placeholder], [title], [aria-valuetext], meta[name=description]")) {
      // A method of Core Lightning, with its usage.
      if (element.querySelector(":scope > code") !== null) continue;
      for (const name of ["aria-label", "placeholder", "title", "aria-valuetext", "content"]) {
        const text = element.getAttribute(name);
        if (text !== null) found.push(text);
      }
    }
    return found;
  });
  return new Set(texts.map((text) => text.replace(/\s+/g, " ").trim()).filter((text) => /\p{L}{2}/u.test(text)));
}

/** Waits until the page is in a language, also what comes with a change of it. */
async function isIn(page: Page, language: "es" | "en"): Promise<void> {
  await expect(page.locator("html")).toHaveAttribute("lang", language);
}

/** Changes the language in the footer of a page, which changes it in all tabs. */
async function choose(page: Page, language: "es" | "en"): Promise<void> {
  await page.getByRole("combobox", { name: /^(Language|Idioma)$/ }).selectOption(language);
  await isIn(page, language);
}

/** Asserts that the page, which is in Spanish, has no text in common with itself in English; and that it can be used by all. */
async function isTranslated(page: Page, settings: Page, names: ReadonlySet<string> = new Set()): Promise<void> {
  await isIn(page, "es");
  const spanish = await said(page);
  await choose(settings, "en");
  await isIn(page, "en");
  const english = await said(page);
  await choose(settings, "es");
  await isIn(page, "es");
  const where = new URL(page.url()).pathname;
  expect(spanish.size, where).toBeGreaterThan(3);
  expect([...spanish].filter((text) => english.has(text) && !NAMES.test(text) && !names.has(text)), `in English at ${where}`).toEqual([]);
  await accessible(page);
  await fits(page);
  // As in Arabic or Hebrew: the page is as wide as before.
  await page.evaluate(() => (document.documentElement.dir = "rtl"));
  await fits(page);
  await page.evaluate(() => (document.documentElement.dir = "ltr"));
}

/** A tab in which the language is changed. */
async function settingsOf(context: BrowserContext, stage: Stage): Promise<Page> {
  const settings = await context.newPage();
  await settings.goto(`${stage.url}/orders`);
  await isIn(settings, "es");
  return settings;
}

/** Buys eight nodes with channels in a circle, in Spanish; the page shows the order's page when they are ready. */
async function buy(page: Page, stage: Stage): Promise<void> {
  await page.goto(`${stage.url}/order`);
  await page.getByRole("radio", { name: "8 nodos" }).check({ force: true });
  await page.getByRole("spinbutton", { name: "horas" }).fill("48");
  await page.getByText("Más opciones").click();
  await page.getByLabel("Canales al empezar").selectOption("circular");
  await page.getByRole("button", { name: "Obtener la factura" }).click();
  await page.getByRole("button", { name: "Pagar con la billetera de demostración" }).click();
  await expect(heading(page)).toHaveText("Tu red está lista", { timeout: 90_000 });
  await expect(cards(page)).toHaveCount(8);
}

/** The names of the nodes on the page of an order. */
async function nodeNames(page: Page): Promise<Set<string>> {
  return new Set(await cards(page).getByRole("heading").allTextContents());
}

test("a browser in Spanish sees the shop in Spanish @phone", async ({ page, context, stage }) => {
  test.setTimeout(240_000);
  const settings = await settingsOf(context, stage);
  await isTranslated(settings, settings);
  await page.goto(`${stage.url}/`);
  await expect(heading(page)).toHaveText("Una red Lightning para todos los de la sala");
  await expect(page.getByRole("button", { name: "Obtener la factura" })).toBeEnabled();
  await page.getByRole("radio", { name: "8 nodos" }).check({ force: true });
  await page.getByRole("spinbutton", { name: "horas" }).fill("48");
  await expect(page.locator("output.price")).toContainText("76.800 sats");
  await expect(page.locator("output.price")).toContainText("8 nodos durante 2 días");
  await page.getByText("Más opciones").click();
  await isTranslated(page, settings);
  await page.goto(`${stage.url}/nothing`);
  await isTranslated(page, settings);
  await page.goto(`${stage.url}/order`);
  await isTranslated(page, settings);
  await page.getByRole("button", { name: "Obtener la factura" }).click();
  await expect(page.getByTestId("bolt11")).toHaveText(/^lnbcrt/);
  await isTranslated(page, settings, new Set([(await page.getByTestId("bolt11").textContent()) ?? ""]));
});

test("an order, its cards, the wall and the lesson plans are in Spanish @phone", async ({ page, context, stage }) => {
  test.setTimeout(360_000);
  const settings = await settingsOf(context, stage);
  await buy(page, stage);
  const names = await nodeNames(page);
  await expect(page.getByTestId("desk").getByText(/^Bloque [\d.]+\.$/)).toBeVisible({ timeout: 60_000 });
  await isTranslated(page, settings, names);
  const printed = await printedText(await download(page, "Tarjetas en PDF"));
  expect(printed).toContain("Escanea con la cámara del teléfono");
  expect(printed).toContain("NODO 8 DE 8");
  await choose(settings, "en");
  expect(await printedText(await download(page, "Cards as PDF"))).toContain("Scan with your phone’s camera");
  await choose(settings, "es");

  await page.getByRole("link", { name: "Mostrar la sala en la pantalla" }).click();
  await expect(page.getByTestId("wall-nodes").locator("[data-presence=here]")).toHaveCount(8, { timeout: 60_000 });
  await expect(page.getByRole("img", { name: "8 nodos y 8 canales" })).toBeVisible({ timeout: 60_000 });
  await isTranslated(page, settings, names);

  for (const plan of ["", "/meetup", "/class", "/game"]) {
    await page.goto(`${stage.url}/guide${plan}`);
    await isTranslated(page, settings);
  }
});

test("the wallet is in Spanish, and its language can be chosen there @phone", async ({ page, context, stage }) => {
  test.setTimeout(360_000);
  const settings = await settingsOf(context, stage);
  await buy(page, stage);
  const names = await nodeNames(page);
  const [card = ""] = await links(page, /^Abrir/);
  const wallet = await context.newPage();
  await wallet.goto(card);
  await expect(wallet.getByTestId("in-channels")).toBeVisible();
  await isTranslated(wallet, settings, names);
  const tab = (name: string) => wallet.getByRole("navigation", { name: "Billetera" }).getByRole("button", { name }).click();
  const press = (name: string | RegExp) => wallet.getByRole("button", { name }).first().click();
  const title = (text: string) => expect(heading(wallet)).toHaveText(text);

  await press(/Pagar$/);
  await title("Pagar");
  await isTranslated(wallet, settings, names);
  await wallet.getByRole("textbox", { name: "Factura, oferta o id de nodo" }).fill("x");
  await press("Continuar");
  await expect(wallet.getByRole("alert")).toContainText("no es una factura");
  await tab("Inicio");
  await press(/Recibir$/);
  await wallet.getByRole("textbox", { name: "Importe" }).fill("1.000");
  await press("Crear una factura");
  await expect(wallet.getByTestId("request")).toHaveText(/^ln/);
  await tab("Inicio");
  await press(/Recibir$/);
  await isTranslated(wallet, settings, new Set([...names, "Un pago"]));
  for (const [name, opens] of [["Canales", "Abrir un canal"], ["Canales", "Mover liquidez"], ["Historial", null], ["Misiones", null]] as const) {
    await tab(name);
    await title(name);
    await isTranslated(wallet, settings, names);
    if (opens === null) continue;
    await press(opens);
    await title(opens);
    await isTranslated(wallet, settings, names);
  }
  await tab("Canales");
  await wallet.getByTestId("channel").first().click();
  await expect(heading(wallet)).toHaveText(/^Canal con/);
  await isTranslated(wallet, settings, names);
  for (const [name, shown] of [[/^En la cadena/, "En la cadena"], [/^Consola/, "Consola"], [/^Abrir en otra billetera/, "Abrir en otra billetera"]] as const) {
    await tab("Más");
    await title("Más");
    await press(name);
    await title(shown);
    await isTranslated(wallet, settings, names);
  }

  await tab("Más");
  await isTranslated(wallet, settings, names);
  await choose(wallet, "en");
  await title("More");
  await isIn(page, "en");
  await expect(heading(page)).toHaveText("Your network is ready");
  await wallet.goto(`${stage.url}/connect#address=nothing`);
  await wallet.reload();
  await title("This link does not lead to a node");
  await choose(wallet, "es");
  await expect(wallet.getByText("no nombra ningún nodo")).toBeVisible();
});

test("the choice is kept, and only the reader's language is loaded", async ({ page, stage }) => {
  const loaded: string[] = [];
  page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
  await page.goto(`${stage.url}/`);
  await isIn(page, "es");
  await expect(page.locator("html")).toHaveAttribute("dir", "ltr");
  const texts = (language: string) => loaded.filter((path) => path.includes(`/text-${language}-`));
  expect(texts("es").length).toBeGreaterThan(0);
  expect(texts("en")).toEqual([]);

  await choose(page, "en");
  await expect(heading(page)).toHaveText("A Lightning network for everyone in the room");
  await page.reload();
  await isIn(page, "en");
  await expect(heading(page)).toHaveText("A Lightning network for everyone in the room");
  await expect(page.getByRole("combobox", { name: "Language" })).toHaveValue("en");
});

test.describe("a browser in another language", () => {
  test.use({ locale: "ja-JP" });

  test("sees English, with the choice of Spanish", async ({ page, stage }) => {
    await page.goto(`${stage.url}/`);
    await isIn(page, "en");
    await choose(page, "es");
    await expect(heading(page)).toHaveText("Una red Lightning para todos los de la sala");
  });
});
