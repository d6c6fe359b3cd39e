// The SDK's own types judge the till: every parameter it accepts is one of Stripe's, and every object it shows has
// Stripe's members and no other.
import assert from "node:assert/strict";
import { test } from "node:test";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { startTill } from "../harness/till.mjs";

const here = fileURLToPath(new URL("../", import.meta.url));

/** What the compiler says of this text, as a module beside the tests. */
function complaints(text) {
  const file = path.join(here, "till-judged.ts");
  const options = { strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.Node16, moduleResolution: ts.ModuleResolutionKind.Node16, types: [] };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.getSourceFile = (name, ...rest) => (name === file ? ts.createSourceFile(name, text, ...rest) : getSourceFile(name, ...rest));
  host.fileExists = (name) => name === file || fileExists(name);
  host.readFile = (name) => (name === file ? text : readFile(name));
  const lines = text.split("\n");
  return ts.getPreEmitDiagnostics(ts.createProgram([file], options, host)).map((found) => {
    const message = ts.flattenDiagnosticMessageText(found.messageText, "\n");
    if (!found.file) return message;
    const { line } = found.file.getLineAndCharacterOfPosition(found.start);
    return `${found.file.fileName === file ? lines[line].slice(0, 200) : found.file.fileName}\n  ${message}`;
  });
}

/** The SDK's name for the parameters of a call, by method and path. */
const PARAMETERS = {
  "POST /v1/customers": "CustomerCreateParams",
  "GET /v1/customers": "CustomerListParams",
  "POST /v1/customers/{id}": "CustomerUpdateParams",
  "GET /v1/customers/{id}/payment_methods": "CustomerListPaymentMethodsParams",
  "GET /v1/payment_methods": "PaymentMethodListParams",
  "POST /v1/payment_methods/{id}/attach": "PaymentMethodAttachParams",
  "POST /v1/products": "ProductCreateParams",
  "GET /v1/products": "ProductListParams",
  "POST /v1/products/{id}": "ProductUpdateParams",
  "POST /v1/prices": "PriceCreateParams",
  "GET /v1/prices": "PriceListParams",
  "POST /v1/prices/{id}": "PriceUpdateParams",
  "POST /v1/coupons": "CouponCreateParams",
  "POST /v1/promotion_codes": "PromotionCodeCreateParams",
  "GET /v1/promotion_codes": "PromotionCodeListParams",
  "POST /v1/checkout/sessions": "Checkout.SessionCreateParams",
  "GET /v1/checkout/sessions": "Checkout.SessionListParams",
  "POST /v1/checkout/sessions/{id}": "Checkout.SessionUpdateParams",
  "GET /v1/checkout/sessions/{id}/line_items": "Checkout.SessionListLineItemsParams",
  "POST /v1/billing_portal/sessions": "BillingPortal.SessionCreateParams",
  "POST /v1/subscriptions": "SubscriptionCreateParams",
  "GET /v1/subscriptions": "SubscriptionListParams",
  "POST /v1/subscriptions/{id}": "SubscriptionUpdateParams",
  "DELETE /v1/subscriptions/{id}": "SubscriptionCancelParams",
  "GET /v1/subscription_items": "SubscriptionItemListParams",
  "POST /v1/subscription_items/{id}": "SubscriptionItemUpdateParams",
  "GET /v1/invoices": "InvoiceListParams",
  "POST /v1/invoices/create_preview": "InvoiceCreatePreviewParams",
  "GET /v1/invoices/{id}/lines": "InvoiceListLineItemsParams",
  "POST /v1/invoices/{id}/pay": "InvoicePayParams",
  "GET /v1/invoice_payments": "InvoicePaymentListParams",
  "POST /v1/payment_intents": "PaymentIntentCreateParams",
  "GET /v1/payment_intents": "PaymentIntentListParams",
  "POST /v1/payment_intents/{id}": "PaymentIntentUpdateParams",
  "POST /v1/payment_intents/{id}/confirm": "PaymentIntentConfirmParams",
  "POST /v1/payment_intents/{id}/cancel": "PaymentIntentCancelParams",
  "GET /v1/charges": "ChargeListParams",
  "POST /v1/refunds": "RefundCreateParams",
  "GET /v1/refunds": "RefundListParams",
  "POST /v1/refunds/{id}": "RefundUpdateParams",
  "GET /v1/disputes": "DisputeListParams",
  "GET /v1/events": "EventListParams",
  "GET /v1/webhook_endpoints": "WebhookEndpointListParams",
};

