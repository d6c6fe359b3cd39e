import type { Connection, Said } from "./connection.js";
import { isObject, Misuse, refusal, Unavailable } from "./errors.js";

export type Owner = { user_id: string } | { organization_id: string } | { guest_id: string };

/** A number of credits, or what the price book says of a feature. */
export type Price = number | { amount: number; unit?: string } | { feature: string; quantity?: number };

export interface Charge {
  entryId: string;
  amount: number;
  unit: string;
  balance: number;
  available: number;
  replayed: boolean;
}

export interface Balance {
  unit: string;
  balance: number;
  held: number;
  available: number;
  owed: number;
}

export interface SpendOptions {
  /** What is paid for: the same key pays once, however often it is sent. Without one each call pays. */
  key?: string;
  reason?: string;
  metadata?: Record<string, unknown>;
}

export const priced = (price: Price): Record<string, unknown> => (typeof price === "number" ? { amount: price } : { ...price });

/** One owner's credits. */
export class Credits {
  readonly #connection: Connection;
  constructor(
    connection: Connection,
    readonly owner: Owner,
  ) {
    this.#connection = connection;
  }

  async balance(unit?: string): Promise<Balance> {
    const query = new URLSearchParams({ ...this.owner, ...(unit === undefined ? {} : { unit }) });
    return figures(ok(await this.#connection.asApp("GET", `/api/credits/balance?${query}`)));
  }

  async spend(price: Price, { key, ...rest }: SpendOptions = {}): Promise<Charge> {
    const body = { ...this.owner, ...priced(price), ...rest };
    const said = await this.#post("/api/credits/debits", body, key);
    const { entry } = ok(said);
    const { id, amount, unit } = isObject(entry) ? entry : {};
    if (typeof id !== "string" || typeof amount !== "number" || typeof unit !== "string") throw new Unavailable("half an answer");
    const { balance, available } = figures(ok(said)["balance"]);
    return { entryId: id, amount: -amount, unit, balance, available, replayed: said.headers.has("idempotent-replayed") };
  }

  /**
   * Reserves credits for work whose cost is not known yet. Settle or release it, or let the block end: `await using`
   * releases what was not settled, and after `expiresIn` seconds it ends by itself.
   */
  async hold(price: Price, { key, expiresIn = 300, ...rest }: SpendOptions & { expiresIn?: number } = {}): Promise<Hold> {
    const body = { ...this.owner, ...priced(price), expires_in: expiresIn, ...rest };
    const { hold } = ok(await this.#post("/api/credits/holds", body, key));
    if (!isObject(hold) || typeof hold["id"] !== "string" || typeof hold["amount"] !== "number") {
      throw new Unavailable("half an answer");
    }
    return new Hold(this.#connection, hold["id"], hold["amount"]);
  }

  /** [`hold`](#hold) around a piece of work, for runtimes without `await using`: it throws, and costs nothing. */
  async holding<T>(price: Price, work: (hold: Hold) => Promise<T>, options?: SpendOptions & { expiresIn?: number }): Promise<T> {
    const hold = await this.hold(price, options);
    try {
      return await work(hold);
    } finally {
      await hold.end();
    }
  }

  async grant(
    amount: number,
    { key, reason, ...rest }: SpendOptions & { unit?: string; source?: "promo" | "adjustment"; expiresAt?: Date } = {},
  ): Promise<string> {
    const { expiresAt, source = "promo", ...more } = rest;
    const ends = expiresAt === undefined ? {} : { expires_at: expiresAt.toISOString() };
    const body = { ...this.owner, amount, source, reason: reason ?? "granted by the app", ...ends, ...more };
    const { grant } = ok(await this.#post("/api/credits/grants", body, key));
    if (!isObject(grant) || typeof grant["id"] !== "string") throw new Unavailable("half an answer");
    return grant["id"];
  }

  /** Newest first; `next_cursor` goes on. */
  async history(query: Record<string, string> = {}): Promise<{ items: Record<string, unknown>[]; next_cursor: string | null }> {
    const page = ok(await this.#connection.asApp("GET", `/api/credits/entries?${new URLSearchParams({ ...this.owner, ...query })}`));
    if (!Array.isArray(page["items"])) throw new Unavailable("half an answer");
    return page as { items: Record<string, unknown>[]; next_cursor: string | null };
  }

  #post(path: string, body: object, key: string = crypto.randomUUID()): Promise<Said> {
    return this.#connection.asApp("POST", path, body, { "idempotency-key": key });
  }
}

/** Credits that are reserved. */
export class Hold {
  readonly #connection: Connection;
  #ended = false;
  constructor(
    connection: Connection,
    readonly id: string,
    readonly amount: number,
  ) {
    this.#connection = connection;
  }

  /** Pays what the work cost and frees the rest. More than was held is paid from what is available, or refused. */
  async settle(amount: number = this.amount): Promise<void> {
    if (amount === 0) return this.release();
    const above = amount > this.amount ? { above: "balance" } : {};
    await this.#end("capture", { amount, ...above });
  }

  release(): Promise<void> {
    return this.#end("release", {});
  }

  /** What a block that is left does: what was not settled is released. If that fails, the hold ends by itself. */
  async end(): Promise<void> {
    if (!this.#ended) await this.release().catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  async #end(verb: "capture" | "release", body: object): Promise<void> {
    if (this.#ended) throw new Misuse("the hold was settled or released before", "conflict", 409);
    const path = `/api/credits/holds/${encodeURIComponent(this.id)}/${verb}`;
    ok(await this.#connection.asApp("POST", path, body, { "idempotency-key": `${verb}:${this.id}` }));
    this.#ended = true;
  }
}

/** A success of Tollgate's, or what it refused. */
export function ok(said: Said): Record<string, unknown> {
  if (said.status !== 200 && said.status !== 201) throw refusal(said.status, said.body, said.headers.get("retry-after"));
  if (!isObject(said.body)) throw new Unavailable(`status ${said.status} without an object`);
  return said.body;
}

function figures(body: unknown): Balance {
  const { unit, balance, held, available, owed } = isObject(body) ? body : {};
  const numbers = [balance, held, available, owed];
  if (typeof unit !== "string" || !numbers.every((number) => typeof number === "number")) throw new Unavailable("half an answer");
  return { unit, balance, held, available, owed } as Balance;
}
