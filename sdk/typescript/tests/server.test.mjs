// The package for backends against the running binary, and against servers that say what none would.
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { inspect } from "node:util";
import { after, before, describe, test } from "node:test";
import { InsufficientCredits, LimitReached, Misuse, Refusal, tollgate, Unauthenticated, Unavailable, verifyWebhook } from "@tollgate/server";
import { gate, refusals, signedIn } from "@tollgate/server/express";
import { gated } from "@tollgate/server/next";
import express from "express";
import { Browser } from "../../../conformance/harness/browser.mjs";
import { onEveryEngine, signUp } from "../../../conformance/harness/suite.mjs";
import { freePort } from "../../../conformance/harness/tollgate.mjs";

const SETTINGS = {
  trusted_proxies: ["127.0.0.0/8", "::1/128"],
  credits: { signup_grant: 10, features: { "image.generate": 5 } },
  guest: { allowances: { sketch: 1 } },
};

onEveryEngine(
  "the package for backends",
  (server) => {
    let tg;
    before(async () => {
      const { key } = JSON.parse(await server.run("key", "create", "app", "--json"));
      tg = tollgate({ url: server.baseURL, key });
    });

    /** Somebody who signed up, and a request of theirs as each kind of server hands it over. */
    async function somebody() {
      const browser = new Browser(server);
      const { user } = await signUp(browser);
      const cookie = browser.cookieHeader();
      const web = new Request("http://app.example/", { headers: { cookie } });
      return { browser, user, cookie, web, node: { headers: { cookie }, socket: { remoteAddress: "127.0.0.1" } } };
    }

    test("a session is read from any kind of request, and from the next one on a revoked one is none", async () => {
      const { user, web, node, cookie, browser } = await somebody();
      for (const request of [web, node, new Headers({ cookie }), { headers: { cookie } }]) {
        assert.equal((await tg.user(request)).id, user.id);
      }
      const session = await tg.session(node);
      assert.deepEqual([session.user.email, session.user.emailVerified, session.expiresAt instanceof Date], [user.email, false, true]);
      await browser.client.signOut();
      assert.equal(await tg.user(web), null);
      await assert.rejects(tg.session(web), Unauthenticated);
      assert.equal(await tg.user(new Request("http://app.example/")), null);
    });

    test("one call says who it is and takes the price once for a key", async () => {
      const { user, web } = await somebody();
      const question = { userId: user.id, charge: { feature: "image.generate" }, key: "picture-1" };
      const first = await tg.authorize(web, question);
      assert.deepEqual([first.subject, first.charge.amount, first.charge.available], [{ kind: "user", id: user.id }, 5, 5]);
      const again = await tg.authorize(web, question);
      assert.equal(again.charge.entryId, first.charge.entryId);
      await tg.authorize(web, { charge: 5 });
      const poor = await tg.authorize(web, { charge: 1 }).catch((error) => error);
      assert.ok(poor instanceof InsufficientCredits);
      assert.deepEqual([poor.status, poor.balance, poor.required, poor.buyUrl], [402, 0, 1, null]);
      const other = await tg.authorize(web, { userId: "somebody-else" }).catch((error) => error);
      assert.deepEqual([other.status, other.code], [403, "user_mismatch"]);
    });

    test("a guest may try as often as the settings say", async () => {
      const browser = new Browser(server);
      await browser.fetch("/api/guest", { method: "POST" });
      const request = new Request("http://app.example/", { headers: { cookie: browser.cookieHeader() } });
      const passage = await tg.authorize(request, { guest: { action: "sketch" } });
      assert.deepEqual([passage.subject.kind, passage.guest.remaining, passage.user], ["guest", 0, null]);
      await assert.rejects(tg.authorize(request, { guest: { action: "sketch" } }), LimitReached);
    });

    test("what is held is settled, released, or freed when the block is left", async () => {
      const { user, web } = await somebody();
      const credits = tg.credits(await tg.user(web));
      const figures = async () => {
        const { balance, held } = await credits.balance();
        return [balance, held];
      };
      await credits.holding(8, (hold) => hold.settle(3));
      assert.deepEqual(await figures(), [7, 0]);
      await assert.rejects(
        credits.holding(5, async () => {
          assert.deepEqual(await figures(), [7, 5]);
          throw new Error("the work failed");
        }),
        /the work failed/,
      );
      assert.deepEqual(await figures(), [7, 0]);
      const { charge } = await tg.authorize(web, { charge: 2, hold: { expiresIn: 60 } });
      await charge.hold.settle(0);
      const hold = await credits.hold(2);
      await hold[Symbol.asyncDispose]();
      await assert.rejects(hold.settle(1), Misuse);
      assert.deepEqual(await figures(), [7, 0]);
      await credits.spend(2, { key: "a", reason: "a test" });
      assert.equal((await credits.spend(2, { key: "a", reason: "a test" })).replayed, true);
      await tg.credits({ user_id: user.id }).grant(4, { reason: "sorry" });
      assert.deepEqual(await figures(), [9, 0]);
      assert.deepEqual((await credits.history({ limit: "2" })).items.map(({ amount }) => amount), [4, -2]);
    });

    test("mistakes of the app are told apart from refusals, and a wrong key is no sign-out", async () => {
      const { web, user } = await somebody();
      await assert.rejects(tg.credits(user).spend(0.5), Misuse);
      const stranger = tollgate({ url: server.baseURL, key: "tg_sk_wrong" });
      await assert.rejects(stranger.authorize(web), { name: "Misuse", code: "invalid_service_key" });
      await assert.rejects(tg.credits({ user_id: "nobody" }).spend(1), { name: "Refusal", status: 404 });
    });

    test("Express: sessions, the gate and refusals", async (t) => {
      const app = express();
      app.get("/me", signedIn(tg), (req, res) => res.json(req.tollgate.user));
      app.post("/images/:owner", gate(tg, (req) => ({ userId: req.params.owner, charge: 6 })), (req, res) => res.json(req.passage.charge.available));
      app.use(refusals(() => undefined));
      const listening = app.listen(0, "127.0.0.1");
      await once(listening, "listening");
      t.after(() => listening.close());
      const ask = (path, cookie, method = "GET") =>
        fetch(`http://127.0.0.1:${listening.address().port}${path}`, { method, headers: { connection: "close", ...(cookie && { cookie }) } });
      const { cookie, user } = await somebody();
      assert.equal((await (await ask("/me", cookie)).json()).id, user.id);
      const nobody = await ask("/me");
      assert.equal(nobody.status, 401);
      assert.deepEqual(Object.keys(await nobody.json()), ["error_code", "message", "detail"]);
      assert.equal(await (await ask(`/images/${user.id}`, cookie, "POST")).json(), 4);
      const poor = await ask(`/images/${user.id}`, cookie, "POST");
      assert.deepEqual([poor.status, (await poor.json()).required], [402, 6]);
      assert.equal((await ask("/images/other", cookie, "POST")).status, 403);
    });

    test("Next.js: a route handler behind the gate", async () => {
      const { web, user } = await somebody();
      const POST = gated(tg, { charge: 4 }, (_request, passage) => Response.json({ user: passage.user.id, left: passage.charge.available }));
      const answer = await POST(web);
      assert.deepEqual(await answer.json(), { user: user.id, left: 6 });
      const refused = await POST(new Request("http://app.example/"));
      assert.deepEqual([refused.status, (await refused.json()).error_code], [401, "unauthenticated"]);
    });
  },
  SETTINGS,
);

