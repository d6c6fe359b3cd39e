import { Connection, type Options } from "./connection.js";

// Auth.js' own types differ between v4 and v5; these are what both take.
type Row = Record<string, any>;

/** Plain functions: Auth.js copies them off the object one by one. */
export interface Adapter {
  createUser(user: any): Promise<any>;
  getUser(id: string): Promise<any>;
  getUserByEmail(email: string): Promise<any>;
  getUserByAccount(account: any): Promise<any>;
  updateUser(user: any): Promise<any>;
  deleteUser(id: string): Promise<any>;
  linkAccount(account: any): Promise<any>;
  unlinkAccount(account: any): Promise<any>;
  getAccount(providerAccountId: string, provider: string): Promise<any>;
  createSession(session: any): Promise<any>;
  getSessionAndUser(sessionToken: string): Promise<any>;
  updateSession(session: any): Promise<any>;
  deleteSession(sessionToken: string): Promise<any>;
  createVerificationToken(token: any): Promise<any>;
  useVerificationToken(token: any): Promise<any>;
  createAuthenticator(authenticator: any): Promise<any>;
  getAuthenticator(credentialID: string): Promise<any>;
  listAuthenticatorsByUserId(userId: string): Promise<any>;
  updateAuthenticatorCounter(credentialID: string, counter: number): Promise<any>;
}

/** `adapter: tollgateAdapter({ url, secret })` in the configuration of NextAuth v4 or v5. */
export function tollgateAdapter(options: Options): Adapter {
  const door = new Connection(options);
  const user = revive("emailVerified");
  const session = revive("expires");
  const token = revive("expires");
  const account = (row: Row) => row;
  return {
    createUser: async (data) => user(await door.must("POST", "/users", data)),
    getUser: async (id) => maybe(user, await door.find("GET", `/users/${encodeURIComponent(id)}`)),
    getUserByEmail: async (email) => maybe(user, await door.find("GET", `/users/by-email?${query({ email })}`)),
    getUserByAccount: async ({ provider, providerAccountId }) =>
      maybe(user, await door.find("GET", `/users/by-account?${query({ provider, providerAccountId })}`)),
    updateUser: async ({ id, ...changes }) => user(await door.must("PATCH", `/users/${encodeURIComponent(id)}`, changes)),
    deleteUser: async (id) => maybe(user, await door.find("DELETE", `/users/${encodeURIComponent(id)}`)),
    linkAccount: async (data) => account(await door.must("POST", "/accounts", data)),
    unlinkAccount: async ({ provider, providerAccountId }) =>
      (await door.find("DELETE", `/accounts?${query({ provider, providerAccountId })}`)) ?? undefined,
    getAccount: (providerAccountId, provider) => door.find("GET", `/accounts?${query({ provider, providerAccountId })}`),
    createSession: async (data) => session(await door.must("POST", "/sessions", data)),
    getSessionAndUser: async (sessionToken) => {
      const found = await door.find<{ session: Row; user: Row }>("POST", "/sessions/lookup", { sessionToken });
      return found && { session: session(found.session), user: user(found.user) };
    },
    updateSession: async (changes) => maybe(session, await door.find("PATCH", "/sessions", changes)),
    deleteSession: async (sessionToken) => maybe(session, await door.find("POST", "/sessions/delete", { sessionToken })),
    createVerificationToken: async (data) => token(await door.must("POST", "/verification-tokens", data)),
    // Apps may leave the address out of the link.
    useVerificationToken: async ({ identifier, token: value }) =>
      maybe(token, await door.find("POST", "/verification-tokens/use", { identifier, token: value })),
    createAuthenticator: (data) => door.must("POST", "/authenticators", data),
    getAuthenticator: (credentialID) => door.find("GET", `/authenticators/by-credential?${query({ credentialID })}`),
    listAuthenticatorsByUserId: (userId) => door.must("GET", `/authenticators?${query({ userId })}`),
    updateAuthenticatorCounter: (credentialID, counter) =>
      door.must("PATCH", "/authenticators/counter", { credentialID, counter }),
  };
}

const query = (values: Record<string, string>): string => new URLSearchParams(values).toString();

const maybe = <T>(read: (row: Row) => T, row: Row | null): T | null => row && read(row);

/** By the name of the field: a user who is called like a date stays a text. */
const revive =
  (field: string) =>
  (row: Row): Row => {
    const value: unknown = row[field];
    return typeof value === "string" ? { ...row, [field]: new Date(value) } : row;
  };
