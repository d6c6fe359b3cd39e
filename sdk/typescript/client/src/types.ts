/** What went wrong. What the server says beside code and message, such as `balance` or `required`, stays. */
export interface Refusal {
  status: number;
  statusText: string;
  code?: string;
  message?: string;
  [member: string]: unknown;
}

export type Answer<T> = { data: T; error: null } | { data: null; error: Refusal };

/** Options of the client's own fetch for one call: `headers`, `signal`, `onSuccess` … */
export interface CallOptions {
  headers?: Record<string, string>;
  signal?: AbortSignal;
  [option: string]: unknown;
}

export interface Balance {
  unit: string;
  /** Unexpired grants less what is owed. */
  balance: number;
  held: number;
  /** `balance` less `held`: what can be spent now. */
  available: number;
  owed: number;
  grants: Grant[];
}

export interface Grant {
  id: string;
  source: "promo" | "paid" | "plan" | "signup" | "adjustment";
  amount: number;
  remaining: number;
  expiresAt: Date | null;
  priority: number;
}

export type EntryKind =
  | "grant"
  | "debit"
  | "capture"
  | "refund"
  | "expiry"
  | "rollover"
  | "clawback"
  | "reinstate"
  | "adjustment"
  | "transfer";

export interface Entry {
  id: string;
  seq: number;
  kind: EntryKind;
  /** Negative for what went out. */
  amount: number;
  balanceAfter: number;
  unit: string;
  feature: string | null;
  reason: string | null;
  actor: string;
  idempotencyKey: string | null;
  sourceRef: string | null;
  parts: { grantId: string | null; amount: number }[];
  metadata: Record<string, unknown> | null;
  createdAt: Date;
}

export interface History {
  items: Entry[];
  nextCursor: string | null;
}

export interface HistoryQuery {
  unit?: string;
  kind?: EntryKind | EntryKind[];
  from?: string;
  to?: string;
  limit?: number;
  cursor?: string;
}

export interface Usage {
  items: { day?: string; feature?: string | null; key?: string | null; spent: number; count: number }[];
  total: number;
  burnPerDay: number;
  daysLeft: number | null;
}

export interface UsageQuery {
  unit?: string;
  group?: "day" | "feature" | "key";
  from?: string;
  to?: string;
}

export interface Catalog {
  packs: {
    name: string;
    credits: number;
    unit: string;
    amount: number;
    currency: string;
    custom: { min: number; max: number; creditsPer100: number } | null;
  }[];
  plans: {
    name: string;
    credits: number;
    unit: string;
    amount: number;
    currency: string;
    interval: string;
    trialDays: number | null;
    trialCredits: number | null;
    rollover: "none" | "capped" | "full";
    features: string[];
  }[];
}

export interface CheckoutRequest {
  /** The name of a pack or plan in the catalogue. */
  price: string;
  quantity?: number;
  /** In the smallest unit of the currency, for packs whose price the buyer names. */
  amount?: number;
  successUrl?: string;
  cancelUrl?: string;
  organizationId?: string;
  savePaymentMethod?: boolean;
}

/** The client goes there by itself. */
export interface Departure {
  url: string;
  redirect: true;
}

export interface CheckoutStatus {
  status: "open" | "processing" | "paid" | "failed" | "expired";
  credits: number;
  unit: string;
}

export interface Subscription {
  plan: string;
  status: string;
  currentPeriodEnd: Date | null;
  cancelAtPeriodEnd: boolean;
  trialEnd: Date | null;
}

export interface ChangePreview {
  amount: number;
  currency: string;
  credits: number;
  unit: string;
}

export interface Invoices {
  items: {
    id: string;
    number: string | null;
    status: string;
    total: number;
    amountPaid: number;
    currency: string;
    createdAt: Date;
    url: string | null;
    pdf: string | null;
  }[];
  nextCursor: string | null;
}

export interface Guest {
  guest_id: string;
  allowances: { action: string; limit: number; used: number; remaining: number; resets_at: Date | null }[];
}
