import { get, post, type Fetch, type Store } from "./call.js";
import type {
  CallOptions,
  Catalog,
  ChangePreview,
  CheckoutRequest,
  CheckoutStatus,
  Departure,
  Invoices,
  Subscription,
} from "./types.js";

/** `client.billing.checkout({ price })`, `.portal()`, `.subscription()` … The client goes to the checkout by itself. */
export const billingClient = () =>
  ({
    id: "tollgate-billing" as const,
    getActions: ($fetch: Fetch, $store: Store) => {
      const at = (path: string) => `/billing/${path}`;
      /** The balance has changed, if anybody looks at it. */
      const changed = async <T>(answer: Promise<T>): Promise<T> => {
        const known = await answer;
        if ("$creditsSignal" in $store.atoms) $store.notify("$creditsSignal");
        return known;
      };
      return {
        billing: {
          catalog: (options?: CallOptions) => get<Catalog>($fetch, at("catalog"), undefined, options),
          checkout: (request: CheckoutRequest, options?: CallOptions) => post<Departure>($fetch, at("checkout"), request, options),
          /** What became of the session that the buyer came back with; brings its credits if they are due. */
          checkoutStatus: (session: string, options?: CallOptions) =>
            changed(get<CheckoutStatus>($fetch, at("checkout-status"), { session }, options)),
          portal: (request?: { returnUrl?: string; organizationId?: string }, options?: CallOptions) =>
            post<Departure>($fetch, at("portal"), request, options),
          subscription: (options?: CallOptions) => get<Subscription | null>($fetch, at("subscription"), undefined, options),
          /** What a change to this plan would cost; nothing is changed. */
          preview: (plan: string, options?: CallOptions) =>
            post<ChangePreview>($fetch, at("subscription/change"), { plan, preview: true }, options),
          change: (plan: string, options?: CallOptions) =>
            changed(post<Subscription>($fetch, at("subscription/change"), { plan }, options)),
          /** Ends the subscription with what was paid for. */
          cancel: (options?: CallOptions) => post<Subscription>($fetch, at("subscription/cancel"), {}, options),
          resume: (options?: CallOptions) => post<Subscription>($fetch, at("subscription/resume"), {}, options),
          invoices: (options?: CallOptions) => get<Invoices>($fetch, at("invoices"), undefined, options),
        },
      };
    },
    // For calls by path, which would be GET without a body.
    pathMethods: {
      "/billing/portal": "POST" as const,
      "/billing/subscription/cancel": "POST" as const,
      "/billing/subscription/resume": "POST" as const,
    },
  });
