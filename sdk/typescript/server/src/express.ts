import { Misuse, Refusal } from "./errors.js";
import type { Incoming } from "./incoming.js";
import type { Passage, Question, Session, Tollgate } from "./tollgate.js";

interface Res {
  append(name: string, value: string[]): unknown;
  set(name: string, value: string): unknown;
  status(code: number): Res;
  json(body: unknown): unknown;
}
type Next = (error?: unknown) => void;
type Req = Extract<Incoming, { headers: Record<string, string | string[] | undefined> | Headers }> & object;

/** Puts who is signed in at `req.tollgate`, and refuses everybody else. */
export const signedIn =
  (tollgate: Tollgate) =>
  async (req: Req & { tollgate?: Session }, res: Res, next: Next): Promise<void> => {
    const session = await tollgate.session(req);
    passOn(session.cookies, res);
    req.tollgate = session;
    next();
  };

/** Asks before a route, and puts the answer at `req.passage`. */
export const gate =
  <R extends Req>(tollgate: Tollgate, question: Question | ((req: R) => Question) = {}) =>
  async (req: R & { passage?: Passage }, res: Res, next: Next): Promise<void> => {
    const passage = await tollgate.authorize(req, typeof question === "function" ? question(req) : question);
    passOn(passage.cookies, res);
    req.passage = passage;
    next();
  };

/** Last of all: refusals become answers, all else goes on to the next handler of errors. */
export const refusals =
  (log: (why: string) => void = (why) => console.error(why)) =>
  (error: unknown, _req: unknown, res: Res, next: Next): void => {
    if (error instanceof Misuse) log(error.message);
    if (!(error instanceof Refusal)) return next(error);
    if ("why" in error) log(`Tollgate gave no clear answer: ${String(error.why)}`);
    passOn(error.cookies, res);
    if (error.retryAfter !== null) res.set("retry-after", error.retryAfter);
    res.status(error.status).json(error.body());
  };

function passOn(cookies: readonly string[], res: Res): void {
  if (cookies.length === 0) return;
  res.set("cache-control", "no-store");
  res.append("set-cookie", [...cookies]);
}
