// The official Stripe SDK understands the till, and each accepts what the other signs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import Stripe from "stripe";
import { SECRET, startTill } from "../harness/till.mjs";

const PAGES = { success_url: "http://localhost:3000/done?id={CHECKOUT_SESSION_ID}", cancel_url: "http://localhost:3000/" };

describe("the till and the official Stripe SDK", () => {
  let till, stripe;
  before(async () => {
    till = await startTill("--price", "price_pack=1000,usd", "--price", "price_plan=3000,usd,month", "--price", "price_more=9000,usd,month");
    stripe = till.stripe;
  });
  after(() => till.stop());

  const buy = async (more = {}) => {
    const session = await stripe.checkout.sessions.create({ mode: "payment", line_items: [{ price: "price_pack", quantity: 2 }], ...PAGES, ...more });
    await till.act("pay", { session: session.id });
    return stripe.checkout.sessions.retrieve(session.id, { expand: ["line_items", "payment_intent.latest_charge"] });
  };

  test("the SDK pins the version whose shapes the till has", async () => {
    assert.equal(Stripe.API_VERSION, "2026-10-28.endive");
    const customer = await stripe.customers.create({ email: "a@example.test" });
    assert.match(customer.lastResponse.requestId, /^req_/);
    assert.equal(customer.lastResponse.apiVersion, Stripe.API_VERSION);
  });

  test("a session is made, paid, read with its lines and refunded in parts", async () => {
    const metadata = { pack: "small", "key with spaces & signs": "50 % = ½" };
    const paid = await buy({ metadata, payment_intent_data: { metadata }, client_reference_id: "order 1" });
    assert.equal(paid.payment_status, "paid");
    assert.deepEqual({ ...paid.metadata }, metadata);
    assert.equal(paid.line_items.data[0].amount_total, 2000);
    assert.deepEqual({ ...paid.payment_intent.metadata }, metadata);
    const intent = paid.payment_intent.id;
    await stripe.refunds.create({ payment_intent: intent, amount: 500, reason: "requested_by_customer" });
    await stripe.refunds.create({ payment_intent: intent });
    const charge = await stripe.charges.retrieve(paid.payment_intent.latest_charge.id);
    assert.deepEqual([charge.amount_refunded, charge.refunded], [2000, true]);
    await assert.rejects(stripe.refunds.create({ payment_intent: intent }), { code: "charge_already_refunded", type: "StripeInvalidRequestError" });
  });

  test("events and sessions are paged to the end in both directions", async () => {
    for (let count = 0; count < 6; count += 1) await buy();
    const newestFirst = [];
    for await (const event of stripe.events.list({ limit: 7 })) newestFirst.push(event.id);
    assert.ok(newestFirst.length > 20, `${newestFirst.length}`);
    assert.equal(new Set(newestFirst).size, newestFirst.length);
    const oldest = newestFirst.at(-1);
    const since = await stripe.events.list({ limit: 5, ending_before: oldest }).autoPagingToArray({ limit: 1000 });
    assert.deepEqual(since.map((event) => event.id), newestFirst.slice(0, -1).reverse());
    const completed = await stripe.events.list({ types: ["checkout.session.completed"], limit: 2 }).autoPagingToArray({ limit: 1000 });
    assert.ok(completed.every((event) => event.type === "checkout.session.completed") && completed.length >= 6);
  });

  test("each delivery passes constructEvent with its raw body, and nothing else does", async () => {
    await buy();
    await till.quiet();
    assert.ok(till.arrivals.length > 0);
    for (const { body, signature } of till.arrivals) {
      const event = stripe.webhooks.constructEvent(body, signature, SECRET);
      assert.equal(event.object, "event");
      assert.equal(event.api_version, Stripe.API_VERSION);
      assert.throws(() => stripe.webhooks.constructEvent(body, signature, "whsec_other"), { type: "StripeSignatureVerificationError" });
      assert.throws(() => stripe.webhooks.constructEvent(Buffer.concat([body, Buffer.from("\n")]), signature, SECRET));
    }
  });

  test("a retry under the same key is the same payment, and another request under it is refused", async () => {
    const pay = { amount: 700, currency: "usd", confirm: true, payment_method: "pm_card_visa" };
    const [first, second] = [await stripe.paymentIntents.create(pay, { idempotencyKey: "one" }), await stripe.paymentIntents.create(pay, { idempotencyKey: "one" })];
    assert.equal(first.id, second.id);
    assert.equal(second.lastResponse.headers["idempotent-replayed"], "true");
    await assert.rejects(stripe.paymentIntents.create({ ...pay, amount: 701 }, { idempotencyKey: "one" }), { type: "StripeIdempotencyError" });
  });

  test("the SDK's own retries survive broken connections, failures and lost answers with one effect", async () => {
    for (const fault of ["broken", "status:503", "broken_after_work"]) {
      const name = `Retry ${fault}`;
      await till.act("fault", { fault, count: 1, path: "/v1/customers" });
      const customer = await stripe.customers.create({ name, email: `${fault.replace(":", "-")}@example.test` });
      const found = await stripe.customers.list({ email: customer.email });
      assert.deepEqual(found.data.map((known) => known.id), [customer.id], fault);
    }
  });

  test("declines and unknown parameters are the SDK's own kinds of errors", async () => {
    const declined = stripe.paymentIntents.create({ amount: 500, currency: "usd", confirm: true, payment_method: "pm_card_visa_chargeDeclinedInsufficientFunds" });
    await assert.rejects(declined, (error) => error instanceof Stripe.errors.StripeCardError && error.decline_code === "insufficient_funds" && error.payment_intent.status === "requires_payment_method");
    await assert.rejects(stripe.customers.create({ favourite: "blue" }), { code: "parameter_unknown", param: "favourite" });
    await assert.rejects(stripe.checkout.sessions.retrieve("cs_test_none"), { code: "resource_missing", statusCode: 404 });
    const stranger = new Stripe("sk_test_other", { host: "127.0.0.1", port: new URL(till.url).port, protocol: "http" });
    await assert.rejects(stranger.balance.retrieve(), { type: "StripeAuthenticationError" });
  });

  test("a subscription is sold, previewed, changed, renewed and cancelled", async () => {
    const session = await stripe.checkout.sessions.create({ mode: "subscription", line_items: [{ price: "price_plan", quantity: 1 }], subscription_data: { metadata: { plan: "basic" } }, ...PAGES });
    await till.act("pay", { session: session.id });
    const { subscription: id } = await stripe.checkout.sessions.retrieve(session.id);
    const subscription = await stripe.subscriptions.retrieve(id, { expand: ["latest_invoice.payments", "customer"] });
    assert.equal(subscription.status, "active");
    assert.match(subscription.latest_invoice.payments.data[0].payment.payment_intent, /^pi_/);
    const items = [{ id: subscription.items.data[0].id, price: "price_more" }];
    const preview = await stripe.invoices.createPreview({ subscription: id, subscription_details: { items, proration_behavior: "always_invoice" } });
    const changed = await stripe.subscriptions.update(id, { items, proration_behavior: "always_invoice", expand: ["latest_invoice"] });
    assert.equal(changed.latest_invoice.billing_reason, "subscription_update");
    assert.ok(Math.abs(preview.total - changed.latest_invoice.total) <= 1, `${preview.total} ${changed.latest_invoice.total}`);
    await till.act("renew", { subscription: id });
    const cycle = await stripe.invoices.list({ subscription: id, limit: 1 });
    assert.deepEqual([cycle.data[0].billing_reason, cycle.data[0].total], ["subscription_cycle", 9000]);
    const portal = await stripe.billingPortal.sessions.create({ customer: subscription.customer.id, return_url: "http://localhost:3000/" });
    assert.ok(portal.url.startsWith(till.url));
    assert.equal((await stripe.subscriptions.cancel(id)).status, "canceled");
  });
});

describe("the till's verifier and the official SDK's signatures", () => {
  test("what the SDK signs is what the till signs, byte for byte", async () => {
    const till = await startTill();
    try {
      await till.stripe.customers.create({ name: "Ünïcode \u2028 \"quotes\" \r\n 💶" });
      await till.quiet();
      for (const { body, signature } of till.arrivals) {
        const timestamp = Number(/^t=(\d+)/.exec(signature)[1]);
        assert.equal(till.stripe.webhooks.generateTestHeaderString({ payload: body.toString(), secret: SECRET, timestamp }), signature);
      }
      assert.equal(till.arrivals.length, 1);
    } finally {
      await till.stop();
    }
  });
});
