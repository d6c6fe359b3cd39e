import { get, post, type Fetch, type Store } from "./call.js";
import type { CallOptions, Guest } from "./types.js";

/** `client.guest.begin()` for a visitor without an account, `.look()` for what is left of the allowances. */
export const guestClient = () =>
  ({
    id: "tollgate-guest" as const,
    getActions: ($fetch: Fetch, _$store: Store, options?: { baseURL?: string | undefined }) => {
      // The guests' door stands beside the one for users, not below it.
      const door = () => new URL("/api/guest", options?.baseURL ?? globalThis.location?.href).href;
      return {
        guest: {
          /** Makes a guest of this browser, unless it is one. */
          begin: (call?: CallOptions) => post<Guest>($fetch, door(), {}, call),
          look: (call?: CallOptions) => get<Guest>($fetch, door(), undefined, call),
        },
      };
    },
  });
