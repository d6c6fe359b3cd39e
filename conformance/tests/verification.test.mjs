// Addresses that have to be proven before anybody gets in.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { PASSWORD, data, freshAddress, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

const settings = { email_password: { require_verification: true, auto_sign_in_after_verification: true } };

async function verified(server) {
  const browser = new Browser(server);
  const { email } = await signUp(browser);
  await browser.visit((await server.mailbox.next(email)).link);
  return { browser, email };
}

onEveryEngine(
  "verification",
  (server) => {
    test("there is no session before the link is followed, and one after it", async () => {
      const browser = new Browser(server);
      const { email, token } = await signUp(browser, freshAddress(), { callbackURL: "/verified" });
      assert.equal(token, null);
      assert.equal(await data(browser.client.getSession()), null);
      const early = new Browser(server).client.signIn.email({ email, password: PASSWORD });
      assert.deepEqual(await refusal(early), { status: 403, code: "EMAIL_NOT_VERIFIED" });
      const answer = await browser.visit((await server.mailbox.next(email)).link);
      assert.deepEqual([answer.status, answer.headers.get("location")], [302, "/verified"]);
      const { user } = await data(browser.client.getSession());
      assert.deepEqual([user.email, user.emailVerified], [email, true]);
      await signIn(new Browser(server), email);
    });

    test("the mail is sent again when it is asked for", async () => {
      const browser = new Browser(server);
      const { email } = await signUp(browser);
      await server.mailbox.next(email);
      await data(browser.client.sendVerificationEmail({ email, callbackURL: "/here" }));
      const answer = await browser.visit((await server.mailbox.next(email)).link);
      assert.equal(answer.headers.get("location"), "/here");
      assert.equal((await data(browser.client.getSession())).user.emailVerified, true);
    });

    test("a link that was made up leads back with an error", async () => {
      const query = "token=made-up&callbackURL=%2Fafter%3Fx%3D1";
      const answer = await new Browser(server).visit(`${server.baseURL}/api/auth/verify-email?${query}`);
      assert.equal(answer.headers.get("location"), "/after?x=1&error=INVALID_TOKEN");
    });

    test("a taken address is answered like a free one", async () => {
      const { email } = await verified(server);
      const { token, user } = await data(
        new Browser(server).client.signUp.email({ email, password: "a password of its own", name: "Somebody Else" }),
      );
      assert.deepEqual([token, user.email, user.name, user.emailVerified], [null, email, "Somebody Else", false]);
      const free = await signUp(new Browser(server));
      assert.deepEqual(Object.keys(user), Object.keys(free.user));
    });

    test("a verified address is changed by both mailboxes", async () => {
      const { browser, email } = await verified(server);
      const next = freshAddress();
      await data(browser.client.changeEmail({ newEmail: next, callbackURL: "/done" }));
      await browser.visit((await server.mailbox.next(email)).link);
      assert.equal((await data(browser.client.getSession())).user.email, email);
      const answer = await browser.visit((await server.mailbox.next(next)).link);
      assert.equal(answer.headers.get("location"), "/done");
      const { user } = await data(browser.client.getSession());
      assert.deepEqual([user.email, user.emailVerified], [next, true]);
    });
  },
  settings,
);