test("every parameter that the till accepts is one of Stripe's", async () => {
  const till = await startTill();
  const calls = await till.raw("/_till/parameters").finally(() => till.stop());
  const lines = [
    'import Stripe from "stripe";',
    // The type of a member, whichever of several shapes it may have; none when no shape has it.
    "type Plain<T> = T extends string | number | boolean | null | undefined ? never : T;",
    "type Member<T, K> = Plain<T> extends infer U ? (U extends unknown ? (K extends keyof U ? U[K] : never) : never) : never;",
    "type Item<T> = Plain<T> extends infer U ? (U extends readonly (infer I)[] ? I : never) : never;",
    "type Exists<T> = [T] extends [never] ? never : true;",
  ];
  for (const { method, path: where, parameters } of calls) {
    const name = PARAMETERS[`${method} ${where}`];
    assert.ok(name || parameters.length === 0, `${method} ${where} has parameters and no type to judge them`);
    for (const parameter of parameters) {
      let type = `Stripe.${name}`;
      for (const part of parameter.split(".")) {
        const member = part.replace(/\[\]$/, "");
        type = `Member<${type}, ${member === "*" ? "string" : JSON.stringify(member)}>`;
        if (part.endsWith("[]")) type = `Item<${type}>`;
      }
      lines.push(`{ const exists: Exists<${type}> = true; void exists; } // ${method} ${where} ${parameter}`);
    }
  }
  assert.ok(lines.length > 200, "there is something to judge");
  assert.deepEqual(complaints(lines.join("\n")), []);
  // The judge can say no.
  assert.equal(complaints([...lines.slice(0, 5), 'export const no: Exists<Member<Stripe.CustomerCreateParams, "favourite">> = true;'].join("\n")).length, 1);
});

/** The SDK makes numbers of a kind of its own of these texts, so they are judged here and not by the compiler. */
const DECIMALS = new Set(["unit_amount_decimal", "amount_decimal", "quantity_decimal"]);

