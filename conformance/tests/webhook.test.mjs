// The door for deliveries takes what the official Stripe SDK signs, and refuses what it refuses.
import assert from "node:assert/strict";
import { test } from "node:test";
import Stripe from "stripe";
import { onEveryEngine } from "../harness/suite.mjs";

const OLD = "whsec_conformance_old";
const NEW = "whsec_conformance_new";
const stripe = new Stripe("sk_test_conformance");
const seconds = () => Math.floor(Date.now() / 1000);
let count = 0;

/** Events as texts, in all the ways in which bytes may be told apart. */
const texts = () => {
  const event = (data) => ({ id: `evt_${(count += 1)}`, object: "event", type: "price.updated", livemode: false, data: { object: data } });
  const escaped = JSON.stringify(event({ name: "żółć 😀" })).replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return [
    JSON.stringify(event({ name: "plain" })),
    JSON.stringify(event({ name: "żółć 😀 \u2028" })),
    escaped,
    JSON.stringify(event({ name: "a\r\nb" }), null, 2).replaceAll("\n", "\r\n"),
    `${JSON.stringify(event({}))}\n`,
    ` \t${JSON.stringify(event({}))}\r\n\r\n`,
  ];
};

onEveryEngine(
  "the door for Stripe's deliveries",
  (server) => {
    const deliver = async (body, signature) => {
      const headers = { "content-type": "application/json; charset=utf-8", "stripe-signature": signature };
      const answer = await fetch(`${server.baseURL}/api/billing/webhook`, { method: "POST", headers, body });
      await answer.text();
      return answer.status;
    };
    const sign = (payload, secret, more = {}) => stripe.webhooks.generateTestHeaderString({ payload, secret, ...more });
    /** What the SDK makes of it, with every secret that the server has. */
    const official = (body, signature) =>
      [OLD, NEW].some((secret) => {
        try {
          stripe.webhooks.constructEvent(body, signature, secret);
          return true;
        } catch (error) {
          assert.ok(error instanceof Stripe.errors.StripeSignatureVerificationError, error);
          return false;
        }
      });

    test("what the SDK signs is taken byte by byte, with the old secret and with the new one", async () => {
      for (const secret of [OLD, NEW]) {
        for (const body of texts()) {
          const signature = sign(body, secret);
          assert.equal(await deliver(body, signature), 200, JSON.stringify(body));
          assert.equal(await deliver(`${body} `, signature), 400);
          assert.equal(await deliver(body, sign(body, "whsec_of_somebody_else")), 400);
        }
      }
    });

    test("both judge a header alike", async () => {
      const [body] = texts();
      const now = seconds();
      const good = sign(body, NEW, { timestamp: now });
      const [time, signed] = good.split(",");
      const zeros = `v1=${"0".repeat(64)}`;
      const headers = [
        good,
        `${signed},${time}`,
        `${time},${zeros},${signed}`,
        `v0=${"0".repeat(64)},${time},${signed}`,
        `t=1,${time},${signed}`,
        `${time},${signed},t=1`,
        `${time},${signed.toUpperCase().replace("V1", "v1")}`,
        `${time}, ${signed}`,
        `${time},${signed.replace("v1", "v0")}`,
        `${time},${zeros}`,
        signed,
        time,
        sign(body, NEW, { timestamp: now - 290 }),
        sign(body, NEW, { timestamp: now - 310 }),
        sign(body, NEW, { scheme: "v0", timestamp: now }),
      ];
      for (const header of headers) {
        assert.equal(await deliver(body, header), official(body, header) ? 200 : 400, header);
      }
    });

    test("a clock that is far ahead is believed by the SDK and not by us", async () => {
      const [body] = texts();
      const ahead = sign(body, NEW, { timestamp: seconds() + 3600 });
      assert.equal(official(body, ahead), true);
      assert.equal(await deliver(body, ahead), 400);
    });
  },
  {
    stripe: { secret_key: "sk_test_conformance", webhook_secrets: [NEW, OLD], api_base: "http://127.0.0.1:9" },
  },
);
