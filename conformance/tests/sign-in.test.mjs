// Accounts, sign-in, and the session as the client shows it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { PASSWORD, data, freshAddress, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

onEveryEngine("signing in", (server) => {
  test("a new user is signed in, and signs out", async () => {
    const browser = new Browser(server);
    assert.equal(await data(browser.client.getSession()), null);
    const { user, token, email } = await signUp(browser, `Person.${Date.now()}@Example.test`);
    assert.equal(user.email, email.toLowerCase());
    const seen = await data(browser.client.getSession());
    assert.equal(seen.user.id, user.id);
    assert.equal(seen.session.token, token);
    assert.ok(seen.session.expiresAt instanceof Date);
    assert.ok(browser.cookie("better-auth.session_token"));
    assert.deepEqual(await data(browser.client.signOut()), { success: true });
    assert.equal(await data(browser.client.getSession()), null);
    assert.equal(browser.cookie("better-auth.session_token"), undefined);
  });

  test("a password opens a session in another browser, a wrong one opens none", async () => {
    const { email, user } = await signUp(new Browser(server));
    const browser = new Browser(server);
    const wrong = browser.client.signIn.email({ email, password: "not the right one" });
    assert.deepEqual(await refusal(wrong), { status: 401, code: "INVALID_EMAIL_OR_PASSWORD" });
    const unknown = browser.client.signIn.email({ email: freshAddress(), password: PASSWORD });
    assert.deepEqual(await refusal(unknown), { status: 401, code: "INVALID_EMAIL_OR_PASSWORD" });
    assert.equal((await signIn(browser, email.toUpperCase())).user.id, user.id);
    assert.equal((await data(browser.client.getSession())).user.id, user.id);
  });

  test("a taken address, a short password and a malformed address are refused with the client's codes", async () => {
    const { email } = await signUp(new Browser(server));
    const refused = (body) => refusal(new Browser(server).client.signUp.email({ name: "x", password: PASSWORD, ...body }));
    assert.deepEqual(await refused({ email }), { status: 422, code: "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL" });
    assert.deepEqual(await refused({ email: freshAddress(), password: "short" }), { status: 400, code: "PASSWORD_TOO_SHORT" });
    assert.deepEqual(await refused({ email: "nobody" }), { status: 400, code: "VALIDATION_ERROR" });
  });

  test("a sign-in that is not to be remembered keeps no cookie beyond the browser's end", async () => {
    const { email } = await signUp(new Browser(server));
    const browser = new Browser(server);
    await signIn(browser, email, { rememberMe: false });
    assert.ok(browser.cookie("better-auth.dont_remember"));
    const { session } = await data(browser.client.getSession());
    const hours = (session.expiresAt - session.createdAt) / 3_600_000;
    assert.equal(Math.round(hours), 24);
  });

  test("the client's session store follows signing in and out", async () => {
    const browser = new Browser(server);
    const { email } = await signUp(new Browser(server));
    const shown = new Watch((see) =>
      browser.client.useSession.subscribe((state) => state.isPending || state.isRefetching || see(state.data?.user.email ?? null)),
    );
    await signIn(browser, email);
    await shown.until(email);
    await data(browser.client.signOut());
    await shown.until(null);
  });

  test("the way of the last sign-in is remembered for the page", async () => {
    const browser = new Browser(server);
    await signUp(browser);
    assert.equal(browser.cookie("better-auth.last_used_login_method"), "email");
  });

  test("a bearer token is a session without cookies", async () => {
    const { token, user } = await signUp(new Browser(server));
    const app = new Browser(server);
    const auth = { fetchOptions: { headers: { authorization: `Bearer ${token}` } } };
    assert.equal((await data(app.client.getSession(auth))).user.id, user.id);
    const forged = { fetchOptions: { headers: { authorization: `Bearer ${"x".repeat(32)}` } } };
    assert.equal(await data(app.client.getSession(forged)), null);
  });

  test("the answer to a sign-in names the token for apps without cookies", async () => {
    const { email } = await signUp(new Browser(server));
    let given;
    const browser = new Browser(server);
    const fetchOptions = { onSuccess: ({ response }) => (given = response.headers.get("set-auth-token")) };
    await data(browser.client.signIn.email({ email, password: PASSWORD, fetchOptions }));
    const auth = { fetchOptions: { headers: { authorization: `Bearer ${given}` } } };
    assert.equal((await data(new Browser(server).client.getSession(auth))).user.email, email);
  });
});

/** What a store shows, to be waited for. */
class Watch {
  #seen = Symbol("nothing yet");
  #changed = () => {};

  constructor(subscribe) {
    subscribe((value) => {
      this.#seen = value;
      this.#changed();
    });
  }

  async until(value) {
    const late = AbortSignal.timeout(10_000);
    while (this.#seen !== value) {
      await new Promise((resolve, reject) => {
        this.#changed = resolve;
        late.addEventListener("abort", () => reject(new Error(`the store shows ${String(this.#seen)}, not ${value}`)));
      });
    }
  }
}