/** A literal of the value; open dictionaries are left to the compiler as they are. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).map(([name, member]) => {
    if (!DECIMALS.has(name)) return `${JSON.stringify(name)}: ${literal(member)}`;
    assert.match(String(member), /^(-?\d+(\.\d+)?|null)$/, name);
    return `${JSON.stringify(name)}: null`;
  });
  return `{ ${members.join(", ")} }`;
}

test("every object that the till shows has the members and values of Stripe's", async () => {
  const till = await startTill("--price", "price_pack=1000,usd", "--price", "price_plan=3000,usd,month", "--price", "price_more=9000,usd,month");
  const { stripe } = till;
  const judged = [];
  // Answers that the SDK has read are compared as they were sent.
  const judge = async (type, where) => judged.push([type, await till.raw(where)]);
  try {
    const pages = { success_url: "http://localhost/" };
    await stripe.coupons.create({ id: "tenth", percent_off: 10, duration: "repeating", duration_in_months: 3 });
    const code = await stripe.promotionCodes.create({ promotion: { type: "coupon", coupon: "tenth" }, code: "TENTH" });
    const once = await stripe.checkout.sessions.create({ mode: "payment", line_items: [{ price: "price_pack", quantity: 1, adjustable_quantity: { enabled: true, maximum: 3 } }], discounts: [{ promotion_code: code.id }], automatic_tax: { enabled: true }, invoice_creation: { enabled: true }, ...pages });
    await judge("Checkout.Session", `/v1/checkout/sessions/${once.id}`);
    const { payment_intent: intent, invoice } = await till.act("pay", { session: once.id });
    await judge("Checkout.Session", `/v1/checkout/sessions/${once.id}?expand[]=line_items`);
    await judge("PaymentIntent", `/v1/payment_intents/${intent}?expand[]=payment_method`);
    await judge("Invoice", `/v1/invoices/${invoice}?expand[]=payments&expand[]=discounts`);
    const { latest_charge: charge } = await stripe.paymentIntents.retrieve(intent);
    const refund = await till.act("refund", { payment: intent, amount: 100, slowly: true });
    await judge("Refund", `/v1/refunds/${refund.id}`);
    await till.act("fail_refund", { refund: refund.id });
    await judge("Refund", `/v1/refunds/${refund.id}`);
    await judge("Charge", `/v1/charges/${charge}?expand[]=refunds`);
    const dispute = await till.act("dispute", { payment: intent });
    await judge("Dispute", `/v1/disputes/${dispute.id}`);
    const declined = await stripe.paymentIntents.create({ amount: 500, currency: "usd", confirm: true, payment_method: "pm_card_visa_chargeDeclined" }).catch((error) => error.payment_intent);
    await judge("Charge", `/v1/charges/${declined.latest_charge}`);
    const delayed = await stripe.checkout.sessions.create({ mode: "payment", line_items: [{ price: "price_pack", quantity: 1 }], ...pages });
    const later = await till.act("pay", { session: delayed.id, means: "delayed" });
    await judge("PaymentIntent", `/v1/payment_intents/${later.payment_intent}?expand[]=latest_charge&expand[]=payment_method`);
    const plan = await stripe.checkout.sessions.create({ mode: "subscription", line_items: [{ price: "price_plan", quantity: 1 }], discounts: [{ coupon: "tenth" }], automatic_tax: { enabled: true }, ...pages });
    const { subscription, customer } = await till.act("pay", { session: plan.id });
    const { items } = await stripe.subscriptions.retrieve(subscription);
    await stripe.subscriptions.update(subscription, { items: [{ id: items.data[0].id, price: "price_more" }], proration_behavior: "always_invoice" });
    await judge("Subscription", `/v1/subscriptions/${subscription}?expand[]=discounts&expand[]=default_payment_method`);
    await judge("SubscriptionItem", `/v1/subscription_items/${items.data[0].id}`);
    const { latest_invoice } = await stripe.subscriptions.retrieve(subscription);
    await judge("Invoice", `/v1/invoices/${latest_invoice}`);
    await judge("ApiList<Stripe.InvoiceLineItem>", `/v1/invoices/${latest_invoice}/lines`);
    await judge("ApiList<Stripe.InvoicePayment>", `/v1/invoice_payments?invoice=${latest_invoice}`);
    await judge("Customer", `/v1/customers/${customer}`);
    const setup = await stripe.checkout.sessions.create({ mode: "setup", currency: "usd", ...pages });
    await judge("SetupIntent", `/v1/setup_intents/${(await till.act("pay", { session: setup.id })).setup_intent}`);
    judged.push(["BillingPortal.Session", (({ lastResponse, ...rest }) => rest)(await stripe.billingPortal.sessions.create({ customer }))]);
    await judge("Coupon", "/v1/coupons/tenth");
    await judge("PromotionCode", `/v1/promotion_codes/${code.id}?expand[]=promotion.coupon`);
    const price = await till.raw("/v1/prices/price_pack");
    judged.push(["Price", price]);
    await judge("Product", `/v1/products/${price.product}`);
    await judge("Account", "/v1/account");
    await judge("Balance", "/v1/balance");
    await judge("ApiList<Stripe.WebhookEndpoint>", "/v1/webhook_endpoints");
    for await (const event of stripe.events.list({ limit: 100 })) await judge("Event", `/v1/events/${event.id}`);
  } finally {
    await till.stop();
  }
  const lines = ['import Stripe from "stripe";', ...judged.map(([type, value], place) => `export const v${place}: Stripe.${type} = ${literal(value)};`)];
  assert.deepEqual(complaints(lines.join("\n")), []);
  // The judge can say no.
  const wrong = { ...judged.find(([type]) => type === "Customer")[1], favourite: "blue" };
  assert.equal(complaints(`${lines[0]}\nexport const no: Stripe.Customer = ${literal(wrong)};`).length, 1);
});
