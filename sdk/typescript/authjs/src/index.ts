/** Users, accounts, sessions and tokens of an Auth.js app, kept in Tollgate. */
export { tollgateAdapter, type Adapter } from "./adapter.js";
export { AdapterUnavailable, type Options } from "./connection.js";
