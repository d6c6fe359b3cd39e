// How sessions live on, and several of them in one browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { data, onEveryEngine, refusal, signUp } from "../harness/suite.mjs";

onEveryEngine("several accounts in one browser", (server) => {
  async function twoAccounts() {
    const browser = new Browser(server);
    const first = await signUp(browser);
    const second = await signUp(browser);
    return { browser, first, second };
  }
  const current = async (browser) => (await data(browser.client.getSession()))?.user.email;

  test("both are listed, and the active one is chosen", async () => {
    const { browser, first, second } = await twoAccounts();
    const list = await data(browser.client.multiSession.listDeviceSessions());
    assert.deepEqual(list.map(({ user }) => user.email).sort(), [first.email, second.email].sort());
    assert.equal(await current(browser), second.email);
    await data(browser.client.multiSession.setActive({ sessionToken: first.token }));
    assert.equal(await current(browser), first.email);
  });

  test("when the active one ends, the other takes over", async () => {
    const { browser, first, second } = await twoAccounts();
    await data(browser.client.multiSession.revoke({ sessionToken: second.token }));
    assert.equal(await current(browser), first.email);
  });

  test("signing out ends both", async () => {
    const { browser } = await twoAccounts();
    await data(browser.client.signOut());
    assert.equal(await current(browser), undefined);
    assert.deepEqual(await data(browser.client.multiSession.listDeviceSessions()), []);
  });

  test("a session of another browser cannot be chosen", async () => {
    const { first } = await twoAccounts();
    const { browser } = await twoAccounts();
    const chosen = browser.client.multiSession.setActive({ sessionToken: first.token });
    assert.deepEqual(await refusal(chosen), { status: 401, code: "INVALID_SESSION_TOKEN" });
  });
});

// With an update age of nothing every session is due at once, so no clock has to be moved.
const due = { session: { update_age: "0s" } };

onEveryEngine(
  "a session in use",
  (server) => {
    test("is extended by being read, with a new cookie", async () => {
      const browser = new Browser(server);
      await signUp(browser);
      const { session } = await data(browser.client.getSession());
      const answer = await browser.fetch("/api/auth/get-session");
      assert.match(answer.headers.getSetCookie().join("\n"), /^better-auth\.session_token=[^;]+; Max-Age=604800;/m);
      assert.ok(Date.parse((await answer.json()).session.expiresAt) >= session.expiresAt.getTime());
    });

    test("is left alone where the caller says so", async () => {
      const browser = new Browser(server);
      await signUp(browser);
      const answer = await browser.fetch("/api/auth/get-session?disableRefresh=true");
      assert.deepEqual(answer.headers.getSetCookie(), []);
    });
  },
  due,
);

onEveryEngine(
  "a session whose extension is deferred",
  (server) => {
    test("is extended by POST alone", async () => {
      const browser = new Browser(server);
      await signUp(browser);
      const read = await browser.fetch("/api/auth/get-session");
      assert.deepEqual(read.headers.getSetCookie(), []);
      assert.equal((await read.json()).needsRefresh, true);
      const written = await browser.fetch("/api/auth/get-session", { method: "POST" });
      assert.equal(written.headers.getSetCookie().length, 1);
      assert.ok(!("needsRefresh" in (await written.json())));
    });
  },
  { session: { ...due.session, defer_refresh: true } },
);

onEveryEngine(
  "a session without use",
  (server) => {
    test("ends, and its cookies are cleared", async () => {
      const browser = new Browser(server);
      await signUp(browser);
      await until(async () => (await data(browser.client.getSession())) === null);
      assert.equal(browser.cookie("better-auth.session_token"), undefined);
    });
  },
  { session: { expires_in: "1s", update_age: "1s" } },
);

/** Asks again until the answer is yes. */
async function until(holds) {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error("it did not come about within 10 s");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
