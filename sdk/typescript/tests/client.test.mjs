// The plugins in the stock better-auth client, against the running binary.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { billingClient, creditsClient, guestClient } from "@tollgate/client";
import { createAuthClient } from "better-auth/client";
import { Browser } from "../../../conformance/harness/browser.mjs";
import { startDev } from "../../../conformance/harness/dev.mjs";
import { data, freshAddress, onEveryEngine, PASSWORD } from "../../../conformance/harness/suite.mjs";

/** A browser whose page uses the plugins. */
function open(server) {
  const browser = new Browser(server);
  const client = createAuthClient({
    baseURL: server.baseURL,
    fetchOptions: { customFetchImpl: (input, init) => browser.fetch(input, init) },
    plugins: [creditsClient(), billingClient(), guestClient()],
  });
  return { browser, client };
}

const signUp = (client, email = freshAddress()) => data(client.signUp.email({ email, password: PASSWORD, name: "Ada" }));

onEveryEngine(
  "credits and guests in the browser",
  (server) => {
    test("balance, history and usage are the user's own, with dates as dates", async () => {
      const { client } = open(server);
      await signUp(client);
      const balance = await data(client.credits.balance());
      assert.deepEqual([balance.available, balance.grants.length], [25, 1]);
      const { items, nextCursor } = await data(client.credits.history({ kind: ["grant", "debit"], limit: 5 }));
      assert.deepEqual([items.length, items[0].kind, items[0].amount, nextCursor], [1, "grant", 25, null]);
      assert.ok(items[0].createdAt instanceof Date);
      const usage = await data(client.credits.usage({ group: "feature" }));
      assert.deepEqual([usage.items, usage.total], [[], 0]);
    });

    test("the hook's store follows sign-in and what the backend spends", async () => {
      const { client, browser } = open(server);
      const seen = [];
      // What a hook of React, Vue or Svelte subscribes to.
      const store = client.$store.atoms.credits;
      const stop = store.subscribe((state) => seen.push(state.data?.available ?? null));
      const until = async (wanted) => {
        const clock = Date.now();
        while (seen.at(-1) !== wanted) {
          assert.ok(Date.now() - clock < 10_000, `the hook shows ${seen.at(-1)} instead of ${wanted}`);
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const { user } = await signUp(client);
      // Hooks ask by themselves where there is a window; here somebody has to.
      await store.get().refetch();
      await until(25);
      const key = JSON.parse(await server.run("key", "create", `hook-${user.id}`, "--json")).key;
      const spent = await fetch(`${server.baseURL}/api/credits/debits`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json", "idempotency-key": "1" },
        body: JSON.stringify({ user_id: user.id, amount: 5 }),
      });
      assert.equal(spent.status, 201);
      await store.get().refetch();
      await until(20);
      assert.ok(browser.cookieNames().length > 0);
      stop();
    });

    test("refusals keep code, status and what is said beside them", async () => {
      const { client } = open(server);
      const { data: nothing, error } = await client.credits.balance();
      assert.deepEqual([nothing, error.status, error.code], [null, 401, "UNAUTHORIZED"]);
      await signUp(client);
      const wrong = await client.credits.balance({ unit: "gold" });
      assert.equal(wrong.error.status, 400);
      const shut = await client.billing.checkout({ price: "small" });
      assert.deepEqual([shut.error.status, shut.error.code], [404, "BILLING_NOT_CONFIGURED"]);
    });

    test("a visitor becomes a guest once and sees what is left", async () => {
      const { client, browser } = open(server);
      assert.equal((await client.guest.look()).error.status, 401);
      const guest = await data(client.guest.begin());
      assert.deepEqual(
        guest.allowances.map(({ action, limit, remaining }) => [action, limit, remaining]),
        [["sketch", 2, 2]],
      );
      assert.equal((await data(client.guest.begin())).guest_id, guest.guest_id);
      assert.equal((await data(client.guest.look())).guest_id, guest.guest_id);
      assert.ok(browser.cookie("tollgate.guest"));
    });
  },
  { credits: { signup_grant: 25 }, guest: { allowances: { sketch: 2 } } },
);

describe("billing in the browser", () => {
  let dev;
  before(async () => {
    dev = await startDev();
  });
  after(() => dev?.stop());

  test("a pack is bought at the checkout that the client is sent to, and the status brings the credits", async () => {
    const { client } = open({ baseURL: dev.base_url });
    await signUp(client);
    const { packs } = await data(client.billing.catalog());
    const before = (await data(client.credits.balance())).available;
    const departure = await data(client.billing.checkout({ price: packs[0].name, successUrl: "/back?session={CHECKOUT_SESSION_ID}" }));
    assert.equal(departure.redirect, true);
    const page = await fetch(departure.url);
    assert.equal(page.status, 200);
    const session = new URL(departure.url).pathname.split("/").at(-1);
    assert.equal((await data(client.billing.checkoutStatus(session))).status, "open");
    const form = new URL(/<form[^>]*action="([^"]*pay[^"]*)"/.exec(await page.text())?.[1] ?? "", departure.url);
    const paid = await fetch(form, { method: "POST", redirect: "manual", headers: { "content-type": "application/x-www-form-urlencoded" } });
    assert.ok(paid.status < 400, `${paid.status} ${await paid.text()}`);
    assert.equal((await data(client.billing.checkoutStatus(session))).status, "paid");
    assert.equal((await data(client.credits.balance())).available, before + packs[0].credits);
    assert.equal(await data(client.billing.subscription()), null);
    assert.equal((await data(client.billing.portal())).redirect, true);
    assert.ok(Array.isArray((await data(client.billing.invoices())).items));
  });
});

test("each plugin weighs at most 1 kB", async () => {
  for (const name of ["credits", "billing", "guest"]) {
    const files = [name, "call"].map((file) => readFile(new URL(`../client/dist/${file}.js`, import.meta.url)));
    const weight = gzipSync(Buffer.concat(await Promise.all(files)), { level: 9 }).length;
    assert.ok(weight <= 1_000, `${name} weighs ${weight} bytes`);
  }
});
