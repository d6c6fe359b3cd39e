-- Billing: what Stripe told us, what was bought, and what that was worth. Rows stay when their owner is deleted.

-- One customer at Stripe for each owner. `generation` rises when Stripe's customer was deleted, so that the next one is made
-- under another idempotency key; `email` is what the first call named, so that a second one says the same.
CREATE TABLE billing_customers (
  owner TEXT PRIMARY KEY,
  customer_id TEXT UNIQUE,
  generation BIGINT NOT NULL,
  email TEXT,
  created_at BIGINT NOT NULL
);

-- Written before Stripe is asked; its id is the idempotency key there. What was bought stands here as it was offered then.
CREATE TABLE billing_checkouts (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  kind TEXT NOT NULL,
  item TEXT NOT NULL,
  price TEXT NOT NULL,
  currency TEXT NOT NULL,
  unit TEXT NOT NULL,
  -- For each piece; for what the buyer names the price of, for 100 of the smallest unit.
  credits BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  -- What the buyer named, or a top-up is charged, in the smallest unit of the currency.
  amount BIGINT,
  session_id TEXT UNIQUE,
  payment_intent TEXT,
  status TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX billing_checkouts_by_owner ON billing_checkouts (owner, created_at);
CREATE UNIQUE INDEX billing_checkouts_by_payment ON billing_checkouts (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX billing_checkouts_open ON billing_checkouts (created_at) WHERE status IN ('open', 'processing');

-- Money that became credits, by its business key: `cs:` and a session, `in:` and an invoice's line, `pi:` and a payment.
CREATE TABLE billing_payments (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  unit TEXT NOT NULL,
  item TEXT NOT NULL,
  payment_intent TEXT,
  currency TEXT NOT NULL,
  credits BIGINT NOT NULL,
  grant_no BIGINT NOT NULL,
  captured BIGINT NOT NULL,
  refunded BIGINT NOT NULL,
  disputed BIGINT NOT NULL,
  taken_back BIGINT NOT NULL,
  -- Credits that an open dispute keeps from being spent.
  frozen BIGINT NOT NULL,
  hold_no BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX billing_payments_by_intent ON billing_payments (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX billing_payments_by_owner ON billing_payments (owner, created_at);

-- Claw-backs that can still be given back: what should have been taken, and what was there to take.
CREATE TABLE billing_takebacks (
  payment_id TEXT NOT NULL REFERENCES billing_payments (id),
  seq BIGINT NOT NULL,
  amount BIGINT NOT NULL,
  taken BIGINT NOT NULL,
  PRIMARY KEY (payment_id, seq)
);

-- The last status of a dispute that we understood, and whether its money is gone.
CREATE TABLE billing_disputes (
  id TEXT PRIMARY KEY,
  payment_intent TEXT NOT NULL,
  amount BIGINT NOT NULL,
  status TEXT NOT NULL,
  standing TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX billing_disputes_by_intent ON billing_disputes (payment_intent);

CREATE TABLE billing_subscriptions (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  plan TEXT,
  price TEXT NOT NULL,
  item_id TEXT NOT NULL,
  status TEXT NOT NULL,
  -- It gives access. Two at a time for one owner are a mistake: the later one is `extra` and shown to operators.
  live BOOLEAN NOT NULL,
  extra BOOLEAN NOT NULL,
  cancel_at_period_end BOOLEAN NOT NULL,
  period_end BIGINT,
  trial_end BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX billing_subscriptions_live ON billing_subscriptions (owner) WHERE live AND NOT extra;
CREATE INDEX billing_subscriptions_by_owner ON billing_subscriptions (owner, created_at);

-- Who wants a pack to be bought by itself when little is left. One payment at a time for each owner.
CREATE TABLE billing_topups (
  owner TEXT PRIMARY KEY,
  -- The ledger's account that is watched: that of the pack's unit.
  account_id TEXT NOT NULL,
  unit TEXT NOT NULL,
  pack TEXT NOT NULL,
  below BIGINT NOT NULL,
  -- Payments in a month of the deployment's time zone.
  monthly_max BIGINT NOT NULL,
  enabled BOOLEAN NOT NULL,
  -- Up to this entry and this hold the spending led to a payment, or must not lead to one; none: nothing need be spent.
  seen_seq BIGINT,
  seen_holds BIGINT NOT NULL,
  -- The payment under way: its row among the checkouts. Who pays by which method stands here before Stripe is asked, so that a
  -- second try under the same key says the same.
  checkout_id TEXT,
  customer_id TEXT,
  payment_method TEXT,
  leased_until BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  -- Payments that failed since the last one that did not.
  failures BIGINT NOT NULL,
  retry_at BIGINT,
  -- The month's payments are made.
  rests_until BIGINT NOT NULL,
  error TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX billing_topups_watched ON billing_topups (account_id) WHERE enabled AND checkout_id IS NULL;
CREATE INDEX billing_topups_under_way ON billing_topups (leased_until) WHERE checkout_id IS NOT NULL;

-- Verified events, once for each mode and id; worked off afterwards. What they say is not kept: it names people, and is read at
-- Stripe anew.
CREATE TABLE billing_inbox (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  -- What is looked at because of it; none for kinds that mean nothing to us.
  subject TEXT,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  due_at BIGINT NOT NULL,
  leased_until BIGINT NOT NULL,
  error TEXT,
  effect TEXT,
  created_at BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  done_at BIGINT
);
CREATE INDEX billing_inbox_due ON billing_inbox (due_at) WHERE state = 'pending';
CREATE INDEX billing_inbox_failed ON billing_inbox (received_at) WHERE state = 'failed';
CREATE INDEX billing_inbox_by_arrival ON billing_inbox (received_at, id);

-- Rises whenever what was read at Stripe about a subject is applied: what was read before that is old.
CREATE TABLE billing_turns (
  subject TEXT PRIMARY KEY,
  turn BIGINT NOT NULL,
  taken_at BIGINT NOT NULL
) /* in key order */;
CREATE INDEX billing_turns_by_age ON billing_turns (taken_at);

-- Work that one node does for all, once in a while.
CREATE TABLE billing_rounds (
  name TEXT PRIMARY KEY,
  due_at BIGINT NOT NULL
) /* in key order */;
