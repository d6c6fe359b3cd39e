// An app on another site than the server: the browser asks before it sends, and hides what it may not show.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { APP_ORIGIN, PASSWORD, data, freshAddress, onEveryEngine, refusal, signUp } from "../harness/suite.mjs";

const EVIL = "https://evil.example";

onEveryEngine("an app on another origin", (server) => {
  test("signs up, reads its session and signs out with cookies", async () => {
    const browser = new Browser(server, { origin: APP_ORIGIN });
    const { email } = await signUp(browser);
    assert.deepEqual(browser.preflights, ["POST /api/auth/sign-up/email"]);
    assert.equal((await data(browser.client.getSession())).user.email, email);
    await data(browser.client.updateUser({ name: "From Elsewhere" }));
    await data(browser.client.signOut());
    assert.equal(await data(browser.client.getSession()), null);
  });

  test("reads the token for clients without cookies, and errors", async () => {
    const browser = new Browser(server, { origin: APP_ORIGIN });
    const { email } = await signUp(browser);
    let given;
    const fetchOptions = { onSuccess: ({ response }) => (given = response.headers.get("set-auth-token")) };
    await data(browser.client.signIn.email({ email, password: PASSWORD, fetchOptions }));
    assert.ok(given);
    const wrong = browser.client.signIn.email({ email, password: "not the right one" });
    assert.deepEqual(await refusal(wrong), { status: 401, code: "INVALID_EMAIL_OR_PASSWORD" });
  });

  test("sends a bearer token", async () => {
    const { token, user } = await signUp(new Browser(server));
    const browser = new Browser(server, { origin: APP_ORIGIN });
    const auth = { fetchOptions: { headers: { authorization: `Bearer ${token}` } } };
    assert.equal((await data(browser.client.getSession(auth))).user.id, user.id);
    assert.deepEqual(browser.preflights, ["GET /api/auth/get-session"]);
  });

  test("is refused when it is not trusted, by the browser and by the server", async () => {
    const browser = new Browser(server, { origin: EVIL });
    const attempt = browser.client.signUp.email({ email: freshAddress(), password: PASSWORD, name: "x" });
    await assert.rejects(attempt, /Failed to fetch/);
    const victim = new Browser(server);
    await signUp(victim);
    const headers = { cookie: victim.cookieHeader(), origin: EVIL, "content-type": "application/json" };
    const answer = await fetch(`${server.baseURL}/api/auth/update-user`, { method: "POST", headers, body: '{"name":"x"}' });
    assert.deepEqual([answer.status, (await answer.json()).code], [403, "INVALID_ORIGIN"]);
    assert.equal(answer.headers.get("access-control-allow-origin"), null);
  });
});
