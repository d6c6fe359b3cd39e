// Signing in at a real OpenID Connect provider with the official client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { CLIENT, goThere, startProvider } from "../harness/provider.mjs";
import { data, freshAddress, onEveryEngine, refusal, signUp } from "../harness/suite.mjs";
import { freePort } from "../harness/tollgate.mjs";

const port = await freePort();
const company = {
  kind: "oidc",
  issuer: `http://127.0.0.1:${port}`,
  client_id: CLIENT.clientId,
  client_secret: CLIENT.clientSecret,
  scopes: ["openid", "email", "profile", "offline_access"],
  prompt: "consent",
};

onEveryEngine(
  "signing in at a provider",
  (server) => {
    let provider;
    before(async () => (provider = await startProvider(port, server)));
    after(() => provider?.stop());

    const comeBack = async (browser, url, person) => {
      const answer = await browser.visit(await goThere(server, url, person));
      assert.equal(answer.status, 302, await answer.text());
      return answer.headers.get("location");
    };
    const signIn = async (browser, person, rest = {}) => {
      const begun = await data(browser.client.signIn.social({ provider: "company", callbackURL: "/dash", newUserCallbackURL: "/welcome", errorCallbackURL: "/sorry", disableRedirect: true, ...rest }));
      return comeBack(browser, begun.url, person);
    };

    test("a new person is welcomed, a known one comes in, and both are the same user", async () => {
      const [first, second, person] = [new Browser(server), new Browser(server), freshAddress()];
      assert.equal(await signIn(first, person), "/welcome");
      const { user } = await data(first.client.getSession());
      assert.deepEqual([user.email, user.emailVerified, user.name], [person, true, "Real Person"]);
      assert.equal(first.cookie("better-auth.last_used_login_method"), "company");
      assert.equal(await signIn(second, person), "/dash");
      assert.equal((await data(second.client.getSession())).user.id, user.id);
    });

    test("tokens of the provider are the user's: read, renewed, and used to ask who it is", async () => {
      const [browser, person] = [new Browser(server), freshAddress()];
      await signIn(browser, person);
      const [account] = await data(browser.client.listAccounts());
      assert.deepEqual(account.scopes, ["openid", "email", "profile", "offline_access"]);
      const held = await data(browser.client.getAccessToken({ accountId: account.id }));
      assert.ok(held.accessTokenExpiresAt instanceof Date);
      const renewed = await data(browser.client.refreshToken({ accountId: account.id }));
      assert.notEqual(renewed.accessToken, held.accessToken);
      // The provider has ended the first refresh token; the second one is kept.
      await data(browser.client.refreshToken({ accountId: account.id }));
      const info = await data(browser.client.accountInfo({ query: { accountId: account.id } }));
      assert.deepEqual([info.user.email, info.account.accountId], [person, person]);
    });

    test("somebody who is signed in adds the account, and removes it again", async () => {
      const browser = new Browser(server);
      const { email } = await signUp(browser);
      const link = async (person) => {
        const begun = await data(browser.client.linkSocial({ provider: "company", callbackURL: "/linked", errorCallbackURL: "/sorry", disableRedirect: true }));
        return comeBack(browser, begun.url, person);
      };
      assert.equal(await link(freshAddress()), "/sorry?error=email_does_not_match");
      assert.equal(await link(email), "/linked");
      const linked = (await data(browser.client.listAccounts())).find((account) => account.providerId === "company");
      await data(browser.client.unlinkAccount({ accountId: linked.id }));
      assert.equal((await data(browser.client.listAccounts())).length, 1);
      // The address was never proven here, so coming by the provider is somebody else's way in.
      assert.equal(await signIn(new Browser(server), email), "/sorry?error=account_not_linked");
    });

    test("whoever refuses, or cannot prove the address, is told to the app", async () => {
      const [browser, person] = [new Browser(server), freshAddress()];
      assert.equal(await signIn(browser, `refuses+${person}`), "/sorry?error=access_denied&error_description=the+person+refused");
      assert.equal(await signIn(browser, `unproven+${person}`), "/welcome");
      assert.equal((await data(browser.client.getSession())).user.emailVerified, false);
      assert.deepEqual(await refusal(browser.client.signIn.social({ provider: "nobody" })), { status: 404, code: "PROVIDER_NOT_FOUND" });
    });

    test("signing out leads on to the provider's own sign-out", async () => {
      const browser = new Browser(server);
      await signIn(browser, freshAddress());
      const { url, redirect } = await data(browser.client.signOut({ callbackURL: "/bye" }));
      assert.equal(redirect, true);
      const there = new URL(url);
      assert.equal(there.searchParams.get("post_logout_redirect_uri"), `${server.baseURL}/bye`);
      assert.equal((await fetch(there, { redirect: "manual" })).status, 200, "the provider takes it");
      assert.equal(await data(browser.client.getSession()), null);
    });
  },
  { providers: { company } },
);
