/** Sessions, credits, holds and webhooks of Tollgate for backends in Node. Nothing is cached, and no token is parsed. */
export { Connection, type Options } from "./connection.js";
export { Credits, Hold, type Balance, type Charge, type Owner, type Price } from "./credits.js";
export { Forbidden, InsufficientCredits, LimitReached, Misuse, Refusal, Unauthenticated, Unavailable } from "./errors.js";
export type { Incoming } from "./incoming.js";
export { tollgate, Tollgate, type Passage, type Question, type Session, type User } from "./tollgate.js";
export { verifyWebhook, WebhookRefused, type Event } from "./webhook.js";
