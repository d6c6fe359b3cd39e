/** A request as it came: of the Web (`Request`, Next.js), of Node and Express, or only its headers. */
export type Incoming =
  | { headers: Headers | Record<string, string | string[] | undefined>; socket?: { remoteAddress?: string | undefined } }
  | Headers;

/** What is passed on to Tollgate of a request: its cookies, byte for byte, its token, and where it came from. */
export interface Passed {
  cookie: string | null;
  token: string | null;
  apiKey: string | null;
  addresses: string;
}

export function passed(incoming: Incoming): Passed {
  const headers = incoming instanceof Headers ? incoming : incoming.headers;
  const read = (name: string): string | null => {
    if (headers instanceof Headers) return headers.get(name);
    const value = headers[name];
    return Array.isArray(value) ? value.join(name === "cookie" ? "; " : ", ") : (value ?? null);
  };
  const [, token] = /^bearer +(\S+)$/i.exec(read("authorization") ?? "") ?? [];
  const peer = "socket" in incoming ? incoming.socket?.remoteAddress : undefined;
  const addresses = [read("x-forwarded-for"), peer].filter((address) => Boolean(address));
  return { cookie: read("cookie"), token: token ?? null, apiKey: read("x-api-key"), addresses: addresses.join(", ") };
}
