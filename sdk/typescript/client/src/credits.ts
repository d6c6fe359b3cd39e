import { useAuthQuery } from "better-auth/client";
import { atom } from "nanostores";
import { get, type Fetch, type Store } from "./call.js";
import type { Balance, CallOptions, History, HistoryQuery, Usage, UsageQuery } from "./types.js";

/** `client.credits.balance()`, `.history()`, `.usage()`, `.refresh()`, and the hook `client.useCredits()`. */
export const creditsClient = () => {
  const $creditsSignal = atom(false);
  return {
    id: "tollgate-credits" as const,
    getAtoms: ($fetch: Parameters<typeof useAuthQuery>[2]) => ({
      $creditsSignal,
      credits: useAuthQuery<Balance>($creditsSignal, "/credits/balance", $fetch, { method: "GET" }),
    }),
    getActions: ($fetch: Fetch, $store: Store) => {
      const refresh = () => $store.notify("$creditsSignal");
      // What the app's backend spends is not seen here; whoever comes back to the page sees it.
      globalThis.window?.addEventListener?.("focus", refresh);
      return {
        credits: {
          balance: (query?: { unit?: string }, options?: CallOptions) => get<Balance>($fetch, "/credits/balance", query, options),
          /** Newest first; `nextCursor` goes on. */
          history: (query?: HistoryQuery, options?: CallOptions) => get<History>($fetch, "/credits/entries", query, options),
          usage: (query?: UsageQuery, options?: CallOptions) => get<Usage>($fetch, "/credits/usage", query, options),
          /** Makes `useCredits()` ask again: after your backend has spent. */
          refresh,
        },
      };
    },
    atomListeners: [
      { matcher: (path: string) => /^\/(sign-|delete-user|multi-session\/)/.test(path), signal: "$creditsSignal" },
    ],
  };
};
