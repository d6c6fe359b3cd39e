// Passkeys through the official client, with an authenticator in the place of the browser's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { passkeyClient } from "@better-auth/passkey/client";
import { Authenticator } from "../harness/authenticator.mjs";
import { Browser } from "../harness/browser.mjs";
import { data, onEveryEngine, refusal, signUp } from "../harness/suite.mjs";

onEveryEngine("a passkey", (server) => {
  const open = () => new Browser(server, { plugins: [passkeyClient()] });

  test("is made, named, listed, signs in, and is removed", async () => {
    const browser = open();
    const device = new Authenticator(server.baseURL);
    const { email, user } = await signUp(browser);
    const added = await device.during(() => data(browser.client.passkey.addPasskey({ name: "laptop" })));
    assert.equal(added.name, "laptop");
    assert.equal(added.transports, "hybrid,internal");
    const [kept] = await data(browser.client.passkey.listUserPasskeys());
    assert.equal(kept.id, added.id);
    assert.ok(kept.createdAt instanceof Date);
    const { passkey } = await data(browser.client.passkey.updatePasskey({ id: kept.id, name: "old laptop" }));
    assert.equal(passkey.name, "old laptop");
    const other = open();
    const signed = await device.during(() => data(other.client.signIn.passkey()));
    assert.equal(signed.user.id, user.id);
    assert.equal((await data(other.client.getSession())).user.email, email);
    assert.equal(other.cookie("better-auth.last_used_login_method"), "passkey");
    await data(browser.client.passkey.deletePasskey({ id: kept.id }));
    assert.deepEqual(await data(browser.client.passkey.listUserPasskeys()), []);
    const gone = device.during(() => refusal(open().client.signIn.passkey()));
    assert.deepEqual(await gone, { status: 401, code: "PASSKEY_NOT_FOUND" });
  });

  test("of a page elsewhere is refused", async () => {
    const browser = open();
    await signUp(browser);
    const phished = new Authenticator("https://evil.test");
    const refused = await phished.during(() => browser.client.passkey.addPasskey({ name: "laptop" }));
    assert.equal(refused.error.code, "FAILED_TO_VERIFY_REGISTRATION");
    assert.deepEqual(await data(browser.client.passkey.listUserPasskeys()), []);
  });

  test("that is registered already is not offered again", async () => {
    const browser = open();
    const device = new Authenticator(server.baseURL);
    await signUp(browser);
    await device.during(() => data(browser.client.passkey.addPasskey()));
    const answer = await browser.fetch("/api/auth/passkey/generate-register-options");
    const { excludeCredentials } = await answer.json();
    const [kept] = await data(browser.client.passkey.listUserPasskeys());
    assert.deepEqual(excludeCredentials, [{ id: kept.credentialID, transports: ["hybrid", "internal"], type: "public-key" }]);
  });
});
