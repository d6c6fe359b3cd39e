// The client's plugins for signing in without an address and a password.
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { anonymousClient, emailOTPClient, jwtClient, magicLinkClient, oneTimeTokenClient, usernameClient } from "better-auth/client/plugins";
import { Browser } from "../harness/browser.mjs";
import { PASSWORD, data, freshAddress, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

const plugins = [anonymousClient(), emailOTPClient(), jwtClient(), magicLinkClient(), oneTimeTokenClient(), usernameClient()];
const methods = { username: true, magic_link: true, email_code: true, anonymous: true, one_time_token: true, jwt: true };

const session = (browser) => data(browser.client.getSession());

async function mailed(server, email) {
  const { link, text } = await server.mailbox.next(email);
  return { link, code: /\b\d{6}\b/.exec(text)?.[0] };
}

/** The claims of a token that one of the keys verifies. */
function verified(token, { keys }) {
  const [header, claims] = token.split(".").slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url")));
  const signed = token.slice(0, token.lastIndexOf("."));
  const key = createPublicKey({ key: keys.find(({ kid }) => kid === header.kid), format: "jwk" });
  assert.equal(header.alg, "EdDSA");
  assert.ok(verify(null, Buffer.from(signed), key, Buffer.from(token.slice(signed.length + 1), "base64url")));
  return claims;
}

onEveryEngine("ways to sign in", (server) => {
  const open = () => new Browser(server, { plugins });

  test("a username stands in for the address", async () => {
    const name = `Person_${process.pid}`;
    const { user } = await signUp(open(), freshAddress(), { username: name });
    assert.deepEqual([user.username, user.displayUsername], [name.toLowerCase(), name]);
    const browser = open();
    assert.deepEqual(await data(browser.client.isUsernameAvailable({ username: name })), { available: false });
    assert.equal((await data(browser.client.signIn.username({ username: name.toUpperCase(), password: PASSWORD }))).user.id, user.id);
    const wrong = open().client.signIn.username({ username: name, password: "not the right one" });
    assert.deepEqual(await refusal(wrong), { status: 401, code: "INVALID_USERNAME_OR_PASSWORD" });
    await data(browser.client.updateUser({ username: `${name}_2` }));
    assert.equal((await session(browser)).user.username, `${name}_2`.toLowerCase());
  });

  test("a mailed link leads to a button, and the button in", async () => {
    const email = freshAddress();
    const browser = open();
    await data(browser.client.signIn.magicLink({ email, name: "Linked", callbackURL: "/home", newUserCallbackURL: "/welcome" }));
    const { link } = await mailed(server, email);
    const page = await browser.visit(link);
    assert.equal(page.status, 200);
    assert.equal(await session(browser), null);
    const fields = [...(await page.text()).matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)">/g)];
    const body = new URLSearchParams(fields.map(([, name, value]) => [name, value.replaceAll("&#x2f;", "/")]));
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const pressed = await browser.fetch(new URL("/magic-link", server.baseURL), { method: "POST", headers, body });
    assert.equal(pressed.status, 303);
    assert.equal(new URL(pressed.headers.get("location")).pathname, "/welcome");
    const { user } = await session(browser);
    assert.deepEqual([user.email, user.name, user.emailVerified], [email, "Linked", true]);
    assert.equal(browser.cookie("better-auth.last_used_login_method"), "magic-link");
  });

  test("a mailed code signs in, proves an address and sets a password", async () => {
    const email = freshAddress();
    const browser = open();
    await data(browser.client.emailOtp.sendVerificationOtp({ email, type: "sign-in" }));
    const { code } = await mailed(server, email);
    const wrong = browser.client.signIn.emailOtp({ email, otp: code === "000000" ? "111111" : "000000" });
    assert.deepEqual(await refusal(wrong), { status: 400, code: "INVALID_OTP" });
    await data(browser.client.signIn.emailOtp({ email, otp: code }));
    assert.equal((await session(browser)).user.email, email);
    assert.equal(browser.cookie("better-auth.last_used_login_method"), "email-otp");
    await data(browser.client.emailOtp.requestPasswordReset({ email }));
    const reset = await mailed(server, email);
    await data(browser.client.emailOtp.resetPassword({ email, otp: reset.code, password: "a brand new password" }));
    await signIn(open(), email, { password: "a brand new password" });

    const other = await signUp(open());
    await data(browser.client.emailOtp.sendVerificationOtp({ email: other.email, type: "email-verification" }));
    const proof = await mailed(server, other.email);
    const check = { email: other.email, type: "email-verification", otp: proof.code };
    assert.deepEqual(await data(browser.client.emailOtp.checkVerificationOtp(check)), { success: true });
    const verified = await data(browser.client.emailOtp.verifyEmail({ email: other.email, otp: proof.code }));
    assert.equal(verified.user.emailVerified, true);
  });

  test("an anonymous user becomes a person", async () => {
    const browser = open();
    const { user } = await data(browser.client.signIn.anonymous());
    assert.equal(user.isAnonymous, true);
    const again = browser.client.signIn.anonymous();
    assert.equal((await refusal(again)).code, "ANONYMOUS_USERS_CANNOT_SIGN_IN_AGAIN_ANONYMOUSLY");
    const person = await signUp(browser);
    assert.equal((await session(browser)).user.id, person.user.id);
    const other = open();
    await data(other.client.signIn.anonymous());
    await data(other.client.deleteAnonymousUser());
    assert.equal(await session(other), null);
  });

  test("a session is handed to another browser once", async () => {
    const browser = open();
    await signUp(browser);
    const { token } = await data(browser.client.oneTimeToken.generate());
    const other = open();
    const taken = await data(other.client.oneTimeToken.verify({ token }));
    assert.equal(taken.session.id, (await session(browser)).session.id);
    assert.equal((await session(other)).session.id, taken.session.id);
    assert.equal((await refusal(open().client.oneTimeToken.verify({ token }))).status, 400);
  });

  test("a signed token is checked with the published keys", async () => {
    const browser = open();
    const { user } = await signUp(browser);
    const { token } = await data(browser.client.token());
    const keys = await data(browser.client.jwks());
    let stated;
    await data(browser.client.getSession({ fetchOptions: { onSuccess: ({ response }) => (stated = response.headers.get("set-auth-jwt")) } }));
    for (const text of [token, stated]) {
      const claims = verified(text, keys);
      assert.deepEqual([claims.iss, claims.aud], [server.baseURL, server.baseURL]);
      assert.deepEqual([claims.sub, claims.email, claims.exp - claims.iat], [user.id, user.email, 900]);
    }
  });
}, { methods });
