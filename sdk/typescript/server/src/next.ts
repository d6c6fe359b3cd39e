import { Refusal } from "./errors.js";
import type { Passage, Question, Tollgate } from "./tollgate.js";

/**
 * A route handler behind the gate: `export const POST = gated(tg, { charge: 2 }, async (request, passage) => …)`.
 * Refusals become answers, and an extended session reaches the browser whatever is answered.
 */
export const gated =
  <Context>(
    tollgate: Tollgate,
    question: Question | ((request: Request, context: Context) => Question | Promise<Question>),
    handler: (request: Request, passage: Passage, context: Context) => Response | Promise<Response>,
    log: (why: string) => void = (why) => console.error(why),
  ) =>
  async (request: Request, context: Context): Promise<Response> => {
    try {
      const asked = typeof question === "function" ? await question(request, context) : question;
      const passage = await tollgate.authorize(request, asked);
      const answer = await handler(request, passage, context);
      return withCookies(answer, passage.cookies);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if ("why" in error) log(`Tollgate gave no clear answer: ${String(error.why)}`);
      return error.toResponse();
    }
  };

function withCookies(answer: Response, cookies: readonly string[]): Response {
  if (cookies.length === 0) return answer;
  // The headers of a redirect or of an answer that was fetched cannot be changed.
  const copy = new Response(answer.body, answer);
  for (const line of cookies) copy.headers.append("set-cookie", line);
  copy.headers.set("cache-control", "no-store");
  return copy;
}