describe("servers that are none", () => {
  const answering = async (t, handle) => {
    const server = createServer(handle);
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return tollgate({ url: `http://127.0.0.1:${server.address().port}`, key: "tg_sk_x", timeout: 300 });
  };
  const request = { headers: { cookie: "better-auth.session_token=secret-cookie" } };
  const json = (status, body, headers = {}) => (_, res) => res.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
  const odd = {
    "an empty body": json(200, ""),
    "an empty object": json(200, "{}"),
    "half a session": json(200, '{"session":{"expiresAt":"2030-01-01T00:00:00.000Z"},"user":{}}'),
    "cut JSON": json(200, '{"session":{"id"'),
    HTML: (_, res) => res.writeHead(200, { "content-type": "text/html" }).end("<html></html>"),
    "a redirect": json(302, "", { location: "/elsewhere" }),
    "a proxy's 401": json(401, "Unauthorized"),
    "a proxy's 502": json(502, "<html>"),
    "an endless body": (_, res) => {
      res.writeHead(200);
      const more = () => void (res.destroyed || (res.write(Buffer.alloc(65_536, 32)), setImmediate(more)));
      more();
    },
    silence: () => undefined,
    "a broken connection": (_, res) => res.destroy(),
  };
  for (const [name, handle] of Object.entries(odd)) {
    test(`${name} is 503, and never signed out`, async (t) => {
      const tg = await answering(t, handle);
      const calls = [
        () => tg.user(request),
        () => tg.session(request),
        () => tg.authorize(request, { charge: 1 }),
        () => tg.credits({ user_id: "a" }).balance(),
      ];
      for (const call of calls) {
        const error = await call().then(() => assert.fail("there was an answer"), (error) => error);
        assert.ok(error instanceof Unavailable, inspect(error));
        assert.deepEqual([error.status, error.body().error_code], [503, "unavailable"]);
        assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), /secret-cookie|tg_sk_x/);
      }
    });
  }

  test("null means signed out for a session, and nothing for a charge", async (t) => {
    const tg = await answering(t, json(200, "null"));
    assert.equal(await tg.user(request), null);
    await assert.rejects(tg.authorize(request, { charge: 1 }), Unavailable);
  });

  test("a passage without the charge that was asked for is no passage", async (t) => {
    const tg = await answering(t, json(200, '{"subject":{"kind":"user","id":"a"},"user":null,"session":null,"charge":null,"guest":null}'));
    await assert.rejects(tg.authorize(request, { charge: 1 }), Unavailable);
    assert.equal((await tg.authorize(request)).subject.id, "a");
  });

  test("nobody there is 503, and the key and cookies stand in no text", async () => {
    const tg = tollgate({ url: `http://127.0.0.1:${await freePort()}`, key: "tg_sk_x" });
    const error = await tg.user(request).catch((error) => error);
    assert.ok(error instanceof Unavailable);
    assert.match(error.why, /ECONNREFUSED/);
    assert.doesNotMatch(inspect(tg, { depth: 9, showHidden: true }) + JSON.stringify(tg), /tg_sk_x/);
    assert.throws(() => tollgate({ url: "nowhere", key: "tg_sk_x" }), Misuse);
    assert.throws(() => tollgate({ url: "http://127.0.0.1:1", key: "" }), Misuse);
  });

  test("cookies of an extended session come with refusals, too", async (t) => {
    const tg = await answering(t, json(402, '{"error_code":"insufficient_credits","message":"no","detail":null}', { "set-cookie": ["a=1", "b=2"] }));
    const error = await tg.authorize(request, { charge: 1 }).catch((error) => error);
    assert.ok(error instanceof Refusal);
    assert.deepEqual(error.toResponse().headers.getSetCookie(), ["a=1", "b=2"]);
  });
});

