// What people do with their own account: name, password, address, sessions, and its end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { PASSWORD, data, freshAddress, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

const NEW_PASSWORD = "another horse, another battery";

onEveryEngine("one's own account", (server) => {
  test("name and picture are changed, and the picture is cleared", async () => {
    const browser = new Browser(server);
    await signUp(browser);
    await data(browser.client.updateUser({ name: "New Name", image: "https://images.example/a.png" }));
    const { user } = await data(browser.client.getSession());
    assert.deepEqual([user.name, user.image], ["New Name", "https://images.example/a.png"]);
    await data(browser.client.updateUser({ image: null }));
    assert.equal((await data(browser.client.getSession())).user.image, null);
    assert.deepEqual(await refusal(browser.client.updateUser({ role: "admin" })), { status: 400, code: "FIELD_NOT_ALLOWED" });
  });

  test("a new password can end the other sessions", async () => {
    const [browser, other] = [new Browser(server), new Browser(server)];
    const { email } = await signUp(browser);
    await signIn(other, email);
    const change = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD, revokeOtherSessions: true };
    const wrong = browser.client.changePassword({ ...change, currentPassword: NEW_PASSWORD });
    assert.deepEqual(await refusal(wrong), { status: 400, code: "INVALID_PASSWORD" });
    await data(browser.client.changePassword(change));
    assert.equal((await data(browser.client.getSession())).user.email, email);
    assert.equal(await data(other.client.getSession()), null);
    const old = other.client.signIn.email({ email, password: PASSWORD });
    assert.equal((await refusal(old)).code, "INVALID_EMAIL_OR_PASSWORD");
    await signIn(other, email, { password: NEW_PASSWORD });
  });

  test("sessions are listed and ended one by one, all others, and all", async () => {
    const browsers = Array.from({ length: 4 }, () => new Browser(server));
    const [first, ...others] = browsers;
    const { email } = await signUp(first);
    for (const browser of others) await signIn(browser, email);
    const isIn = async (browser) => (await data(browser.client.getSession())) !== null;
    const sessions = await data(first.client.listSessions());
    assert.equal(sessions.length, 4);
    await data(first.client.revokeSession({ token: sessions[1].token }));
    assert.deepEqual(await Promise.all(browsers.map(isIn)), [true, false, true, true]);
    await data(first.client.revokeOtherSessions());
    assert.deepEqual(await Promise.all(browsers.map(isIn)), [true, false, false, false]);
    await data(first.client.revokeSessions());
    assert.equal(await isIn(first), false);
  });

  test("nobody ends somebody else's session", async () => {
    const [owner, stranger] = [new Browser(server), new Browser(server)];
    const { token } = await signUp(owner);
    await signUp(stranger);
    assert.deepEqual(await data(stranger.client.revokeSession({ token })), { status: true });
    assert.notEqual(await data(owner.client.getSession()), null);
  });

  test("an unverified address is changed by the link to the new one", async () => {
    const browser = new Browser(server);
    const { email } = await signUp(browser);
    const next = freshAddress();
    await data(browser.client.changeEmail({ newEmail: next, callbackURL: "/changed" }));
    const { link } = await server.mailbox.next(next);
    assert.equal((await data(browser.client.getSession())).user.email, email);
    const answer = await browser.visit(link);
    assert.deepEqual([answer.status, answer.headers.get("location")], [302, "/changed"]);
    assert.equal((await data(browser.client.getSession())).user.email, next);
    await signIn(new Browser(server), next);
  });

  test("a taken address is answered like a free one, and nothing is sent", async () => {
    const browser = new Browser(server);
    await signUp(browser);
    const { email: taken } = await signUp(new Browser(server));
    assert.deepEqual(await data(browser.client.changeEmail({ newEmail: taken })), { status: true });
    // The next mail to that address is the one asked for here: nothing came before it.
    await data(browser.client.requestPasswordReset({ email: taken, redirectTo: "/reset" }));
    assert.match((await server.mailbox.next(taken)).link, /\/reset-password\//);
  });

  test("a forgotten password is replaced by the mailed link, once", async () => {
    const [browser, forgetful] = [new Browser(server), new Browser(server)];
    const { email } = await signUp(browser);
    await data(forgetful.client.requestPasswordReset({ email, redirectTo: "/reset" }));
    const { link } = await server.mailbox.next(email);
    const page = new URL((await forgetful.visit(link)).headers.get("location"));
    assert.equal(page.pathname, "/reset");
    const reset = { newPassword: NEW_PASSWORD, token: page.searchParams.get("token") };
    await data(forgetful.client.resetPassword(reset));
    assert.deepEqual(await refusal(forgetful.client.resetPassword(reset)), { status: 400, code: "INVALID_TOKEN" });
    // Whoever had the old password is out.
    assert.equal(await data(browser.client.getSession()), null);
    await signIn(forgetful, email, { password: NEW_PASSWORD });
  });

  test("a deleted account is gone, with all its sessions", async () => {
    const [browser, other] = [new Browser(server), new Browser(server)];
    const { email } = await signUp(browser);
    await signIn(other, email);
    const wrong = browser.client.deleteUser({ password: NEW_PASSWORD });
    assert.deepEqual(await refusal(wrong), { status: 400, code: "INVALID_PASSWORD" });
    await data(browser.client.deleteUser({ password: PASSWORD }));
    assert.equal(await data(browser.client.getSession()), null);
    assert.equal(await data(other.client.getSession()), null);
    assert.equal((await refusal(other.client.signIn.email({ email, password: PASSWORD }))).status, 401);
    await signUp(other, email);
  });
});

onEveryEngine(
  "one's own account, deleted by mail",
  (server) => {
    test("the link works in the browser that is signed in", async () => {
      const browser = new Browser(server);
      const { email } = await signUp(browser);
      await data(browser.client.deleteUser({ callbackURL: "/bye" }));
      const { link } = await server.mailbox.next(email);
      assert.equal((await new Browser(server).visit(link)).status, 404);
      const answer = await browser.visit(link);
      assert.deepEqual([answer.status, answer.headers.get("location")], [302, "/bye"]);
      assert.equal((await refusal(browser.client.signIn.email({ email, password: PASSWORD }))).status, 401);
    });
  },
  { accounts: { delete_needs_mail: true } },
);
