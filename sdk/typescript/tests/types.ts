// Compiled only: what an app writes has the types it should, and mistakes are errors.
import { billingClient, creditsClient, guestClient, type Balance, type Guest } from "@tollgate/client";
import { tollgate, verifyWebhook, type Passage, type User } from "@tollgate/server";
import { gate, refusals, signedIn } from "@tollgate/server/express";
import { gated } from "@tollgate/server/next";
import { createAuthClient as createReactClient } from "better-auth/react";
import { createAuthClient } from "better-auth/client";
import type { Adapter as AuthAdapter } from "@auth/core/adapters";
import { getToken } from "@auth/core/jwt";
import { tollgateAdapter } from "@tollgate/authjs";
import { forwarding } from "@tollgate/authjs/token";
import express from "express";

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const same = <_T extends true>() => undefined;

const client = createAuthClient({ baseURL: "http://localhost:8655", plugins: [creditsClient(), billingClient(), guestClient()] });
const react = createReactClient({ plugins: [creditsClient()] });

export async function browser() {
  const { data, error } = await client.credits.balance();
  same<Same<typeof data, Balance | null>>();
  if (error?.code === "INSUFFICIENT_CREDITS") console.log(error["required"]);
  await client.credits.history({ kind: ["debit", "grant"], limit: 10 });
  await client.billing.checkout({ price: "small", quantity: 2 });
  const guest = await client.guest.begin();
  same<Same<typeof guest.data, Guest | null>>();
  const shown = react.useCredits();
  same<Same<typeof shown.data, Balance | null>>();
  // @ts-expect-error A browser never names an amount of credits.
  await client.billing.checkout({ price: "small", credits: 5 });
  // @ts-expect-error There is no such kind.
  await client.credits.history({ kind: "theft" });
}

const tg = tollgate({ url: "http://localhost:8655", key: "tg_sk_x" });

export async function backend(request: Request) {
  const user = await tg.user(request);
  same<Same<typeof user, User | null>>();
  if (!user) return;
  await using hold = await tg.credits(user).hold(8);
  await hold.settle(5);
  await tg.credits({ organization_id: "o" }).spend({ feature: "image.generate" }, { key: "job-1" });
  // @ts-expect-error An owner is one of them.
  tg.credits({ account: "x" });
  await verifyWebhook("whsec_x", request.headers, await request.text());
}

export const POST = gated(tg, { charge: 2 }, (_request, passage) => {
  same<Same<typeof passage, Passage>>();
  return Response.json({ left: passage.charge?.available });
});

const app = express();
app.get("/me", signedIn(tg), (req, res) => void res.json((req as { tollgate?: unknown }).tollgate));
app.post("/images", gate(tg, { charge: { feature: "image.generate" } }), (_req, res) => void res.json({}));
app.use(refusals());

export const adapter: AuthAdapter = tollgateAdapter({ url: "http://localhost:8655", secret: "x" });
export const { GET } = forwarding({ getToken, backend: "http://localhost:8000" });