describe("webhooks", () => {
  const secret = `whsec_${randomBytes(24).toString("base64")}`;
  const now = new Date("2026-01-02T03:04:05.000Z");
  const body = JSON.stringify({ type: "credits.low", timestamp: "2026-01-02T03:04:05.000Z", data: { user_id: "ü" } });
  const signed = (key = secret, at = now, text = body) => {
    const timestamp = String(Math.floor(at.getTime() / 1000));
    const hmac = createHmac("sha256", Buffer.from(key.slice(6), "base64")).update(`evt_1.${timestamp}.${text}`).digest("base64");
    return { "webhook-id": "evt_1", "webhook-timestamp": timestamp, "webhook-signature": `v1a,xx v1,${hmac}` };
  };

  test("a signed delivery is read, by any of the secrets", async () => {
    const other = `whsec_${randomBytes(24).toString("base64")}`;
    for (const headers of [signed(), new Headers(signed())]) {
      const event = await verifyWebhook([other, secret], headers, body, now);
      assert.deepEqual([event.id, event.type, event.data], ["evt_1", "credits.low", { user_id: "ü" }]);
    }
    await verifyWebhook(secret, signed(), new TextEncoder().encode(body), now);
  });

  test("another body, id, time, key or signature is refused", async () => {
    const off = (seconds) => new Date(now.getTime() + seconds * 1000);
    const cases = [
      [secret, signed(), `${body} `],
      [secret, { ...signed(), "webhook-id": "evt_2" }, body],
      [secret, signed(secret, off(301)), body],
      [secret, signed(secret, off(-301)), body],
      [`whsec_${randomBytes(24).toString("base64")}`, signed(), body],
      [secret, { ...signed(), "webhook-signature": "" }, body],
      [secret, { ...signed(), "webhook-signature": "v1,AAAA" }, body],
      [secret, { ...signed(), "webhook-timestamp": "soon" }, body],
      [[], signed(), body],
      ["", signed(), body],
      [secret, {}, body],
    ];
    for (const [key, headers, text] of cases) {
      await assert.rejects(verifyWebhook(key, headers, text, now), { name: "WebhookRefused" });
    }
  });
});
