import type { Answer, CallOptions } from "./types.js";

/** The client's own fetch, as far as the plugins use it: its whole type differs between versions and compiler settings. */
export type Fetch = (path: string, options?: any) => Promise<any>;

export interface Store {
  notify(signal: string): void;
  atoms: Record<string, unknown>;
}

export const get = <T>($fetch: Fetch, path: string, query?: object, options?: CallOptions): Promise<Answer<T>> =>
  $fetch(path, { ...options, method: "GET", query });

// Without a body the client would send GET.
export const post = <T>($fetch: Fetch, path: string, body: object = {}, options?: CallOptions): Promise<Answer<T>> =>
  $fetch(path, { ...options, method: "POST", body });
