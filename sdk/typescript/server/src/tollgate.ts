import { Connection, type Options, type Said } from "./connection.js";
import { Credits, Hold, ok, priced, type Owner, type Price } from "./credits.js";
import { isObject, Refusal, Unauthenticated, Unavailable } from "./errors.js";
import { passed, type Incoming, type Passed } from "./incoming.js";

export interface User {
  id: string;
  email: string;
  name: string;
  emailVerified: boolean;
  role: string | null;
}

export interface Session {
  user: User;
  expiresAt: Date;
  /** Lines for the browser: its session was extended. */
  cookies: readonly string[];
}

/** What is asked of whoever sent a request. Every part may be left out. */
export interface Question {
  /** Must be the session's user. */
  userId?: string;
  role?: string;
  charge?: Price;
  /** Reserve instead of spending, for so many seconds. */
  hold?: boolean | { expiresIn: number };
  payer?: { organization_id: string };
  /** A visitor without an account may do this, as often as the settings say. */
  guest?: { action: string };
  /** A feature that the payer's plan must have. */
  entitlement?: string;
  reason?: string;
  metadata?: Record<string, unknown>;
  /** What is paid for: the same key pays once. Without one each call pays. */
  key?: string;
}

/** Who came, and what it cost. */
export interface Passage {
  subject: { kind: "user" | "guest" | "api_key"; id: string };
  user: User | null;
  charge: { entryId: string | null; hold: Hold | null; amount: number; unit: string; balance: number; available: number } | null;
  guest: { action: string; limit: number; used: number; remaining: number; resetsAt: Date | null } | null;
  /** Lines for the browser: its session was extended. */
  cookies: readonly string[];
}

export class Tollgate {
  readonly #connection: Connection;

  constructor(options: Options) {
    this.#connection = new Connection(options);
  }

  /** Who is signed in, or null. For where no cookie can be set (server components): the session is not extended. */
  async user(incoming: Incoming): Promise<User | null> {
    return (await this.#session(passed(incoming), "?disableRefresh=true"))?.user ?? null;
  }

  /** The same with what the browser has to be told; throws `Unauthenticated` when nobody is signed in. */
  async session(incoming: Incoming): Promise<Session> {
    const found = await this.#session(passed(incoming), "");
    if (!found) throw new Unauthenticated(401, "unauthenticated", "Sign in first.");
    return found;
  }

  /** Session, permission and charge in one round trip. */
  async authorize(incoming: Incoming, question: Question = {}): Promise<Passage> {
    const { userId, charge, hold, key, ...rest } = question;
    const body = {
      ...rest,
      ...(userId === undefined ? {} : { user_id: userId }),
      ...(charge === undefined ? {} : { charge: priced(charge) }),
      ...(hold ? { hold: true } : {}),
      ...(typeof hold === "object" ? { hold_expires_in: hold.expiresIn } : {}),
    };
    const from = passed(incoming);
    const headers: Record<string, string> = forwarded(from);
    const token = from.token ?? from.apiKey;
    if (token) headers["x-tollgate-token"] = token;
    if (charge !== undefined) headers["idempotency-key"] = key ?? crypto.randomUUID();
    const said = await this.#connection.asApp("POST", "/api/gate/authorize", body, headers);
    const cookies = said.headers.getSetCookie();
    try {
      return this.#passage(said, cookies, charge !== undefined);
    } catch (error) {
      if (error instanceof Refusal) error.cookies = cookies;
      throw error;
    }
  }

  credits(owner: User | Owner): Credits {
    return new Credits(this.#connection, "id" in owner ? { user_id: owner.id } : owner);
  }

  async #session(from: Passed, query: string): Promise<Session | null> {
    if (from.cookie === null && from.token === null) return null;
    const headers: Record<string, string> = {};
    if (from.cookie !== null) headers["cookie"] = from.cookie;
    if (from.token !== null) headers["authorization"] = `Bearer ${from.token}`;
    const said = await this.#connection.ask("GET", `/api/auth/get-session${query}`, headers);
    if (said.status !== 200) throw new Unavailable(`status ${said.status}`, said.headers.get("retry-after") ?? "1");
    if (said.body === null) return null;
    const { session, user } = isObject(said.body) ? said.body : {};
    const expiresAt = new Date(isObject(session) ? String(session["expiresAt"]) : Number.NaN);
    if (!isObject(user) || Number.isNaN(expiresAt.getTime())) throw new Unavailable("a body that is no session and not null");
    return { user: person(user, "emailVerified", "id"), expiresAt, cookies: said.headers.getSetCookie() };
  }

  #passage(said: Said, cookies: readonly string[], asked: boolean): Passage {
    const body = ok(said);
    const { subject, user, charge, guest } = body;
    const kind = isObject(subject) ? subject["kind"] : undefined;
    const id = isObject(subject) ? subject["id"] : undefined;
    if ((kind !== "user" && kind !== "guest" && kind !== "api_key") || typeof id !== "string") throw new Unavailable("half an answer");
    // Whoever asked for a charge and is told of none must not work for nothing; a guest's allowance stands in for it.
    if (asked && !isObject(charge) && !isObject(guest)) throw new Unavailable("half an answer");
    return {
      subject: { kind, id },
      user: isObject(user) ? person(user, "email_verified", "user_id") : null,
      charge: isObject(charge) ? this.#charge(charge) : null,
      guest: isObject(guest) ? allowance(guest) : null,
      cookies,
    };
  }

  #charge(charge: Record<string, unknown>): Passage["charge"] {
    const { entry_id: entry, hold_id: hold, amount, unit, balance, available } = charge;
    const numbers = [amount, balance, available];
    if (!numbers.every((figure) => typeof figure === "number") || typeof unit !== "string") throw new Unavailable("half an answer");
    return {
      entryId: typeof entry === "string" ? entry : null,
      hold: typeof hold === "string" ? new Hold(this.#connection, hold, amount as number) : null,
      amount: amount as number,
      unit,
      balance: balance as number,
      available: available as number,
    };
  }
}

export const tollgate = (options: Options): Tollgate => new Tollgate(options);

function forwarded(from: Passed): Record<string, string> {
  const headers: Record<string, string> = {};
  if (from.cookie !== null) headers["cookie"] = from.cookie;
  if (from.addresses) headers["x-forwarded-for"] = from.addresses;
  return headers;
}

function person(body: Record<string, unknown>, verified: string, name: string): User {
  const id = body[name];
  const { email, name: called, role } = body;
  if (typeof id !== "string" || id === "" || typeof email !== "string") throw new Unavailable("a user without id or address");
  return {
    id,
    email,
    name: typeof called === "string" ? called : "",
    emailVerified: body[verified] === true,
    role: typeof role === "string" ? role : null,
  };
}

function allowance(body: Record<string, unknown>): Passage["guest"] {
  const { action, limit, used, remaining, resets_at: resets } = body;
  if (typeof action !== "string" || ![limit, used, remaining].every((figure) => typeof figure === "number")) {
    throw new Unavailable("half an answer");
  }
  const resetsAt = typeof resets === "string" ? new Date(resets) : null;
  return { action, limit: limit as number, used: used as number, remaining: remaining as number, resetsAt };
}
