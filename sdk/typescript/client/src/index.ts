/** Credits, billing and guests for the stock better-auth client: plain plugin objects and their types. */
export { billingClient } from "./billing.js";
export { creditsClient } from "./credits.js";
export { guestClient } from "./guest.js";
export type * from "./types.js";
