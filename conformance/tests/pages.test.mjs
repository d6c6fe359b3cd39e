// The pages for people in a real browser: from `tollgate dev` to credits that were bought, and back.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { file, openBrowser, picture } from "../harness/chromium.mjs";
import { startDev } from "../harness/dev.mjs";

const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const PATIENCE_MS = 20_000;

describe("the pages in Chromium", { skip: file ? false : "SKIPPED: there is no Chromium; install it or set TOLLGATE_TEST_CHROMIUM" }, () => {
  let dev, browser;
  before(async () => {
    dev = await startDev();
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await dev?.stop();
  });

  /** A person at a browser of their own. What the console complains about fails the test. */
  async function person(t, options = {}) {
    const context = await browser.newContext(options);
    t.after(() => context.close());
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => {
      // Chromium itself reports refused forms (4xx) as errors.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    return { page, complaints };
  }

  let count = 0;
  async function signUp(page) {
    await page.goto(`${dev.base_url}/billing`);
    await page.getByRole("link", { name: "Make an account" }).click();
    await page.getByLabel("E-mail address").fill(`person-${process.pid}-${(count += 1)}@example.test`);
    await page.getByLabel("Password").fill("correct horse battery staple");
    await page.getByRole("button", { name: "Make the account" }).click();
    await page.waitForURL(`${dev.base_url}/billing`);
  }

  /** Looks again until the balance is this one. */
  async function balanceBecomes(page, expected) {
    const until = Date.now() + PATIENCE_MS;
    let found;
    while (Date.now() < until) {
      await page.goto(`${dev.base_url}/billing`);
      found = await page.locator("#available").innerText();
      if (found === String(expected)) return;
    }
    assert.equal(found, String(expected));
  }

  async function buy(page, means) {
    await page.getByRole("button", { name: "Buy 500 credits for 10.00 USD" }).click();
    await page.waitForURL(`${dev.till}/**`);
    await page.getByRole("button", { name: means, exact: true }).click();
  }

  for (const javaScriptEnabled of [true, false]) {
    test(`a pack is bought at the till, the balance rises, and a refund lets it fall, ${javaScriptEnabled ? "with" : "without"} JavaScript`, async (t) => {
      const { page, complaints } = await person(t, { javaScriptEnabled });
      const suffix = javaScriptEnabled ? "" : "-without-javascript";
      // Whoever is not signed in comes back after the sign-in.
      await page.goto(`${dev.base_url}/billing`);
      await page.waitForURL(`${dev.base_url}/sign-in?callbackURL=**`);
      await picture(page, `sign-in${suffix}`);
      await page.getByLabel("E-mail address").fill(dev.users[0]);
      await page.getByLabel("Password").fill("not the password");
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("alert").filter({ hasText: "The address or the password is wrong" }).waitFor();
      await picture(page, `sign-in-refused${suffix}`);
      await page.getByLabel("Password").fill(dev.password);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.waitForURL(`${dev.base_url}/billing`);
      assert.equal(await page.locator("#available").innerText(), "0");
      await picture(page, `billing${suffix}`);

      await buy(page, "Pay");
      await page.waitForURL(`${dev.base_url}/billing?checkout=cs_test_**`);
      await page.getByText("Paid. 500 credits are yours.").waitFor();
      await picture(page, `billing-paid${suffix}`);
      await balanceBecomes(page, 500);

      const till = await page.context().newPage();
      await till.goto(dev.till);
      await till.getByRole("button", { name: "Refund all that is left" }).first().click();
      await till.waitForURL(`${dev.till}/`);
      await balanceBecomes(page, 0);
      await page.getByText("Taken back").first().waitFor();
      await picture(page, `billing-refunded${suffix}`);

      await page.getByRole("button", { name: "Sign out" }).click();
      await page.waitForURL(`${dev.base_url}/sign-in`);
      assert.deepEqual(complaints, []);
    });
  }

  test("a card that is declined, a bank that takes its time, and a plan", async (t) => {
    const { page, complaints } = await person(t);
    await signUp(page);
    await buy(page, "Card is declined");
    await page.getByRole("button", { name: "Pay", exact: true }).waitFor();
    await page.getByRole("link", { name: "Cancel and go back" }).click();
    await page.waitForURL(`${dev.base_url}/billing`);
    await buy(page, "Bank debit, paid in days");
    await page.getByText("Your bank is working on it").waitFor();
    await picture(page, "billing-delayed");
    assert.equal(await page.locator("#available").innerText(), "0");

    await page.getByRole("button", { name: "Subscribe to basic" }).click();
    await page.waitForURL(`${dev.till}/**`);
    await page.getByRole("button", { name: "Pay", exact: true }).click();
    await page.waitForURL(`${dev.base_url}/billing?checkout=**`);
    await balanceBecomes(page, 1000);
    await page.getByText("basic runs, next payment on").waitFor();
    await picture(page, "billing-with-plan");
    await page.getByRole("button", { name: "Plan, cards and invoices" }).click();
    await page.waitForURL(`${dev.till}/portal/**`);
    assert.deepEqual(complaints, []);
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`nobody is shut out: contrast, names, and a narrow screen (${colorScheme})`, async (t) => {
      const { page } = await person(t, { colorScheme, viewport: { width: 320, height: 640 } });
      for (const where of ["/sign-in", "/sign-up"]) {
        await page.goto(`${dev.base_url}${where}`);
        await looksRight(page, `${where.slice(1)}-${colorScheme}-320`);
      }
      await signUp(page);
      await looksRight(page, `billing-${colorScheme}-320`);
      for (const text of ["Pay", "Bank debit, paid in days"]) {
        await buy(page, text);
        await page.getByRole("status").waitFor();
        await looksRight(page, `billing-${text === "Pay" ? "paid" : "delayed"}-${colorScheme}-320`);
      }
      await page.setViewportSize({ width: 1280, height: 800 });
      await looksRight(page, `billing-${colorScheme}-1280`);
      await page.goto(`${dev.base_url}/billing?checkout=cs_absent`);
      await looksRight(page, `billing-unknown-${colorScheme}`);
      await page.goto(`${dev.base_url}/assets/absent`);
      await looksRight(page, `problem-${colorScheme}`);
    });
  }

  async function looksRight(page, name) {
    await picture(page, name);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, `${name} is wider than the screen`);
    const { violations } = await new AxeBuilder({ page }).withTags(RULES).analyze();
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
    assert.deepEqual(told, [], name);
  }
});
