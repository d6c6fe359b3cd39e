// A sample app of the official client's own style, with every plugin, in a real browser: not a line is made for Tollgate.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { file, openBrowser } from "../harness/chromium.mjs";
import { serveReactApp } from "../harness/react-app.mjs";
import { freshAddress, onEveryEngine, PASSWORD } from "../harness/suite.mjs";

const METHODS = [
  "username",
  "magic_link",
  "email_code",
  "anonymous",
  "one_time_token",
  "jwt",
  "two_factor",
  "passkey",
  "device_authorization",
  "admin",
  "organizations",
  "api_keys",
  "api_key_sessions",
];

/** The code that an authenticator shows for the secret of an `otpauth:` address. */
function totp(uri, at = Date.now()) {
  const letters = new URL(uri).searchParams.get("secret");
  let bits = "";
  for (const letter of letters) bits += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const mac = createHmac("sha1", key).update(step).digest();
  const offset = mac.at(-1) & 15;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

describe("a React app with every plugin", { skip: file ? false : "SKIPPED: there is no Chromium; install it or set TOLLGATE_TEST_CHROMIUM" }, async () => {
  let server;
  const app = await serveReactApp(() => server.baseURL);
  let browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await app.close();
  });

  /** A person at a browser of their own, with a key of the platform for passkeys. */
  async function person(t) {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send("WebAuthn.enable");
    const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true };
    await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
    await page.goto(app.origin);
    /** Fills a form in, sends it and gives what it said. */
    const ask = async (name, fields = {}) => {
      const form = page.getByRole("form", { name, exact: true });
      for (const [field, value] of Object.entries(fields)) await form.getByLabel(field, { exact: true }).fill(value);
      await form.getByRole("button").click();
      return form.getByRole("status");
    };
    const done = async (name, fields) => {
      const status = await ask(name, fields);
      await page.waitForFunction((text) => /^(done|refused)/.test(text.textContent), await status.elementHandle());
      const said = await status.textContent();
      assert.match(said, /^done/, `${name}: ${said}`);
      return said.slice("done ".length);
    };
    const shows = (text) => page.getByText(text).first().waitFor();
    return { page, ask, done, shows };
  }

  const signUp = async ({ ask, shows }, name) => {
    const email = freshAddress();
    await ask("Sign up", { name, email, password: PASSWORD });
    await shows(`Hello ${name}`);
    return email;
  };

  onEveryEngine(
    "signs people up and lets them do everything",
    (running) => {
      before(() => {
        server = running;
      });

      test("sign-up, an authenticator app, a passkey, an organization, an invitation, a key", async (t) => {
        const ada = await person(t);
        const email = await signUp(ada, "Ada");

        const { totpURI } = JSON.parse(await ada.done("Enable TOTP", { password: PASSWORD }));
        const first = totp(totpURI);
        await ada.ask("Verify TOTP", { code: first });
        await ada.shows("two factors");
        await ada.done("Add a passkey");
        await ada.shows("1 passkeys");

        await ada.done("Create organization", { name: "Engines", slug: `engines-${process.pid}-${Date.now()}` });
        await ada.shows("Engines:");
        const bob = await person(t);
        const bobs = await signUp(bob, "Bob");
        const { id } = JSON.parse(await ada.done("Invite", { email: bobs }));
        await bob.done("Accept", { invitationId: id });
        await bob.page.reload();
        await bob.shows(`${bobs} member`);

        await ada.done("Create key");
        assert.equal(JSON.parse(await ada.done("Use key")), email);

        // Out, and in again: the password is not enough, a passkey is.
        await ada.ask("Sign out");
        await ada.shows("Sign up");
        const half = JSON.parse(await ada.done("Sign in", { email, password: PASSWORD }));
        assert.equal(half.twoFactorRedirect, true);
        await ada.page.reload();
        await ada.shows("Sign up");
        await ada.done("Sign in", { email, password: PASSWORD });
        // The next step's code: the first one was used.
        await ada.ask("Second factor", { code: totp(totpURI, Date.now() + 30_000) });
        await ada.shows("Hello Ada");
        await ada.ask("Sign out");
        await ada.shows("Sign up");
        await ada.ask("Sign in with a passkey");
        await ada.shows("Hello Ada");
      });
    },
    {
      trusted_origins: [app.origin],
      methods: Object.fromEntries(METHODS.map((name) => [name, true])),
    },
  );
});
