// A second factor through the official client: set up, asked for, lost and found.
import assert from "node:assert/strict";
import { test } from "node:test";
import { twoFactorClient } from "better-auth/client/plugins";
import { codeOf } from "../harness/authenticator.mjs";
import { Browser } from "../harness/browser.mjs";
import { PASSWORD, data, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

onEveryEngine("a second factor", (server) => {
  const open = () => {
    const asked = [];
    const browser = new Browser(server, { plugins: [twoFactorClient({ onTwoFactorRedirect: (context) => asked.push(context) })] });
    return Object.assign(browser, { asked });
  };

  async function enrolled() {
    const browser = open();
    const { email } = await signUp(browser);
    const made = await data(browser.client.twoFactor.enable({ password: PASSWORD }));
    await data(browser.client.twoFactor.verifyTotp({ code: codeOf(made.totpURI) }));
    return { browser, email, ...made };
  }

  test("an authenticator app is set up, asked for, and switched off", async () => {
    const { browser, email, totpURI } = await enrolled();
    assert.equal((await data(browser.client.getSession())).user.twoFactorEnabled, true);
    const other = open();
    const half = await signIn(other, email);
    assert.equal(half.twoFactorRedirect, true);
    assert.equal(other.asked.length, 1, "the client calls the page's own way to ask");
    assert.equal(await data(other.client.getSession()), null);
    assert.deepEqual(await refusal(other.client.twoFactor.verifyTotp({ code: "nonsense" })), { status: 401, code: "INVALID_CODE" });
    const { user } = await data(other.client.twoFactor.verifyTotp({ code: codeOf(totpURI) }));
    assert.equal(user.email, email);
    assert.equal((await data(other.client.getSession())).user.id, user.id);
    await data(other.client.twoFactor.disable({ password: PASSWORD }));
    assert.equal((await signIn(open(), email)).user.twoFactorEnabled, false);
  });

  test("a code that was shown once works once", async () => {
    const { email, totpURI } = await enrolled();
    const code = codeOf(totpURI);
    const [first, second] = [open(), open()];
    await signIn(first, email);
    await signIn(second, email);
    await data(first.client.twoFactor.verifyTotp({ code }));
    assert.deepEqual(await refusal(second.client.twoFactor.verifyTotp({ code })), { status: 401, code: "INVALID_CODE" });
    await data(second.client.twoFactor.verifyTotp({ code: codeOf(totpURI, 1) }));
  });

  test("a backup code opens, and the device that it was typed on is trusted", async () => {
    const { email, backupCodes } = await enrolled();
    assert.equal(backupCodes.length, 10);
    const browser = open();
    await signIn(browser, email);
    await data(browser.client.twoFactor.verifyBackupCode({ code: backupCodes[0], trustDevice: true }));
    await data(browser.client.signOut());
    assert.equal((await signIn(browser, email)).user.email, email);
    const other = open();
    await signIn(other, email);
    const used = other.client.twoFactor.verifyBackupCode({ code: backupCodes[0] });
    assert.deepEqual(await refusal(used), { status: 401, code: "INVALID_BACKUP_CODE" });
  });

  test("a code comes by mail", async () => {
    const browser = open();
    const { email } = await signUp(browser);
    await data(browser.client.twoFactor.enable({ password: PASSWORD, method: "otp" }));
    const other = open();
    assert.deepEqual((await signIn(other, email)).twoFactorMethods, ["otp"]);
    await data(other.client.twoFactor.sendOtp());
    const mail = await server.mailbox.next(email);
    const [code] = /\b\d{6}\b/.exec(mail.text);
    await data(other.client.twoFactor.verifyOtp({ code }));
    assert.equal((await data(other.client.getSession())).user.email, email);
  });
});
